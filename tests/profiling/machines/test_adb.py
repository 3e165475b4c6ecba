"""What adb says, in our words. Real devices and real faults: tests/device."""

from pathlib import Path

import pytest

from cocorrrec_export.profiling.machines.adb import (
    Adb,
    AdbResult,
    Attached,
    DeviceError,
    SilentDeviceError,
    choose_serial,
    find_adb,
)

HERE, OTHER = Attached("R5CT", "device"), Attached("emulator-5554", "device")


@pytest.mark.parametrize(
    ("attached", "serial", "sentence"),
    [
        ([], None, "no phone is connected: .*--host"),
        ([], "R5CT", "no device R5CT: adb knows none"),
        ([HERE, OTHER], None, r"several devices are connected: name one with --device: R5CT \(device\), emulator-5554"),
        ([HERE], "R6", r"no device R6: adb knows R5CT \(device\)"),
        ([Attached("R5CT", "unauthorized")], None, "R5CT is unauthorized: unlock the phone and accept"),
        ([Attached("R5CT", "offline")], None, "R5CT is offline: unplug"),
        ([Attached("R5CT", "no permissions")], None, "udev"),
        ([Attached("R5CT", "recovery")], None, "R5CT is recovery: start Android"),
    ],
)
def test_devices_that_cannot_be_used(attached: list[Attached], serial: str | None, sentence: str) -> None:
    with pytest.raises(DeviceError, match=sentence):
        choose_serial(attached, serial)


def test_devices_that_can() -> None:
    assert choose_serial([HERE], None) == "R5CT"
    assert choose_serial([HERE, OTHER], "emulator-5554") == "emulator-5554"


def fake_adb(folder: Path, body: str) -> Adb:
    path = folder / "adb"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return Adb(path, "R5CT")


def test_an_answer_without_its_mark_is_none(tmp_path: Path) -> None:
    """adb ends with 0 and says nothing where the device went away."""
    adb = fake_adb(tmp_path, 'if [ "$1" = devices ]; then printf "List\\nR5CT\\tdevice\\n"; fi')
    with pytest.raises(DeviceError, match="adb ended with 0 and said nothing"):
        adb.ask("getprop")


LISTED = 'if [ "$1" = devices ]; then printf "List\\nR5CT\\tdevice\\n"; exit; fi'


def test_a_client_that_hangs_is_killed(tmp_path: Path) -> None:
    adb = fake_adb(tmp_path, f"{LISTED}; exec sleep 600")
    with pytest.raises(SilentDeviceError, match=r"R5CT did not answer within 0\.5 s: unlock it"):
        adb.shell("true", timeout_s=0.5)


def test_a_server_that_hangs(tmp_path: Path) -> None:
    adb = fake_adb(tmp_path, "exec sleep 600")
    with pytest.raises(SilentDeviceError, match="the adb server does not answer"):
        adb.shell("true", timeout_s=0.5)


def test_a_device_that_is_only_slow(tmp_path: Path) -> None:
    adb = fake_adb(tmp_path, f'{LISTED}; [ "$4" = true ] || exec sleep 600')
    with pytest.raises(DeviceError, match="R5CT: a run did not end within 2 s: give it longer") as error:
        adb.shell("work", timeout_s=2)
    assert not isinstance(error.value, SilentDeviceError)


def test_a_long_copy_to_a_silent_device_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device answers once while the copy continues, then not any more."""
    adb = fake_adb(
        tmp_path,
        f"""{LISTED}
[ "$4" = true ] && [ $(wc -l < {tmp_path}/asked) -lt 1 ] && echo >> {tmp_path}/asked && exit
exec sleep 600""",
    )
    (tmp_path / "asked").touch()
    monkeypatch.setattr("cocorrrec_export.profiling.machines.adb.COPY_SILENCE_S", 2.0)
    with pytest.raises(SilentDeviceError, match="R5CT did not answer within 2 s"):
        adb.push(tmp_path / "asked", "there", timeout_s=600)
    assert (tmp_path / "asked").read_text() == "\n"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("adb: error: failed to copy: remote write failed: No space left on device", "its storage is full"),
        ("adb: error: remote couldn't create file: Read-only file system", "read only"),
        ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", "not authorised"),
        ("sh: can't create: Permission denied", "does not permit it"),
    ],
)
def test_words_of_adb(tmp_path: Path, said: str, sentence: str) -> None:
    adb = fake_adb(tmp_path, "true")
    error = adb.failure(AdbResult(("adb",), 1, said, ""), "cannot copy x")
    assert sentence in str(error) and "\n" not in str(error)
    assert error.output == said


def test_adb_in_the_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "platform-tools"
    tools.mkdir()
    fake_adb(tools, "echo Android Debug Bridge version 1.0.41")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("ANDROID_SDK_ROOT", raising=False)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    assert find_adb() == tools / "adb"
    monkeypatch.delenv("ANDROID_HOME")
    with pytest.raises(DeviceError, match="adb was not found"):
        find_adb()
