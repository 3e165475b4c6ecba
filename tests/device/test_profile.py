"""The whole way: real adb client, real adbd, the runner of either processor, parity, report."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from cocorrrec_export.profiling.machines import adb
from cocorrrec_export.profiling.machines.device import BASE, choose_device
from cocorrrec_export.profiling.runner.package import RunnerPackage, build_package
from tests.conftest import ROOT, absent
from tests.device.adbd import AdbServer, TestDevice
from tests.device.conftest import MakeDevice
from tests.device.fake_unauthorised import unauthorised_device

pytestmark = pytest.mark.device
SAFE_S = 120
END_S = 2
"""What the end of the process may take, next to the timeout of the call that hangs."""


def start(artifact: Path, output: Path, *options: str, cwd: Path, path: str | None = None) -> "subprocess.Popen[str]":
    """``cocorr-profile`` in a process of its own."""
    environment = (
        os.environ | {"COLUMNS": "250", "PYTHONPATH": str(ROOT)} | ({"PATH": path} if path is not None else {})
    )
    command = [sys.executable, "-c", "from cocorrrec_export.cli.profile.app import main; main()", "run", str(artifact)]
    return subprocess.Popen(
        [*command, "--output", str(output), "--json", *options],
        cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: "subprocess.Popen[str]", within_s: float = SAFE_S) -> tuple[int, str, str]:
    since = time.monotonic()
    try:
        stdout, stderr = process.communicate(timeout=within_s)
    finally:
        process.kill()
        process.communicate()
    assert "Traceback" not in stderr, stderr
    if process.returncode and "FAULT_TABLE" in os.environ:  # benchmarks/profiler.py --faults
        row = {
            "test": os.environ["PYTEST_CURRENT_TEST"].split("::")[1].removesuffix(" (call)"),
            "said": stderr.splitlines()[-1],
            "code": process.returncode,
            "seconds": round(time.monotonic() - since, 1),
        }
        with Path(os.environ["FAULT_TABLE"]).open("a") as table:
            table.write(json.dumps(row) + "\n")
    return process.returncode, stdout, stderr


def runs_left(device: TestDevice) -> list[str]:
    """What a profile must not leave: files of a run, half-copied packages."""
    return [name for name in device.files() if "/runs/" in name or "/push-" in name]


def run_folders(device: TestDevice) -> set[str]:
    """The folder of each profile that has one; its files come and go."""
    return {name.partition("/runs/")[2].partition("/")[0] for name in device.files() if "/runs/" in name}


@pytest.mark.parametrize("abi", ["aarch64", "x86_64"])
def test_a_profile_on_either_processor(
    make_device: MakeDevice, packages: dict[str, RunnerPackage], tiny_scn: Path, tmp_path: Path, abi: str
) -> None:
    device = make_device(connect=False)
    device.set_properties(ro__product__cpu__abilist="arm64-v8a" if abi == "aarch64" else "x86_64,arm64-v8a")
    AdbServer(dict(os.environ)).connect(device.serial)
    options = (
        "--iterations",
        "20",
        "--threads",
        "1,2",
        "--per-operator",
        "--model",
        str(tiny_scn.parent / "tiny"),
    )
    code, stdout, stderr = finish(start(tiny_scn, tmp_path / "report", *options, cwd=tmp_path))
    assert code == 0, stderr
    profile = json.loads(stdout)
    assert profile["runner"]["id"] == packages[abi].id
    assert profile["machine"]["soc"] == "Debian adbd" and profile["machine"]["emulated"]
    assert profile["machine"]["after"] == {"governor": None, "thermal_status": 0, "battery_celsius": 25.0} or (
        profile["machine"]["after"]["battery_celsius"] == 25.0
    )
    assert profile["parity"]["verdict"] == "pass" and profile["parity"]["cases"] > 40
    for entry in profile["entry_points"]:
        assert [run["threads"] for run in entry["runs"]] == [1, 2]
        assert all(len(run["latency_ns"]) == 20 for run in entry["runs"])
        assert entry["memory"]["end"]["peak_kb"] > entry["memory"]["idle"]["peak_kb"] > 0
        assert entry["operators"]
    assert (tmp_path / "report" / "report.html").is_file()
    assert runs_left(device) == [] and device.processes() == []
    # The runner stays; the next profile does not copy it again.
    kept = [name for name in device.files() if name.endswith(packages[abi].name)]
    assert kept == [f"cocorrrec/{packages[abi].name}"]
    again = finish(start(tiny_scn, tmp_path / "again", "--entry-point", "encode", "--iterations", "1", cwd=tmp_path))
    assert again[0] == 0 and "copying the runner" in stderr and "copying the runner" not in again[2]
    cleaned = finish(start(tiny_scn, tmp_path / "none", "--clean", cwd=tmp_path))
    assert cleaned[0] == 0 and "removed" in cleaned[2]
    assert device.files() == []


@pytest.mark.usefixtures("device")
def test_a_runner_that_zig_compiled(tiny_scn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no g++; the C runtime is that of Debian's cross package."""
    if find_spec("ziglang") is None:
        absent("needs zig: pip install 'cocorrrec-export[zig]'")
    cache = tmp_path / "cache"
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        built = build_package("executorch", "aarch64", cache / "cocorrrec-export" / "runners")
    assert built.manifest["compiler"].startswith("zig ")
    assert {"LICENSE-libc6.txt", "LICENSE-libcxx.txt"} <= {file["path"] for file in built.manifest["files"]}
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    options = ("--iterations", "20", "--per-operator")
    code, stdout, stderr = finish(start(tiny_scn, tmp_path / "report", *options, cwd=tmp_path))
    assert code == 0, stderr
    profile = json.loads(stdout)
    assert profile["runner"]["id"] == built.id
    assert profile["parity"]["verdict"] == "pass" and profile["parity"]["cases"] > 40
    assert all(entry["operators"] for entry in profile["entry_points"])


