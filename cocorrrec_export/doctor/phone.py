"""Check on a connected device each thing that a profile rests on and that no test on a computer can show."""

import functools
import re
import uuid
from collections.abc import Callable
from typing import Any

from cocorrrec_export.doctor.check import Check
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.machines.adb import Adb, find_adb
from cocorrrec_export.profiling.machines.device import (
    HOME,
    choose_device,
    device_abi,
    device_facts,
    device_state,
    push_package,
    require_base,
)
from cocorrrec_export.profiling.machines.device_lock import own_device
from cocorrrec_export.profiling.runner.package import ensure_package, installed
from cocorrrec_export.targets import with_runner

_PAGE_SIZES = (4096, 16384)


def check_device(serial: str | None, progress: Callable[[str], None]) -> tuple[str, list[Check]]:
    """Run every check: the phone's name and system, and what was found.

    Raises:
        DeviceError: no device can be reached at all.
    """
    progress("looking for the device")
    adb = choose_device(find_adb(), serial)
    facts = device_facts(adb)
    runners = [
        (
            f"{target} runner",
            functools.partial(_runner, adb, target, progress),
            "SELinux ('adb logcat -d | grep avc' shows it), a seccomp filter (rseq), the loader: docs/profiling.md",
        )
        for target in installed() or with_runner()
    ]
    asked: list[tuple[str, Callable[[], tuple[bool, str]], str]] = [
        ("ABI", lambda: (True, f"{device_abi(adb)} of {facts['abi']}"), "a 64-bit phone is needed"),
        ("folder", lambda: _folder(adb), "programs must be allowed in /data/local/tmp; a work profile may forbid it"),
        ("page size", lambda: _page_size(facts), "4 and 16 KiB pages are known to work; report another in an issue"),
        ("memory of a process", lambda: _status(adb), "VmHWM must be readable in /proc/self/status"),
        ("thermal service", lambda: _thermal(adb), "a profile cannot show whether the phone throttles; let it cool"),
        *runners,
    ]
    checks = []
    for name, ask, hint in asked:
        progress(name)
        checks.append(_check(name, ask, hint))
    return f"{facts['name']}, {facts['os']}", checks


def _check(name: str, ask: Callable[[], tuple[bool, str]], hint: str) -> Check:
    try:
        ok, detail = ask()
    except CocorrrecError as error:
        ok, detail = False, str(error)
    return Check(name, ok, detail, "" if ok else hint)


def _folder(adb: Adb) -> tuple[bool, str]:
    require_base(adb)
    path = f"{HOME}/doctor-{uuid.uuid4().hex[:8]}"
    said = adb.ask(f"mkdir -p {HOME} && echo 'echo runs' > {path} && chmod 755 {path} && sh {path}; rm -f {path}")
    return said == "runs", f"{HOME}: {said or 'nothing could be written'}"


def _page_size(facts: dict[str, Any]) -> tuple[bool, str]:
    size = facts["page_size"]
    return size in _PAGE_SIZES, f"{size} bytes" if size else "the device does not say"


def _status(adb: Adb) -> tuple[bool, str]:
    found = re.search(r"VmHWM:\s+(\d+ kB)", adb.ask("cat /proc/self/status"))
    return found is not None, f"VmHWM {found[1]}" if found else "no VmHWM"


def _thermal(adb: Adb) -> tuple[bool, str]:
    state = device_state(adb)
    known = state["thermal_status"] is not None and state["battery_celsius"] is not None
    return known, f"status {state['thermal_status']}, battery {state['battery_celsius']} °C"


def _runner(adb: Adb, target: str, progress: Callable[[str], None]) -> tuple[bool, str]:
    """Start the runner without a model: its own complaint shows that loader, libraries and system calls work."""
    package = ensure_package(target, device_abi(adb), progress)
    with own_device(adb, HOME):
        place = push_package(adb, package, progress)
        result = adb.shell(" ".join(package.command(place)), timeout_s=60)
    started = '"ok": false' in result.stdout and "--model" in result.stdout
    words = (result.output.splitlines() or ["nothing"])[-1].strip()
    return started, f"{package.name} starts" if started else f"exit code {result.code}: {words}"
