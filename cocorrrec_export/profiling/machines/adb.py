"""The adb client: every call has a timeout and names its device, and a failure becomes one sentence.

adb ends with 0 in many failures, and waits for ever in others, so its exit code alone is never taken for a success.
"""

import contextlib
import functools
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.machines.processes import Program, TooMuchError, started
from cocorrrec_export.text import printable

MINIMAL_VERSION = (1, 0, 39)
"""Exit codes of remote commands and separate streams."""
SHORT_S = 10.0
"""What any answer of a few bytes may take."""
COPY_SILENCE_S = 40.0
"""How long a device may show no sign of life while files are copied: over a slow network the sign waits behind them."""
_PROBE_S = 5.0
"""What a device may take to show that it is alive, at the end of a call's time."""
MAX_WORDS = 300
"""Characters of one fact that a device tells."""
_SERVER_S = 1.0
"""What the adb server of this computer may take to answer, after a device was silent."""


class DeviceError(CocorrrecError):
    """Something is wrong with the device or the connection. ``output`` is what adb said."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class NoAdbError(DeviceError):
    """There is no adb on this computer."""


class SilentDeviceError(DeviceError):
    """A device that does not answer at all: nothing more can be asked of it."""


@dataclass(frozen=True)
class AdbResult:
    """How one call of adb ended."""

    command: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both streams: adb's errors are on either."""
        return f"{self.stdout}\n{self.stderr}".strip()


@dataclass(frozen=True)
class Attached:
    """A line of ``adb devices``."""

    serial: str
    state: str
    """``device``, ``unauthorized``, ``offline``, ``recovery`` ..."""


def find_adb() -> Path:
    """adb on the PATH, or in the SDK that ANDROID_HOME or ANDROID_SDK_ROOT names; its version is checked.

    Raises:
        NoAdbError: there is none.
        DeviceError: it is too old.
    """
    name = "adb.exe" if sys.platform == "win32" else "adb"
    candidates = [Path(found)] if (found := shutil.which("adb")) else []
    homes = (os.environ.get(variable) for variable in ("ANDROID_HOME", "ANDROID_SDK_ROOT"))
    candidates += [Path(home) / "platform-tools" / name for home in homes if home]
    for path in candidates:
        if path.is_file():
            _check_version(path)
            return path
    raise NoAdbError(
        "adb was not found: install it (Debian: 'apt install adb'; macOS: 'brew install android-platform-tools'; or "
        "the platform tools of Android's web page) and put it on the PATH, or set ANDROID_HOME"
    )


@functools.cache
def _check_version(path: Path) -> None:
    try:
        said = _execute((str(path), "version"), SHORT_S).output
    except (subprocess.TimeoutExpired, OSError) as error:
        why = "does not answer" if isinstance(error, subprocess.TimeoutExpired) else f"cannot be run: {error.strerror}"
        raise DeviceError(f"{path} {why}: install another adb, or put it in front on the PATH") from None
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
    if not found or tuple(map(int, found.groups())) < MINIMAL_VERSION:
        wanted = ".".join(map(str, MINIMAL_VERSION))
        raise DeviceError(f"{path} is not adb, or older than {wanted}: install a newer one", said)


def _result(command: tuple[str, ...], program: Program, timeout_s: float) -> AdbResult:
    """How a client ended; may be asked again after a ``TimeoutExpired``.

    Raises:
        DeviceError: it said too much.
    """
    try:
        return AdbResult(command, *program.wait(timeout_s))
    except TooMuchError as error:
        raise DeviceError(f"adb was ended: {error}, where a few lines were expected: look at the device") from None


def _execute(command: tuple[str, ...], timeout_s: float) -> AdbResult:
    """Run to the end or to the timeout."""
    with started(command) as program:
        return _result(command, program, timeout_s)