def test_litert_on_the_phone(device: TestDevice, tiny_tflite: Path, tmp_path: Path) -> None:
    options = ("--iterations", "20", "--per-operator")
    code, stdout, stderr = finish(start(tiny_tflite, tmp_path / "report", *options, cwd=tmp_path))
    assert code == 0, stderr
    profile = json.loads(stdout)
    assert profile["parity"]["verdict"] == "pass" and profile["parity"]["cases"] > 40
    assert profile["runner"]["runtime"].startswith("ai-edge-litert")
    assert all({None, "XNNPACK"} >= {row["backend"] for row in x["operators"]} for x in profile["entry_points"])
    assert any(row["backend"] == "XNNPACK" for row in profile["entry_points"][1]["operators"])
    assert runs_left(device) == [] and device.processes() == []


def test_onnx_is_for_the_host(device: TestDevice, tiny_gcn: Path, tmp_path: Path) -> None:  # noqa: ARG001
    code, _, stderr = finish(start(tiny_gcn, tmp_path / "report", cwd=tmp_path))
    assert code == 1
    assert "onnx files are profiled with --host" in stderr


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SAFE_S
    while not condition():
        assert time.monotonic() < deadline, "the profile never came so far"
        time.sleep(0.02)


def run_until(
    process: "subprocess.Popen[str]", device: TestDevice, fault: Callable[[], object], within_s: float = SAFE_S
) -> tuple[int, str, str]:
    """Let a profile come to a run of many calls, and let the fault happen there."""
    try:
        wait_until(lambda: process.poll() is not None or any("--iterations 100000" in x for x in device.processes()))
        fault()
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return finish(process, within_s)


