"""TLS handshakes that are bounded: a connection counts, and its time runs, from the moment that it is accepted."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence

_REST_S = 0.1
"""After an accept that failed, as where descriptors ran out."""


class Handshakes:
    """Accepts connections, and hands on those whose handshake is done.

    Args:
        context: certificate and key.
        protocol: makes what a connection is handled by.
        connections: how many are open whose handshake is done.
        max_connections: open ones and handshakes together.
        timeout_s: of a handshake.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
        connections: Callable[[], int],
        *,
        max_connections: int,
        timeout_s: float,
    ) -> None:
        self._context = context
        self._protocol = protocol
        self._connections = connections
        self._max_connections = max_connections
        self._timeout_s = timeout_s
        self._accepting: list[asyncio.Task[None]] = []
        self._going_on: set[asyncio.Task[None]] = set()

    def start(self, listeners: Sequence[socket.socket]) -> None:
        """Accept on every listener; from the running event loop."""
        for listener in listeners:
            listener.setblocking(False)
            self._accepting.append(asyncio.get_running_loop().create_task(self._accept(listener)))

    async def stop(self) -> None:
        """Accept no more, and end the handshakes that continue."""
        tasks = [*self._accepting, *self._going_on]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(_REST_S)
                continue
            if self._connections() + len(self._going_on) >= self._max_connections:
                client.close()  # without TLS there is no form for an answer
                continue
            task = loop.create_task(self._shake_hands(client))
            self._going_on.add(task)
            task.add_done_callback(self._going_on.discard)

    async def _shake_hands(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.wait_for(
                loop.connect_accepted_socket(
                    self._protocol, client, ssl=self._context, ssl_handshake_timeout=self._timeout_s
                ),
                self._timeout_s,
            )
        except (OSError, TimeoutError):  # an SSLError is an OSError
            client.close()
