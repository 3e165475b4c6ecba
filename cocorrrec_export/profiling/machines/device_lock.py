"""One profile at a time on a device, whichever computer it is connected to."""

import contextlib
import os
import platform
import re
import shlex
import uuid
from collections.abc import Iterator

from cocorrrec_export.profiling.machines.adb import Adb, DeviceError, SilentDeviceError

SILENT_S = 2 * 3600
"""The owner on another computer shows by the device's clock that it lives; after so long it is taken for dead."""
_CONTENT = re.compile(r"(?P<host>[\w.-]{1,100}) (?P<process>\d{1,9}) (?P<key>[0-9a-f]{32})")


class DeviceLock:
    """A folder on the device: whoever makes it has the device. Use :func:`own_device`."""

    def __init__(self, adb: Adb, home: str) -> None:
        self._adb = adb
        self._folder = f"{home}/lock"
        self._me = f"{_this_host()} {os.getpid()} {uuid.uuid4().hex}"

    def beat_script(self) -> str:
        """A line of shell that shows that the owner lives; to go before any other."""
        return f"date +%s > {self._folder}/beat"

    def take(self) -> None:
        """Have the device, or take it over from a dead owner.

        Raises:
            DeviceError: another process has it; says which.
        """
        for _ in range(3):
            owner, silent_s = self._make_or_read()
            if owner == self._me:
                return
            if not _is_dead(owner, silent_s):
                host, process = [*owner.split(), "?", "?"][:2]
                raise DeviceError(
                    f"{self._adb.serial} is being profiled by process {process} on {host}: wait until it is done"
                )
            aside = f"{self._folder}-{uuid.uuid4().hex[:8]}"
            # Only if it still is the dead one's: another process may be taking over too.
            mine = f'[ "$(cat {self._folder}/owner 2>/dev/null)" = {shlex.quote(owner)} ]'
            self._adb.ask(f"{{ {mine} && mv {self._folder} {aside}; }} 2>/dev/null; rm -rf {aside}; true")
        raise DeviceError(f"{self._adb.serial}: its lock {self._folder} changes owners all the time")

    def release(self) -> None:
        """Let go, if the device is still ours."""
        mine = f'[ "$(cat {self._folder}/owner 2>/dev/null)" = {shlex.quote(self._me)} ]'
        self._adb.shell(f"{mine} && rm -rf {self._folder}")

    def _make_or_read(self) -> tuple[str, float]:
        """The owner, and for how many seconds nothing was heard of it."""
        folder, me = self._folder, shlex.quote(self._me)
        parent = folder.rpartition("/")[0]
        said = self._adb.ask(
            f"mkdir -p {parent} && {{ mkdir {folder} 2>/dev/null && echo {me} > {folder}/owner && "
            f"{self.beat_script()}; true; }} && echo owner=$(cat {folder}/owner 2>/dev/null) && "
            f"echo beat=$(cat {folder}/beat 2>/dev/null) && echo now=$(date +%s)"
        )
        found = dict(re.findall(r"^(owner|beat|now)=(.*)$", said, re.MULTILINE))
        times = [
            int(found[key]) if re.fullmatch(r"\d{1,12}\s*", found.get(key, "")) else None for key in ("now", "beat")
        ]
        now, beat = times
        return found.get("owner", "").strip(), float("inf") if now is None or beat is None else now - beat


def _this_host() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node())[:100] or "computer"


def _is_dead(owner: str, silent_s: float) -> bool:
    match = _CONTENT.fullmatch(owner)
    if match is None:
        return True  # it died between two commands, or never was one of ours
    if match["host"] == _this_host():
        try:
            os.kill(int(match["process"]), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False  # it lives, and is another user's
    return silent_s > SILENT_S


@contextlib.contextmanager
def own_device(adb: Adb, home: str) -> Iterator[DeviceLock]:
    """Have a device while the block runs.

    Raises:
        DeviceError: another process has it.
    """
    lock = DeviceLock(adb, home)
    lock.take()
    silent = False
    try:
        yield lock
    except SilentDeviceError:
        silent = True  # it would not receive the release either
        raise
    finally:
        if not silent:
            with contextlib.suppress(DeviceError):
                lock.release()