def children(process: "subprocess.Popen[str]") -> list[str]:
    """Command lines of the programs that a profile waits for."""
    lines = []
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            lines.append(Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines


LONG = ("--iterations", "100000", "--entry-point", "rank")
"""A run of minutes under emulation."""


def kill(device: TestDevice) -> None:
    device.send(signal.SIGKILL)


def hang(device: TestDevice) -> None:
    device.send(signal.SIGSTOP)


def crash(device: TestDevice) -> None:
    wait_until(lambda: device.signal_runner(signal.SIGSEGV))


def kill_runner(device: TestDevice) -> None:
    wait_until(lambda: device.signal_runner(signal.SIGKILL))


@pytest.mark.parametrize(
    ("fault", "sentence", "reachable"),
    [
        (crash, "the runner, on rank, was ended by SIGSEGV", True),
        (kill_runner, "the runner, on rank, was ended by SIGKILL", True),
        (kill, "in the middle of the profile: unplug and plug it in again", False),
        (hang, "did not answer within 8 s: unlock it, look whether it hangs", False),
    ],
)
@pytest.mark.usefixtures("packages")
def test_faults_in_the_middle_of_a_run(
    device: TestDevice,
    tiny_scn: Path,
    tmp_path: Path,
    fault: Callable[[TestDevice], None],
    sentence: str,
    reachable: bool,
) -> None:
    process = start(tiny_scn, tmp_path / "report", *LONG, "--timeout", "8", cwd=tmp_path)
    code, stdout, stderr = run_until(process, device, lambda: fault(device), within_s=8 + END_S)
    assert code == 1 and not stdout
    assert sentence in stderr.splitlines()[-1], stderr
    assert not (tmp_path / "report").exists()
    if reachable:
        assert runs_left(device) == [] and device.processes() == []


@pytest.mark.usefixtures("packages")
def test_a_run_that_is_only_slow(device: TestDevice, tiny_scn: Path, tmp_path: Path) -> None:
    code, stdout, stderr = finish(start(tiny_scn, tmp_path / "report", *LONG, "--timeout", "3", cwd=tmp_path))
    assert code == 1 and not stdout
    assert "a run did not end within 3 s: give it longer with --timeout" in stderr.splitlines()[-1]
    assert runs_left(device) == [] and device.processes() == []


@pytest.mark.usefixtures("packages")
def test_the_adb_server_dies_in_the_middle_of_a_run(
    device: TestDevice, server: AdbServer, tiny_scn: Path, tmp_path: Path
) -> None:
    """adb ends with 0 and says nothing; a new server does not know the network device any more."""
    process = start(tiny_scn, tmp_path / "report", *LONG, cwd=tmp_path)
    code, stdout, stderr = run_until(process, device, lambda: server.adb("kill-server"))
    assert code == 1 and not stdout
    assert "is gone in the middle of the profile" in stderr.splitlines()[-1], stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("packages")
def test_interrupted(device: TestDevice, tiny_scn: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(tiny_scn, tmp_path / "report", *LONG, cwd=tmp_path)
    code, stdout, stderr = run_until(process, device, lambda: process.send_signal(number))
    assert code == 1 and not stdout
    assert stderr.splitlines()[-1] == "interrupted: nothing half-written was left behind"
    assert not (tmp_path / "report").exists()
    assert runs_left(device) == [] and device.processes() == []


def test_no_device(server: AdbServer, adbd_root: Path, tiny_scn: Path, tmp_path: Path) -> None:  # noqa: ARG001
    code, _, stderr = finish(start(tiny_scn, tmp_path / "report", cwd=tmp_path))
    assert code == 1
    assert stderr.splitlines()[-1].startswith("error: no phone is connected: plug one in")
    assert "--host" in stderr


def test_no_adb(tiny_scn: Path, tmp_path: Path) -> None:
    code, _, stderr = finish(start(tiny_scn, tmp_path / "report", cwd=tmp_path, path=str(tmp_path)))
    assert code == 1
    assert "adb was not found: install it" in stderr


def test_an_old_adb(tiny_scn: Path, tmp_path: Path) -> None:
    old = tmp_path / "adb"
    old.write_text("#!/bin/sh\necho Android Debug Bridge version 1.0.32\n")
    old.chmod(0o755)
    code, _, stderr = finish(start(tiny_scn, tmp_path / "report", cwd=tmp_path, path=str(tmp_path)))
    assert code == 1
    assert "is not adb, or older than 1.0.39" in stderr


def test_several_devices(make_device: MakeDevice, tiny_scn: Path, tmp_path: Path) -> None:
    first, second = make_device(), make_device()
    code, _, stderr = finish(start(tiny_scn, tmp_path / "report", cwd=tmp_path))
    assert code == 1
    assert "several devices are connected: name one with --device" in stderr
    assert first.serial in stderr and second.serial in stderr


def test_an_unknown_device(device: TestDevice, tiny_scn: Path, tmp_path: Path) -> None:
    code, _, stderr = finish(start(tiny_scn, tmp_path / "report", "--device", "R5CT", cwd=tmp_path))
    assert code == 1
    assert f"error: no device R5CT: adb knows {device.serial} (device)" in stderr


def test_an_unauthorised_device(server: AdbServer, adbd_root: Path, tiny_scn: Path, tmp_path: Path) -> None:  # noqa: ARG001
    with unauthorised_device() as address:
        server.adb("connect", address)
        wait_until(lambda: "unauthorized" in server.adb("devices").stdout)
        code, _, stderr = finish(start(tiny_scn, tmp_path / "report", cwd=tmp_path))
    assert code == 1
    # adb tries one key after the other, and says "authorizing" meanwhile.
    assert f"error: {address} is " in stderr and "unlock the phone and accept this computer's key" in stderr


def test_an_offline_device(device: TestDevice, server: AdbServer, tiny_scn: Path, tmp_path: Path) -> None:
    device.send(signal.SIGKILL)
    wait_until(lambda: "offline" in server.adb("devices").stdout)
    code, _, stderr = finish(start(tiny_scn, tmp_path / "report", cwd=tmp_path))
    assert code == 1
    assert f"{device.serial} is offline: unplug and plug it in again" in stderr


def test_a_device_that_hangs_from_the_start(device: TestDevice, tiny_scn: Path, tmp_path: Path) -> None:
    device.send(signal.SIGSTOP)
    process = start(tiny_scn, tmp_path / "report", cwd=tmp_path)
    wait_until(lambda: any("getprop" in command for command in children(process)))
    code, _, stderr = finish(process, within_s=10 + END_S)
    assert code == 1
    assert f"{device.serial} did not answer within 10 s" in stderr


def test_a_device_that_hangs_during_a_copy(
    device: TestDevice, packages: dict[str, RunnerPackage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy may take minutes, and is not waited for where the device shows no life."""
    monkeypatch.setattr(adb, "COPY_SILENCE_S", 4.0)
    phone = choose_device(adb.find_adb(), device.serial)
    device.send(signal.SIGSTOP)
    since = time.monotonic()
    with pytest.raises(adb.SilentDeviceError, match="did not answer within 4 s"):
        phone.push(packages["aarch64"].path, f"{BASE}/there", timeout_s=300)
    assert time.monotonic() - since <= 4 + END_S, "named later than the time of silence"


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("size=8m", "its storage is full: free some"),
        ("size=64m,ro", "the folder is read only there: is /data/local/tmp writable"),
        ("none", "has no /data/local/tmp: it does not let programs of the shell user run"),
    ],
)
def test_storage(make_device: MakeDevice, tiny_scn: Path, tmp_path: Path, options: str, sentence: str) -> None:
    device = make_device(tmp_options=options)
    code, _, stderr = finish(start(tiny_scn, tmp_path / "report", cwd=tmp_path))
    assert code == 1
    assert sentence in stderr.splitlines()[-1], stderr
    assert runs_left(device) == [] and device.processes() == []


def test_a_32_bit_device(device: TestDevice, tiny_scn: Path, tmp_path: Path) -> None:
    device.set_properties(ro__product__cpu__abilist="armeabi-v7a,armeabi")
    code, _, stderr = finish(start(tiny_scn, tmp_path / "report", cwd=tmp_path))
    assert code == 1
    assert "runs armeabi-v7a, armeabi programs, and runners exist for arm64-v8a and x86_64" in stderr


@pytest.mark.usefixtures("packages")
def test_a_hot_device_is_waited_for_and_marked(device: TestDevice, tiny_scn: Path, tmp_path: Path) -> None:
    device.set_heat(celsius=41.5, status=2)
    options = ("--cool-down", "2", "--entry-point", "encode", "--iterations", "5")
    code, stdout, stderr = finish(start(tiny_scn, tmp_path / "report", *options, cwd=tmp_path))
    assert code == 0, stderr
    assert "waiting for it to cool: battery 41.5 °C, thermal status 2" in stderr
    machine = json.loads(stdout)["machine"]
    assert machine["throttled"] and machine["before"]["battery_celsius"] == 41.5
    assert "do not compare its times" in (tmp_path / "report" / "report.html").read_text()


LIBRARY = "/data/local/tmp/cocorrrec/executorch-*/libm.so.6"


@pytest.mark.parametrize(
    "damage",
    [
        f"rm {LIBRARY}",
        f'f=$(echo {LIBRARY}); head -c "$(wc -c < $f)" /dev/zero > $f.zeros && mv $f.zeros $f',  # of the same size
    ],
    ids=["lost", "zeros"],
)
@pytest.mark.usefixtures("packages")
def test_a_package_that_lost_a_file_is_copied_again(
    device: TestDevice, server: AdbServer, tiny_scn: Path, tmp_path: Path, damage: str
) -> None:
    options = ("--entry-point", "encode", "--iterations", "1")
    assert finish(start(tiny_scn, tmp_path / "first", *options, cwd=tmp_path))[0] == 0
    server.adb("-s", device.serial, "shell", damage)
    code, _, stderr = finish(start(tiny_scn, tmp_path / "second", *options, cwd=tmp_path))
    assert code == 0 and "copying the runner" in stderr


@pytest.mark.usefixtures("packages")
def test_one_profile_at_a_time(device: TestDevice, tiny_scn: Path, tmp_path: Path) -> None:
    """The second is refused with the first one's name, and does it no harm; a dead one is taken over from."""
    short = ("--entry-point", "encode", "--iterations", "1")
    first = start(tiny_scn, tmp_path / "first", *LONG, cwd=tmp_path)
    try:
        wait_until(lambda: first.poll() is not None or any("--iterations 100000" in x for x in device.processes()))
        runs = run_folders(device)
        assert runs, "the first profile has no folder of its run"
        code, stdout, stderr = finish(start(tiny_scn, tmp_path / "second", *short, cwd=tmp_path))
        assert code == 1 and not stdout
        assert f"is being profiled by process {first.pid} on " in stderr.splitlines()[-1], stderr
        assert first.poll() is None and run_folders(device) == runs
    finally:
        first.kill()
        first.communicate()
    code, _, stderr = finish(start(tiny_scn, tmp_path / "third", *short, cwd=tmp_path))
    assert code == 0, stderr
    assert (tmp_path / "third" / "profile.json").is_file()
    assert not [name for name in device.files() if "/lock" in name]


@pytest.mark.usefixtures("packages")
def test_doctor(device: TestDevice, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from cocorrrec_export.cli.profile.app import main; main()",
        "doctor-device",
        "--json",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] and result["platform"] == "Test Device, Android 14 (API 34)"
    names = [check["name"] for check in result["checks"]]
    assert names[:5] == ["ABI", "folder", "page size", "memory of a process", "thermal service"]
    assert "executorch runner" in names
    assert device.processes() == []
