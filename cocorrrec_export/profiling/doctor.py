"""Check on a connected device each thing that a profile rests on and that no test on a computer can show."""

import re
import uuid
from collections.abc import Callable
from typing import Any

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.adb import Adb, find_adb
from cocorrrec_export.profiling.bundle import RUNTIMES, ensure_bundle, installed
from cocorrrec_export.profiling.device import (
    HOME,
    choose_device,
    device_abi,
    device_facts,
    device_state,
    push_bundle,
    require_base,
)

_PAGE_SIZES = (4096, 16384)


def check_device(serial: str | None, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run every check; each is ``{name, ok, detail, hint}``.

    Raises:
        DeviceError: no device can be reached at all.
    """
    progress("looking for the device")
    adb = choose_device(find_adb(), serial)
    facts = device_facts(adb)
    checks: list[dict[str, Any]] = []

    def check(name: str, ask: Callable[[], tuple[bool, str]], hint: str) -> bool:
        progress(name)
        try:
            ok, detail = ask()
        except CocorrrecError as error:
            ok, detail = False, str(error)
        checks.append({"name": name, "ok": ok, "detail": detail, "hint": None if ok else hint})
        return ok

    check("ABI", lambda: (True, f"{device_abi(adb)} of {facts['abi']}"), "a 64-bit phone is needed")
    check("folder", lambda: _folder(adb), "programs must be allowed in /data/local/tmp; a work profile may forbid it")
    check("page size", lambda: _page_size(facts), "4 and 16 KiB pages are known to work; tell us of another")
    check("memory of a process", lambda: _status(adb), "VmHWM must be readable in /proc/self/status")
    check("thermal service", lambda: _thermal(adb), "the profile cannot tell whether the phone throttles; let it cool")
    for target in installed() or RUNTIMES:
        check(
            f"{target} runner",
            lambda target=target: _runner(adb, target, progress),  # type: ignore[misc]
            "SELinux ('adb logcat -d | grep avc' shows it), a seccomp filter (rseq), the loader: docs/profiling.md",
        )
    return {"ok": all(x["ok"] for x in checks), "platform": f"{facts['name']}, {facts['os']}", "checks": checks}


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
    bundle = ensure_bundle(target, device_abi(adb), progress)
    place = push_bundle(adb, bundle, progress)
    result = adb.shell(" ".join(bundle.command(place)), timeout_s=60)
    started = '"ok": false' in result.stdout and "--model" in result.stdout
    words = (result.output.splitlines() or ["nothing"])[-1].strip()
    return started, f"{bundle.name} starts" if started else f"exit code {result.code}: {words}"
