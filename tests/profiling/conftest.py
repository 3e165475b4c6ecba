"""The runner for this machine, built once."""

import shutil

import pytest

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.runner.package import RunnerPackage, build_package, host_abi
from tests.conftest import absent


def _build(target: str, tmp_path_factory: pytest.TempPathFactory) -> RunnerPackage:
    try:
        abi = host_abi()
    except CocorrrecError as error:
        absent(str(error))
        raise
    if shutil.which("g++") is None:
        absent("the runner needs a compiler: sudo sh scripts/install_test_device.sh")
    return build_package(target, abi, tmp_path_factory.mktemp("runners"))


@pytest.fixture(scope="session")
def executorch_package(tmp_path_factory: pytest.TempPathFactory) -> RunnerPackage:
    """The ExecuTorch runner."""
    return _build("executorch", tmp_path_factory)


@pytest.fixture(scope="session")
def tflite_package(tmp_path_factory: pytest.TempPathFactory) -> RunnerPackage:
    """The LiteRT runner."""
    return _build("tflite", tmp_path_factory)
