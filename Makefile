# Everything runs in .venv, which `make setup` makes from a bare Python 3.11.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
OLDER := .venv-tflite-runtime
DEX_READER := .venv-androguard
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test test-android android test-ios test-slow test-hostile test-tflite-runtime test-device start-test-device check format wheel runner-wheel clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: $(STAMP) ## Make .venv with every backend and the development tools

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup ## The main job: export the shipped model, check parity, rank a real user's candidates, ask a server
	$(BIN)/cocorr-export scn --target executorch --precision int8
	$(BIN)/cocorr-export gcn --target onnx
	$(BIN)/python examples/rank.py
	$(BIN)/python examples/ask_the_cloud.py

docs: setup ## The docs site in build/site; fails where a link leads nowhere or something is not documented
	$(BIN)/python scripts/docs_site.py

test: setup ## Unit tests, linters and types: what CI runs first
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

test-slow: setup ## End-to-end tests of minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

test-hostile: setup ## Of these, hundreds of damaged files of each format, and thousands of odd requests
	$(BIN)/python -m pytest -n 2 --dist load -m slow tests/hostile tests/serving/test_faults.py

test-tflite-runtime: setup $(OLDER)/.installed ## The same .tflite files in tflite-runtime 2.14, in an environment of its own
	$(BIN)/python -m pytest -m tflite_runtime

$(OLDER)/.installed:
	$(PYTHON) -m venv $(OLDER)
	$(OLDER)/bin/python -m pip install --quiet --disable-pip-version-check 'tflite-runtime==2.14.0' 'numpy<2'
	touch $@

test-android: setup ## The Android demo on a JVM: every vector, scenarios, a real server, the activity; needs scripts/install_android_tools.sh
	android_demo/demo.sh test

android: setup $(DEX_READER)/.installed ## The Android demo's APKs in android_demo/target/apk, checked; needs what test-android needs
	android_demo/demo.sh apk

$(DEX_READER)/.installed:
	$(PYTHON) -m venv $(DEX_READER)
	$(DEX_READER)/bin/python -m pip install --quiet --disable-pip-version-check 'androguard==4.1.4'
	touch $@

test-ios: setup ## The iOS demo's package on Linux: vectors, scenarios, a real server; needs scripts/install_swift.sh
	ios_demo/test.sh

check: test docs test-device test-tflite-runtime test-ios test-android android test-slow ## What CI runs, and the slow tests

format: setup ## Format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: setup ## Build the wheel
	$(BIN)/python -m build --wheel

runner-wheel: setup ## Build the wheel of runners for phones, in dist-runner/
	$(BIN)/python scripts/runner_wheel.py

test-device: $(VENV)/.zig ## The profiler against a real adbd; needs root and scripts/install_test_device.sh
	$(BIN)/python -m pytest -m device

$(VENV)/.zig: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt ziglang
	touch $@

start-test-device: setup ## Leave a test device running, for cocorr-profile to find; needs what test-device needs
	$(BIN)/python -m tests.device.start

clean: ## Remove what was built and installed
	rm -rf $(VENV) $(OLDER) $(DEX_READER) dist dist-runner build .mypy_cache .pytest_cache .ruff_cache .coverage \
	  mobile_host/build ios_demo/.build android_demo/target android_demo/*/target android_demo/build-support/*/target android_demo/host/build
