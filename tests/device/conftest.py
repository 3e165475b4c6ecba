"""Test devices, shared by the tests of one run."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cocorrrec_export.profiling.bundle import Bundle, ensure_bundle
from tests.conftest import absent
from tests.device import adbd
from tests.device.adbd import AdbServer, TestDevice

MakeDevice = Callable[..., TestDevice]


@pytest.fixture(scope="session")
def adbd_root() -> Path:
    """Debian's adbd, unpacked; a laptop without root or packages skips, CI fails."""
    reason = adbd.missing()
    if reason is not None:
        absent(reason)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "cocorrrec-export" / "test-device"
    folder.mkdir(parents=True, exist_ok=True)
    return adbd.fetch_adbd(folder)


@pytest.fixture(scope="session")
def bundles(adbd_root: Path) -> dict[str, Bundle]:  # noqa: ARG001  # skips where there is no test device
    """The ExecuTorch runner for both processors."""
    return {abi: ensure_bundle("executorch", abi, lambda _: None) for abi in ("aarch64", "x86_64")}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbServer]:
    """An adb server of this test's own; the code under test finds it by the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with adbd.adb_server(tmp_path / "home", port) as started:
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
