"""An Android phone as a machine to measure on.

Everything of ours lies in one folder under /data/local/tmp: runner packages, which stay, and a folder for each profile,
which is removed at its end.
"""

import contextlib
import re
import shlex
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cocorrrec_export.files import sha256_file
from cocorrrec_export.profiling.machines.adb import (
    SHORT_S,
    Adb,
    DeviceError,
    SilentDeviceError,
    attached_devices,
    choose_serial,
    find_adb,
    one_line,
)
from cocorrrec_export.profiling.machines.device_lock import own_device
from cocorrrec_export.profiling.machines.runs import (
    MAX_TRACE_BYTES,
    Call,
    Measured,
    RunError,
    check_memory,
    check_size,
    is_hot,
    read_report,
)
from cocorrrec_export.profiling.runner.package import ABIS, DESCRIPTION, RunnerPackage, ensure_package, package_bytes

BASE = "/data/local/tmp"
HOME = f"{BASE}/cocorrrec"
_PUSH_S = 300.0
_POLL_S = 5.0
_SETTLE_TRIES = 5
_PID = "pid"
_OF_32_BITS = ("armeabi", "armeabi-v7a", "x86", "mips")


def choose_device(adb: Path, serial: str | None) -> Adb:
    """The device of a serial, or the one that is connected.

    Raises:
        DeviceError: none, several, or one that cannot be used.
    """
    attached = attached_devices(adb)
    for _ in range(_SETTLE_TRIES):
        if not any(device.state in ("authorizing", "connecting") for device in attached):
            break
        time.sleep(1)
        attached = attached_devices(adb)
    return Adb(adb, choose_serial(attached, serial))


def clean_device(serial: str | None) -> str:
    """Remove everything of ours; says what was done.

    Raises:
        DeviceError: the device does not let us.
    """
    adb = choose_device(find_adb(), serial)
    with own_device(adb, HOME):
        adb.ask(f"rm -rf {HOME}", timeout_s=60)
    return f"{adb.serial}: removed {HOME}"


@contextlib.contextmanager
def open_device(
    adb: Adb, target: str, *, timeout_s: float, cool_down_s: float, progress: Callable[[str], None]
) -> Iterator[tuple["Device", RunnerPackage]]:
    """Put the runner on a device, wait while it is hot, and take the folder of this profile away at the end.

    Raises:
        DeviceError: the device cannot be used.
        CocorrrecError: there is no runner for it.
    """
    abi = device_abi(adb)
    package = ensure_package(target, abi, progress)
    require_base(adb)
    with own_device(adb, HOME) as lock:
        # What a profile that lost its device kept there: nobody else has the device now.
        adb.ask(f"rm -rf {HOME}/runs {HOME}/push-*", timeout_s=60)
        place = push_package(adb, package, progress)
        folder = f"{HOME}/runs/{uuid.uuid4().hex[:12]}"
        device = Device(adb, package.command(place), folder, timeout_s, alive=lock.beat_script())
        silent = False
        try:
            adb.ask(f"mkdir -p {folder}")
            device.cool_down(cool_down_s, progress)
            yield device, package
        except SilentDeviceError:
            silent = True
            raise
        finally:
            if not silent:
                device.close()


def device_abi(adb: Adb) -> str:
    """The first ABI of a device that a runner exists for.

    Raises:
        DeviceError: it has none of them.
    """
    names = adb.ask("getprop ro.product.cpu.abilist").split(",")
    for name in names:
        for abi in ABIS.values():
            if name.strip() == abi.android:
                return abi.name
    known = " and ".join(abi.android for abi in ABIS.values())
    said = one_line(", ".join(name.strip() for name in names if name.strip())) or "unknown"
    short = all(name.strip() in _OF_32_BITS for name in names)
    raise DeviceError(
        f"{adb.serial} runs {said} programs, and runners exist for {known}"
        + (": a 32-bit phone cannot be profiled" if short else "")
    )


def require_base(adb: Adb) -> None:
    """Check that the folder for programs is there, before a push would make a file of its name.

    Raises:
        DeviceError: it is not.
    """
    if adb.ask(f"[ -d {BASE} ] && echo yes || echo no") != "yes":
        raise DeviceError(f"{adb.serial} has no {BASE}: it does not let programs of the shell user run")


