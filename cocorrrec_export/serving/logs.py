"""Structured logs on stderr that never hold up whoever writes them."""

import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable

MAX_WAITING = 8192
"""Lines that wait for a reader of stderr; beyond them, lines are dropped and counted."""
FLUSH_S = 1.0
"""At the end of the process: how long the reader has to take what waits."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the record's ``facts``."""

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class NonBlockingHandler(logging.Handler):
    """Hands lines to a thread of its own, which may wait for the reader of a pipe; the one who logs does not.

    Args:
        descriptor: where the lines go.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.on_drop: Callable[[], None] = lambda: None
        """Called for each line that is dropped."""
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(MAX_WAITING)
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or count that it was dropped."""
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:  # what cannot be formatted must not end a request
            self.handleError(record)
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.on_drop()

    def flush(self) -> None:
        """Wait until everything is written, or for a second."""
        deadline = time.monotonic() + FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:  # nobody reads any more
                self.on_drop()
            finally:
                self._lines.task_done()


def log_to_stderr() -> NonBlockingHandler:
    """Structured logs of this package's and uvicorn's own, on stderr; uvicorn's only where something failed."""
    sys.stderr.flush()
    handler = NonBlockingHandler(2)
    handler.setFormatter(JsonFormatter())
    for name, level in (("cocorrrec_export", logging.INFO), ("uvicorn", logging.ERROR), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    return handler


def warn(message: str) -> None:
    """A line for whoever runs the server."""
    logging.getLogger(__name__).warning(message)
