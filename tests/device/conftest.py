"""Test devices, shared by the tests of one run."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cocorrrec_export.artifact.recipe import Kind, choose_recipe
from cocorrrec_export.export import pipeline
from cocorrrec_export.profiling.runner.package import RunnerPackage, ensure_package
from tests.conftest import absent
from tests.device import adbd
from tests.device.adbd import AdbServer, TestDevice
from tests.device.start import cache_folder
from tests.models import model_folder

MakeDevice = Callable[..., TestDevice]


@pytest.fixture(scope="session")
def adbd_root() -> Path:
    """Debian's adbd, unpacked; a laptop without root or packages skips, CI fails."""
    reason = adbd.missing()
    if reason is not None:
        absent(reason)
    return adbd.fetch_adbd(cache_folder())


@pytest.fixture(scope="session")
def packages(adbd_root: Path) -> dict[str, RunnerPackage]:  # noqa: ARG001  # skips where there is no test device
    """The ExecuTorch runner for both processors."""
    return {abi: ensure_package("executorch", abi, lambda _: None) for abi in ("aarch64", "x86_64")}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbServer]:
    """An adb server of this test's own; the code under test finds it by the environment."""
    with adbd.adb_server(tmp_path / "home") as started:
        for name, value in started.environment.items():
            if name != "HOME":
                monkeypatch.setenv(name, value)
        yield started


@pytest.fixture
def make_device(adbd_root: Path, tmp_path: Path, server: AdbServer) -> Iterator[MakeDevice]:
    """Start devices, and end them after the test."""
    made: list[TestDevice] = []

    def make(*, connect: bool = True, **options: str) -> TestDevice:
        work = tmp_path / f"device{len(made)}"
        work.mkdir()
        device = TestDevice(work, adbd_root, subnet=20 + os.getpid() % 100 + len(made), **options)
        made.append(device)
        device.start()
        if connect:
            server.connect(device.serial)
        return device

    yield make
    for device in made:
        device.stop()


@pytest.fixture
def device(make_device: MakeDevice) -> TestDevice:
    """One connected device."""
    return make_device()


def _tiny(out: Path, kind: Kind, target: str, precision: str) -> Path:
    """Export little of a small random model, so that emulation is quick; the model lies next to it as ``tiny``."""
    recipe = choose_recipe(kind, target, precision=precision)
    if kind == "scn":
        recipe = dataclasses.replace(recipe, entry_points=("encode", "rank"), candidates=20)
    return pipeline.export(pipeline.open_source(str(model_folder(out / "tiny").path), None), recipe, out).path


@pytest.fixture(scope="session")
def tiny_scn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``encode`` and ``rank`` for ExecuTorch."""
    return _tiny(tmp_path_factory.mktemp("dist"), "scn", "executorch", "int8")


@pytest.fixture(scope="session")
def tiny_tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for LiteRT."""
    return _tiny(tmp_path_factory.mktemp("dist"), "scn", "tflite", "int8")


@pytest.fixture(scope="session")
def tiny_gcn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cloud model."""
    return _tiny(tmp_path_factory.mktemp("dist"), "gcn", "onnx", "fp32")