def push_package(adb: Adb, package: RunnerPackage, progress: Callable[[str], None]) -> str:
    """Copy a package, unless it is there and whole; its folder on the device, which the caller owns.

    Raises:
        DeviceError: it did not arrive.
    """
    place = f"{HOME}/{package.name}"
    adb.ask(f"mkdir -p {HOME}")
    if _is_whole(adb, package, place):
        return place
    progress(f"copying the runner, {package_bytes(package.path) / 1e6:.0f} MB (once)")
    staging = f"{HOME}/push-{uuid.uuid4().hex[:12]}"
    try:
        adb.push(package.path, staging, timeout_s=_PUSH_S)
        adb.ask(f"chmod -R 755 {staging} && rm -rf {place} && mv {staging} {place}", timeout_s=60)
    except SilentDeviceError:
        raise  # it would not receive the removal either
    except BaseException:
        with contextlib.suppress(DeviceError):
            adb.shell(f"rm -rf {staging}")
        raise
    return place


def _is_whole(adb: Adb, package: RunnerPackage, place: str) -> bool:
    """Whether every file is there, by its digest: a size says nothing of a file that was never written out."""
    said = adb.ask(f"cd {place} 2>/dev/null && sha256sum * || true", timeout_s=60)
    digests = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64}) [ *](.+?)\r?$", said, re.MULTILINE)}
    wanted = {file["path"]: file["sha256"] for file in package.manifest["files"]}
    wanted[DESCRIPTION] = sha256_file(package.path / DESCRIPTION)
    return all(digests.get(name) == digest for name, digest in wanted.items())