def attached_devices(adb: Path, *, timeout_s: float = 2 * SHORT_S) -> list[Attached]:
    """Every device that the adb server knows, usable or not. The server may have to be started first.

    Raises:
        DeviceError: the server does not answer.
    """
    try:
        result = _execute((str(adb), "devices"), timeout_s)
    except subprocess.TimeoutExpired:
        raise DeviceError("the adb server does not answer: run 'adb kill-server', then again") from None
    if result.code:
        raise DeviceError(f"adb cannot start its server: {_last_line(result.output)}", result.output)
    rows = (line.split("\t") for line in result.stdout.splitlines() if "\t" in line)
    return [Attached(one_line(row[0]), one_line(row[1])) for row in rows]


def choose_serial(attached: list[Attached], serial: str | None) -> str:
    """The device that is meant.

    Raises:
        DeviceError: none, several, an unknown one, or one that cannot be used; with what to do.
    """
    known = ", ".join(f"{device.serial} ({device.state})" for device in attached)
    if serial is not None:
        chosen = next((device for device in attached if device.serial == serial), None)
        if chosen is None:
            raise DeviceError(f"no device {serial}: adb knows {known or 'none'}")
    elif not attached:
        raise DeviceError(
            "no phone is connected: plug one in, switch on USB debugging in its developer options, and look at "
            "'adb devices'; or profile on this machine with --host"
        )
    elif len(attached) > 1:
        raise DeviceError(f"several devices are connected: name one with --device: {known}")
    else:
        chosen = attached[0]
    if chosen.state != "device":
        raise DeviceError(f"{chosen.serial} is {chosen.state}: {_hint(chosen.state)}")
    return chosen.serial


_STATE_HINTS = {
    "unauthorized": "unlock the phone and accept this computer's key (the dialogue 'Allow USB debugging?')",
    "offline": "unplug and plug it in again, or run 'adb reconnect offline' (a network device: disconnect, connect)",
    "no permissions": "this user may not open the USB device: add a udev rule, or join the group plugdev",
    "authorizing": "unlock the phone and accept this computer's key, then run this again",
    "other": "start Android on it with USB debugging on",
}


def _hint(state: str) -> str:
    """What to do; adb adds words of its own to some states, such as whose udev rules are wrong."""
    return next((hint for name, hint in _STATE_HINTS.items() if state.startswith(name)), _STATE_HINTS["other"])


def one_line(text: str) -> str:
    """What a device or adb says, as one line of sane length without control characters."""
    line = " ".join(text.split())
    return printable(line if len(line) <= MAX_WORDS else f"{line[:MAX_WORDS]}...", keep="")


