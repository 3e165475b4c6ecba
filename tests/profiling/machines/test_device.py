"""What is kept on a device: one owner, and a runner that is what it should be."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cocorrrec_export.profiling.machines import device, device_lock
from cocorrrec_export.profiling.machines.adb import DeviceError
from cocorrrec_export.profiling.machines.device import push_package
from cocorrrec_export.profiling.machines.device_lock import own_device
from cocorrrec_export.profiling.runner.package import DESCRIPTION
from tests.profiling.machines.pretended import pretended_device, small_package


@pytest.mark.parametrize("name", ["runner", "loader", DESCRIPTION])
@pytest.mark.parametrize("damage", [lambda data: bytes(len(data)), lambda data: data[:-1], lambda _: None])
def test_a_runner_that_is_not_the_package_is_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: object
) -> None:
    adb, package, copied = pretended_device(tmp_path, monkeypatch), small_package(tmp_path), []
    place = Path(push_package(adb, package, copied.append))
    assert push_package(adb, package, copied.append) == str(place) and len(copied) == 1
    changed = damage((place / name).read_bytes())  # type: ignore[operator]
    (place / name).unlink()
    if changed is not None:
        (place / name).write_bytes(changed)
    push_package(adb, package, copied.append)
    assert len(copied) == 2
    assert (place / name).read_bytes() == (package.path / name).read_bytes()
    assert [path.name for path in place.parent.iterdir()] == [package.name]


def owner_file() -> Path:
    return Path(device.HOME) / "lock" / "owner"


def test_a_device_has_one_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adb = pretended_device(tmp_path, monkeypatch)
    with own_device(adb, device.HOME):
        with (
            pytest.raises(DeviceError, match=rf"being profiled by process {os.getpid()} on {platform.node()}"),
            own_device(adb, device.HOME),
        ):
            pytest.fail("two owners")
        assert owner_file().is_file(), "whoever was refused removed nothing"
    assert not owner_file().parent.exists()


def dead_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


@pytest.mark.parametrize(
    ("owner", "silent_s", "taken"),
    [
        ("{here} {dead} " + "a" * 32, 0, True),
        ("{here} {alive} " + "a" * 32, 0, False),
        ("elsewhere 7 " + "a" * 32, 60, False),
        ("elsewhere 7 " + "a" * 32, device_lock.SILENT_S + 60, True),
        ("", 0, True),
        ("$(touch injected)", 0, True),
    ],
)
def test_a_dead_owner_is_replaced_and_a_living_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, silent_s: int, taken: bool
) -> None:
    adb = pretended_device(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    owner_file().parent.mkdir(parents=True)
    owner_file().write_text(owner.format(here=platform.node(), dead=dead_process(), alive=os.getppid()))
    (owner_file().parent / "beat").write_text(str(int(time.time()) - silent_s))
    if taken:
        with own_device(adb, device.HOME):
            assert str(os.getpid()) in owner_file().read_text()
        assert not owner_file().parent.exists()
    else:
        with pytest.raises(DeviceError, match="is being profiled by process"), own_device(adb, device.HOME):
            pytest.fail("two owners")
        assert owner_file().is_file()
    assert not (tmp_path / "injected").exists()


def test_the_lock_of_a_new_owner_is_not_removed_by_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adb = pretended_device(tmp_path, monkeypatch)
    with own_device(adb, device.HOME):
        owner_file().write_text("elsewhere 7 " + "b" * 32)
    assert owner_file().is_file()
