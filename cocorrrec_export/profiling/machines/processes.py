"""Programs whose output is read within bounds: a device, or a broken runner, may say as much as it likes."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

MAX_OUTPUT_BYTES = 16 << 20
"""Of one stream; a report with 100,000 times has one or two."""


class TooMuchError(Exception):
    """A program said more than :data:`MAX_OUTPUT_BYTES`, and was ended."""


class Program:
    """A program that runs; made by :func:`started`."""

    def __init__(self, process: "subprocess.Popen[bytes]", *, group: bool) -> None:
        self._process = process
        self._group = group
        self._too_much = False
        self._said: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        assert process.stdout is not None and process.stderr is not None
        streams: dict[str, IO[bytes]] = {"stdout": process.stdout, "stderr": process.stderr}
        self._readers = [
            threading.Thread(target=self._read, args=(stream, self._said[name]), daemon=True)
            for name, stream in streams.items()
        ]
        for reader in self._readers:
            reader.start()

    def wait(self, timeout_s: float) -> tuple[int, str, str]:
        """Exit code, below 0 after a signal, and all of both streams; may be asked again after a timeout.

        Raises:
            subprocess.TimeoutExpired: it still runs, or something that it started keeps its streams.
            TooMuchError: it said too much.
        """
        deadline = time.monotonic() + timeout_s
        code = self._process.wait(timeout_s)
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()) + 0.1)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self._process.args, timeout_s)
        if self._too_much:
            raise TooMuchError(f"more than {MAX_OUTPUT_BYTES >> 20} MiB of output")
        stdout, stderr = (self._said[name].decode("utf-8", errors="replace") for name in ("stdout", "stderr"))
        return code, stdout, stderr

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it, with what it started where it has a group of its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._group and sys.platform != "win32":
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def _read(self, stream: IO[bytes], said: bytearray) -> None:
        with stream:
            while data := os.read(stream.fileno(), 1 << 16):
                if len(said) + len(data) > MAX_OUTPUT_BYTES:
                    self._too_much = True
                    self.kill()
                    return
                said += data


@contextmanager
def started(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, group: bool = False
) -> Iterator[Program]:
    """A program without input; one that still runs at the end, or after Ctrl-C, is killed.

    Args:
        command: program and arguments.
        environment: None is this process's own.
        group: give it a process group of its own, and kill that.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=group,
    )
    program = Program(process, group=group)
    try:
        yield program
    finally:
        if process.poll() is None:
            program.kill()
        process.wait()
