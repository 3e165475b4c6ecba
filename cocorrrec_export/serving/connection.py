"""One connection: uvicorn's, bounded from the moment that it is accepted."""

import asyncio
import contextlib
import time
from typing import Any

import httptools
import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from cocorrrec_export.serving.protocol import encode_error

MAX_HEADER_BYTES = 16 << 10
READ_BYTES = 256 << 10
"""What the loop reads at once: so much may arrive before a bound is looked at."""
_UPGRADE_HEADERS = (b"upgrade", b"http2-settings")


class Connection(HttpToolsProtocol):
    """uvicorn's connection, bounded.

    Args:
        config: uvicorn's.
        server_state: of uvicorn's server.
        app_state: of the ASGI lifespan.
        max_connections: of the server.
        max_body_bytes: of one request.
    """

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
        self._header_bytes = 0
        self._received = 0
        self._completed = 0
        self._unread = (0, 0.0)
        self._made = False
        self._early: list[bytes] = []
        self._upgrading = False
        self._answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one too many."""
        super().connection_made(transport)
        self._made = True
        self._incomplete_since = time.monotonic()
        if len(self.connections) > self._max_connections:
            self._refuse(503, f"{self._max_connections} connections are open: come again later", b"retry-after: 1\r\n")
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was asked ahead."""
        if not self._made:  # lost before it was made: between the handshake and the first turn of the loop
            return
        # Requests that the client had sent ahead are not begun: there is nobody to answer.
        self.pipeline.clear()
        # Of requests sent ahead, uvicorn tells the last one alone, and not the one that is being answered.
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and look at the bounds."""
        if not self._made:
            self._early.append(data)
            return
        if self.parser is None or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        completed = self._completed
        self._feed(data)
        if self._incomplete_since is not None and not self.transport.is_closing():
            # Where requests sent ahead end in the same piece, the share of this one is unknown: its next pieces count.
            self._received += len(data) if completed == self._completed else 0
            if not self._headers_done and self._received > MAX_HEADER_BYTES:
                self._refuse(431, f"the headers are larger than {MAX_HEADER_BYTES} bytes")
            elif self._received > self._max_message_bytes:
                self._refuse(413, "the request is too large")

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self.transport.is_closing():
                return  # what made a callback stop the parser has been answered
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(431, f"the headers are larger than {MAX_HEADER_BYTES} bytes")
            else:
                self._refuse(400, "this is not an HTTP request")

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read a request that offers another protocol, such as h2c, as if it did not: the answer is in HTTP/1.1.

        The parser takes what follows the headers for the other protocol. So a new one is given the request again,
        without the offer; what follows is then its body.
        """
        self._upgrading = False
        method = self._method
        if method == b"CONNECT":
            self._refuse(405, "this is not a proxy")
            return
        lines = [b"%s %s HTTP/1.1" % (method, self.url)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(x for x in tokens if x.lower() not in _UPGRADE_HEADERS)
            if name not in _UPGRADE_HEADERS and (value or name != b"connection"):
                lines.append(b"%s: %s" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):  # as uvicorn does: a first request is answered whatever follows it
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        """A request begins: its time runs."""
        super().on_message_begin()
        self._incomplete_since = time.monotonic()
        self._headers_done = False
        self._header_bytes = 0
        self._received = 0

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        super().on_url(url)
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        super().on_header(name, value)
        self._count_header(len(name) + len(value) + 4)

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("the parser stops here")

    def on_headers_complete(self) -> None:
        """Begin to answer, unless another protocol was offered."""
        self._headers_done = True
        if self.parser.should_upgrade():
            self._upgrading, self._method = True, self.parser.get_method()
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._upgrading:
            return
        self._incomplete_since = None
        self._completed += 1
        super().on_message_complete()

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