@dataclass(frozen=True)
class Adb:
    """One device through one adb client."""

    path: Path
    serial: str

    def call(self, *arguments: str, timeout_s: float = SHORT_S, silence_s: float | None = None) -> AdbResult:
        """Run ``adb -s SERIAL ...`` to its end, whatever that is.

        A device that is silent is told from a command that is slow by a sign of life, which is asked for while the
        call still has time: at its end it is known what is wrong.

        Args:
            arguments: of adb.
            timeout_s: of the whole call.
            silence_s: the device must show so often that it lives. None: at the end alone, since that disturbs times.

        Raises:
            SilentDeviceError: the device does not answer.
            DeviceError: it went away, or it lives and the call did not end in time.
        """
        round_s = min(silence_s or timeout_s, timeout_s)
        answer_s = round_s / 2 if silence_s else min(_PROBE_S, round_s / 2)
        command = self._command(*arguments)
        with started(command) as process:
            for _ in range(math.ceil(timeout_s / round_s)):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return _result(command, process, round_s - answer_s)
                with started(self._command("shell", "true")) as probe:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        return _result(command, process, answer_s)
                    answered = probe.poll()
                if answered is None:
                    raise self._silence(round_s)
                if answered != 0 and (gone := self.lost()):
                    raise DeviceError(gone)
        raise DeviceError(f"{self.serial}: a run did not end within {timeout_s:g} s: give it longer with --timeout")

    def _command(self, *arguments: str) -> tuple[str, ...]:
        return (str(self.path), "-s", self.serial, *arguments)

    def shell(self, script: str, *, timeout_s: float = SHORT_S) -> AdbResult:
        """Run a line of shell on the device; see :meth:`call`."""
        return self.call("shell", script, timeout_s=timeout_s)

    def ask(self, script: str, *, timeout_s: float = SHORT_S) -> str:
        """What a line of shell prints, without blanks at its ends.

        The line is between two marks: some devices greet before each answer, and adb ends with 0 and says nothing
        where the device went away.

        Raises:
            DeviceError: it failed, or its answer is not complete.
        """
        result = self.shell(f"echo {_BEGIN}; {{ {script}; }} && echo {_MARK}", timeout_s=timeout_s)
        said = result.stdout.rstrip()
        if result.code or not said.endswith(_MARK) or _BEGIN not in said:
            raise self.failure(result, "a command on the device failed")
        return said.removesuffix(_MARK).partition(_BEGIN)[2].strip()

    def push(self, local: Path, remote: str, *, timeout_s: float) -> None:
        """Copy a file or folder to a path that is not taken for complete before the caller renames it.

        Raises:
            DeviceError: it did not arrive; nothing is known of ``remote`` then.
        """
        result = self.call("push", str(local), remote, timeout_s=timeout_s, silence_s=COPY_SILENCE_S)
        if result.code or "pushed" not in result.output:
            raise self.failure(result, f"cannot copy {local.name} to the device")

    def pull(self, remote: str, local: Path, *, timeout_s: float) -> None:
        """Copy a file from the device; what was at ``local`` is removed first.

        Raises:
            DeviceError: it did not arrive.
        """
        local.unlink(missing_ok=True)
        result = self.call("pull", remote, str(local), timeout_s=timeout_s, silence_s=COPY_SILENCE_S)
        if result.code or not local.is_file():
            raise self.failure(result, f"cannot copy {remote} from the device")

    def failure(self, result: AdbResult, what: str) -> DeviceError:
        """One sentence for a call that failed, with what to do where that is known."""
        said = result.output
        for pattern, sentence in _SENTENCES:
            if re.search(pattern, said):
                return DeviceError(f"{self.serial}: {what}: {sentence}", said)
        gone = self.lost()
        if gone:
            return DeviceError(gone, said)
        words = _last_line(said) or f"adb ended with {result.code} and said nothing"
        return DeviceError(f"{self.serial}: {what}: {words}", said)

    def lost(self) -> str | None:
        """A sentence, if the device is not usable any more."""
        state = next((x.state for x in attached_devices(self.path) if x.serial == self.serial), None)
        if state == "device":
            return None
        became = "is gone" if state is None else f"became {state}"
        return f"{self.serial} {became} in the middle of the profile: {_STATE_HINTS['offline']}; then start again"

    def _silence(self, seconds: float) -> SilentDeviceError:
        """One sentence for a device that gave no sign of life, or for an adb server that gives none."""
        try:
            attached_devices(self.path, timeout_s=_SERVER_S)
        except DeviceError as error:
            return SilentDeviceError(str(error))
        return SilentDeviceError(
            f"{self.serial} did not answer within {seconds:g} s: unlock it, look whether it hangs, plug it in again"
        )


_BEGIN, _MARK = "cocorr-begin", "cocorr-ok"
_SENTENCES = (
    (r"device unauthorized", f"this computer is not authorised: {_STATE_HINTS['unauthorized']}"),
    (
        r"No space left on device",
        "its storage is full: free some, or remove what we keep with 'cocorr-profile --clean'",
    ),
    (r"Read-only file system", "the folder is read only there: is /data/local/tmp writable ('adb shell touch')?"),
    (
        r"Permission denied",
        "the device does not permit it: is /data/local/tmp writable and executable for the shell user?",
    ),
    (r"No such file or directory", "a file or folder is missing there: is there a /data/local/tmp?"),
)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else ""
