#!/usr/bin/env bash
# The load generator of benchmarks/serving.py and benchmarks/serving_stacks/run.py, from Debian's or Ubuntu's packages.
set -euo pipefail
command -v wrk >/dev/null && exit 0
run() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
run apt-get update --quiet
run apt-get install --yes --quiet wrk
