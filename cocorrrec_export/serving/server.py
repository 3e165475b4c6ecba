"""Run the application on uvicorn, with what a server on an open port needs beside it.

uvicorn brings HTTP, TLS and the loop. Added here, on its hooks: bounds on headers, on the time that a request may take
and on connections, errors in the protocol's form, and a drain that turns readiness off first.
"""

import asyncio
import functools
import json
import logging
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.serving.app import App
from cocorrrec_export.serving.protocol import encode_error

MAX_HEADER_BYTES = 16 << 10
READ_BYTES = 256 << 10
"""What the loop reads at once: so much may arrive before a bound is looked at."""
ACCEPTS_A_TURN = 32
SWITCH_INTERVAL_S = 2e-4
SPARE_DESCRIPTORS = 64 + ACCEPTS_A_TURN
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How one process listens, and how it ends."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0: the operating system chooses."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_connections: int = 4096
    stall_timeout_s: float = 10.0
    """How long a request may take to arrive, and how long a client may leave an answer unread."""
    keep_alive_s: int = 75
    """How long a connection may be idle between requests."""
    drain_s: float = 3.0
    """After SIGTERM: how long requests are still taken while readiness is off."""
    finish_s: int = 30
    """After that: how long the answers to requests that were taken may take."""


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, bounded."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        max_connections: int,
        max_body_bytes: int,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._max_connections = max_connections
        self._max_message_bytes = MAX_HEADER_BYTES + 2 * max_body_bytes + READ_BYTES  # twice: chunks have headers
        self._incomplete_since: float | None = None
        self._headers_done = False
        self._received = 0
        self._unread = (0, 0.0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._incomplete_since = time.monotonic()
        if len(self.connections) > self._max_connections:
            self._refuse(503, f"{self._max_connections} connections are open: come again later", b"retry-after: 1\r\n")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._incomplete_since is not None and not self.transport.is_closing():
            self._received += len(data)
            if not self._headers_done and self._received > MAX_HEADER_BYTES:
                self._refuse(431, f"the headers are larger than {MAX_HEADER_BYTES} bytes")
            elif self._received > self._max_message_bytes:
                self._refuse(413, "the request is too large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._incomplete_since = time.monotonic()
        self._headers_done = False
        self._received = 0

    def on_headers_complete(self) -> None:
        self._headers_done = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._incomplete_since = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        self._refuse(400, "this is no HTTP request")

    def _refuse(self, status: int, message: str, header: bytes = b"") -> None:
        """Answer without the application, unless it has begun to answer, and close."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = encode_error(message)
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + header + b"\r\n" + body)
        self.transport.close()

    def end_if_stalled(self, now: float, timeout_s: float) -> None:
        """Close the connection if the other side has kept it waiting too long; called about once a second."""
        unread = self.transport.get_write_buffer_size()
        if unread != self._unread[0]:
            self._unread = (unread, now)
        elif unread and now - self._unread[1] > timeout_s:
            self.transport.abort()
        elif (
            self._incomplete_since is not None
            and now - self._incomplete_since > timeout_s
            and not self.transport.is_closing()
        ):
            self._refuse(408, f"the request did not arrive within {timeout_s:g} s")


class _Server(uvicorn.Server):
    """uvicorn's server with a drain: readiness off, a while of grace, then the end."""

    def __init__(self, config: uvicorn.Config, app: App, options: ServerOptions, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._options = options
        self._on_start = on_start
        self._drain_until = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """SIGTERM: drain. Ctrl-C, or a second signal: stop taking requests now. A third: leave."""
        if self.should_exit:
            self.force_exit = True
        now = time.monotonic()
        patience = self._options.drain_s if sig == signal.SIGTERM and not self._app.draining else 0.0
        self._drain_until = min(self._drain_until, now + patience)
        self._app.draining = True

    async def on_tick(self, counter: int) -> bool:
        now = time.monotonic()
        if counter % 10 == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, _Connection):
                    connection.end_if_stalled(now, self._options.stall_timeout_s)
        if now >= self._drain_until:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(app: App, options: ServerOptions, *, max_body_bytes: int, on_start: Callable[[str], None]) -> None:
    """Serve until a signal ends it; every request that was taken is answered.

    Args:
        app: the application.
        options: where to listen and how to end.
        max_body_bytes: what the application takes; a connection that sends more than twice that is closed.
        on_start: called with the address when requests are taken.

    Raises:
        CocorrrecError: the address cannot be listened on, or certificate or key cannot be read.
    """
    # The thread that computes must get the interpreter soon, however many requests are being refused meanwhile.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    listener = _listen(options.host, options.port)
    config = uvicorn.Config(
        app,
        http=functools.partial(
            _Connection,
            max_connections=_bounded_by_descriptors(options.max_connections),
            max_body_bytes=max_body_bytes,
        ),  # type: ignore[arg-type] # a factory of what it calls a class
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=options.keep_alive_s,
        timeout_graceful_shutdown=options.finish_s,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
    )
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        listener.close()
        raise CocorrrecError(f"{options.tls_cert}: certificate or key cannot be read: {error}") from None
    scheme = "https" if options.tls_cert else "http"
    host, port = listener.getsockname()[:2]
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    server = _Server(config, app, options, lambda: on_start(address))
    # libuv accepts one connection a turn and descriptor, and turns are long under overload: new clients would wait.
    server.run([listener, *(listener.dup() for _ in range(ACCEPTS_A_TURN - 1))])
    _log.info("stopped", extra={"facts": {"requests": server.server_state.total_requests}})


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise CocorrrecError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose --host or --port"
        ) from None


def _bounded_by_descriptors(connections: int) -> int:
    """As many connections as this process may have descriptors for, once it has asked for all that it may have."""
    if sys.platform == "win32":
        return connections
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = connections + SPARE_DESCRIPTORS
    soft = want if hard == resource.RLIM_INFINITY else min(want, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), hard))
    return min(connections, soft - SPARE_DESCRIPTORS)


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


def log_to_stderr() -> None:
    """Structured logs of this package's and uvicorn's own, on stderr; uvicorn's only where something failed."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name, level in (("cocorrrec_export", logging.INFO), ("uvicorn", logging.ERROR), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


def log_start(facts: dict[str, str]) -> None:
    """Say that requests are taken, and where."""
    _log.info("started", extra={"facts": facts})


def read_token(path: Path) -> str:
    """The bearer token in a file.

    Raises:
        UsageError: empty, or more than one word.
    """
    token = path.read_text(encoding="utf-8").strip()
    if not token or not token.isascii() or len(token.split()) != 1:
        raise UsageError(f"{path}: holds no bearer token; it must be one word of ASCII characters")
    return token
