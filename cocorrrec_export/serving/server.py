"""Run the application on uvicorn, with what a server on an open port needs next to it.

uvicorn brings HTTP and the loop. Added here, on its hooks: bounds on headers, on the time that a request or a handshake
may take and on connections, errors in the protocol's form, and a drain that turns readiness off first.
"""

import asyncio
import functools
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

import uvicorn

from cocorrrec_export.serving.app import App
from cocorrrec_export.serving.connection import Connection
from cocorrrec_export.serving.handshakes import Handshakes
from cocorrrec_export.serving.listening import close_path, listen, listen_on_path, require_descriptors, tls_context

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
    unix_socket: Path | None = None
    """Instead of host and port."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_connections: int = 4096
    stall_timeout_s: float = 10.0
    """How long a handshake and a request may take to arrive, and how long a client may leave an answer unread."""
    keep_alive_s: int = 75
    """How long a connection may be idle between requests."""
    drain_s: float = 3.0
    """After SIGTERM: how long requests are still taken while readiness is off."""
    finish_s: int = 30
    """After that: how long the answers to requests that were taken may take."""


class _Server(uvicorn.Server):
    """uvicorn's server with a drain: readiness off, a while of grace, then the end."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: App,
        options: ServerOptions,
        tls: ssl.SSLContext | None,
        on_start: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._app = app
        self._options = options
        self._on_start = on_start
        self.unix_listener: socket.socket | None = None
        self._handshakes = None
        if tls is not None:
            self._handshakes = Handshakes(
                tls,
                self._protocol,
                lambda: len(self.server_state.connections),
                max_connections=options.max_connections,
                timeout_s=options.stall_timeout_s,
            )
        self._drain_until = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        listeners = sockets or []
        if self._handshakes is not None:
            await super().startup([])
            self._handshakes.start([*listeners, *([self.unix_listener] if self.unix_listener else [])])
        else:
            await super().startup(listeners)
            if self.unix_listener is not None:
                loop = asyncio.get_running_loop()
                self.servers.append(await loop.create_unix_server(self._protocol, sock=self.unix_listener))
        self._on_start()

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes one for the sockets that it knows."""
        factory: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return factory(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._handshakes is not None:
            await self._handshakes.stop()
        await super().shutdown(sockets)

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
                if isinstance(connection, Connection):
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
        UsageError: no address.
        CocorrrecError: the address cannot be listened on, certificate or key cannot be read, or this process may not
            open as many files as there may be connections.
    """
    # The thread that computes must get the interpreter soon, however many requests are being refused meanwhile.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    require_descriptors(options.max_connections, SPARE_DESCRIPTORS)
    tls = tls_context(options.tls_cert, options.tls_key) if options.tls_cert and options.tls_key else None
    path = options.unix_socket
    listener = listen(options.host, options.port) if path is None else listen_on_path(path)
    config = uvicorn.Config(
        app,
        http=functools.partial(Connection, max_connections=options.max_connections, max_body_bytes=max_body_bytes),  # type: ignore[arg-type] # a factory of what it calls a class
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=options.keep_alive_s,
        timeout_graceful_shutdown=options.finish_s,
    )
    config.load()
    address = _address_of(listener, "https" if tls else "http") if path is None else f"unix:{path}"
    server = _Server(config, app, options, tls, lambda: on_start(address))
    try:
        if path is None:
            # libuv accepts one connection a turn and descriptor, and turns are long under overload: new clients
            # would wait.
            server.run([listener, *(listener.dup() for _ in range(ACCEPTS_A_TURN - 1))])
        else:
            server.unix_listener = listener
            server.run([])
    finally:
        if path is not None:
            close_path(path)
    _log.info("stopped", extra={"facts": {"requests": server.server_state.total_requests}})


def _address_of(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def log_start(facts: dict[str, str]) -> None:
    """Say that requests are taken, and where."""
    _log.info("started", extra={"facts": facts})