class Device:
    """Runs programs on a device, each call in a fresh process.

    Args:
        adb: the device.
        command: how the runner is started there.
        folder: of this profile, on the device.
        timeout_s: of one run.
        alive: a line of shell that shows on the device that this profile continues.
    """

    def __init__(self, adb: Adb, command: list[str], folder: str, timeout_s: float, *, alive: str = "true") -> None:
        self._adb = adb
        self._command = command
        self._folder = folder
        self._timeout_s = timeout_s
        self._alive = alive
        self._pushed: dict[Path, str] = {}

    def facts(self) -> dict[str, Any]:
        """What the device is."""
        return device_facts(self._adb)

    def state(self) -> dict[str, Any]:
        """Governor, thermal status and battery temperature, None where the device does not say."""
        return device_state(self._adb)

    def cool_down(self, seconds: float, progress: Callable[[str], None]) -> None:
        """Wait while the device is hot or throttles, at most so long; a profile of a hot one is marked as such."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.state()
            left = deadline - time.monotonic()
            if not is_hot(state) or left <= 0:
                return
            celsius, status = state["battery_celsius"], state["thermal_status"]
            progress(
                f"waiting for it to cool: battery {celsius} °C, thermal status {status}, at most {left:.0f} s more"
            )
            time.sleep(min(_POLL_S, left))

    def run(self, program: Path, call: Call) -> Measured:
        """See :class:`cocorrrec_export.profiling.machines.runs.Machine`."""
        remote = self._place(program)
        inputs, outputs, trace = (f"{self._folder}/{name}" for name in ("inputs.bin", "outputs.bin", "trace.bin"))
        with tempfile.TemporaryDirectory(prefix="cocorr-profile-") as folder:
            local = Path(folder) / "tensor"
            local.write_bytes(call.inputs)
            self._adb.push(local, inputs, timeout_s=_PUSH_S)
            options = call.options(model=remote, inputs=inputs, outputs=outputs, trace=trace)
            # The process id is that of the runner: exec keeps it. It is what close() ends.
            script = (
                f"{self._alive}; cd {self._folder} && rm -f outputs.bin trace.bin && echo $$ > {_PID} && "
                f"exec {shlex.join([*self._command, *options])}"
            )
            result = self._adb.shell(script, timeout_s=self._timeout_s)
            try:
                report = read_report(result.stdout, result.stderr, result.code, call)
            except RunError as error:
                gone = self._adb.lost()
                raise DeviceError(gone, result.output) if gone else error from None
            check_memory(report, call)
            check_size(self._size(outputs), call.output_bytes, call.contract.name)
            self._adb.pull(outputs, local, timeout_s=_PUSH_S)
            answer = local.read_bytes()
            recorded = None
            if call.trace:
                if self._size(trace) > MAX_TRACE_BYTES:
                    raise RunError(f"{call.contract.name}: its trace has more than {MAX_TRACE_BYTES >> 20} MiB")
                self._adb.pull(trace, local, timeout_s=_PUSH_S)
                recorded = local.read_bytes()
        return Measured(report, answer, recorded)

    def _size(self, path: str) -> int:
        """Of a file on the device, before it is copied; -1 where it does not say."""
        said = self._adb.ask(f"wc -c < {path}")
        return int(said) if said.isdecimal() and len(said) < 16 else -1

    def close(self) -> None:
        """End the runner, if one still runs, and remove the folder of this profile. Says nothing if it cannot."""
        script = f"cd {self._folder} && kill -9 $(cat {_PID}) 2>/dev/null; cd /; rm -rf {self._folder}"
        with contextlib.suppress(DeviceError):
            self._adb.shell(script, timeout_s=SHORT_S)

    def _place(self, program: Path) -> str:
        """Where a program lies on the device; it is copied the first time."""
        if program not in self._pushed:
            remote = f"{self._folder}/{len(self._pushed)}-{program.name}"
            self._adb.push(program, remote, timeout_s=_PUSH_S)
            self._pushed[program] = remote
        return self._pushed[program]


_PROPERTIES = (
    "ro.product.manufacturer", "ro.product.model", "ro.soc.manufacturer", "ro.soc.model", "ro.board.platform",
    "ro.build.version.release", "ro.build.version.sdk", "ro.build.fingerprint", "ro.product.cpu.abilist",
    "ro.kernel.qemu", "ro.boot.qemu",
)  # fmt: skip


def device_facts(adb: Adb) -> dict[str, Any]:
    """What a device is.

    Raises:
        DeviceError: it does not answer.
    """
    asked = "; ".join(f"echo {key}=$(getprop {key})" for key in _PROPERTIES)
    answers = (line.split("=", 1) for line in adb.ask(asked).splitlines() if "=" in line)
    found = {key: one_line(value) for key, value in answers if key in _PROPERTIES}
    memory = re.search(r"MemTotal:\s+(\d{1,15})\b", adb.ask("cat /proc/meminfo || true"))
    soc = " ".join(filter(None, (found.get("ro.soc.manufacturer"), found.get("ro.soc.model"))))
    name = " ".join(filter(None, (found.get("ro.product.manufacturer"), found.get("ro.product.model"))))
    return {
        "kind": "device",
        "serial": adb.serial,
        "name": name or adb.serial,
        "soc": soc or found.get("ro.board.platform") or "unknown",
        "os": f"Android {found.get('ro.build.version.release', '?')} (API {found.get('ro.build.version.sdk', '?')})",
        "abi": found.get("ro.product.cpu.abilist", ""),
        "kernel": one_line(adb.ask("uname -r")),
        "page_size": _number(adb.ask("getconf PAGE_SIZE 2>/dev/null || true")),
        "cpus": _number(adb.ask("grep -c ^processor /proc/cpuinfo || true")),
        "memory_kb": int(memory[1]) if memory else None,
        "build": found.get("ro.build.fingerprint", ""),
        "emulated": "1" in (found.get("ro.kernel.qemu"), found.get("ro.boot.qemu")),
    }


def device_state(adb: Adb) -> dict[str, Any]:
    """What changes on a device; None for what it does not say.

    Raises:
        DeviceError: it does not answer.
    """
    governor = adb.ask("cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor 2>/dev/null | sort -u || true")
    thermal = re.search(r"Thermal Status:\s*(\d{1,3})\b", adb.ask("dumpsys thermalservice 2>/dev/null || true"))
    battery = re.search(r"temperature:\s*(-?\d{1,5})\b", adb.ask("dumpsys battery 2>/dev/null || true"))
    return {
        "governor": one_line(", ".join(governor.split())) or None,
        "thermal_status": int(thermal[1]) if thermal else None,
        "battery_celsius": int(battery[1]) / 10 if battery else None,
    }


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 16 else None
