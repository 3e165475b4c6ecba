"""An in-process transport: one ASGI request with no socket and no server."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cocorrrec_export.serving.app import App, Message

INFER = "/v2/models/gcn/infer"


@dataclass(frozen=True)
class Response:
    """What the application sent."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def call(
    app: App,
    body: bytes = b"",
    *,
    path: str = INFER,
    method: str = "POST",
    headers: Iterable[tuple[bytes, bytes]] = (),
    chunks: Sequence[bytes] | None = None,
    gone: asyncio.Event | None = None,
) -> Response | None:
    """The response to one request; ``None`` if the application sent none.

    Args:
        app: the application.
        body: of the request.
        path: of the endpoint.
        method: HTTP method.
        headers: lower-case names.
        chunks: the body in parts; the last part is marked as such.
        gone: set when the client goes away.
    """
    parts = list(chunks if chunks is not None else [body])
    sent: list[Message] = []

    async def receive() -> Message:
        if parts:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers), "client": ("test", 1)}
    await app(scope, receive, send)
    if not sent:
        return None
    start, end = sent
    return Response(start["status"], dict(start["headers"]), end["body"])
