"""What HTTP has around a request: compressed bodies, and pages of other origins."""

import zlib
from collections.abc import Iterable

from cocorrrec_export.serving.errors import Refusal

_WINDOWS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_EXPOSED = b"inference-header-content-length, server-timing, retry-after"
_ALLOWED_HEADERS = b"authorization, content-type, content-encoding, inference-header-content-length"


def decoded(body: bytes, encoding: bytes | None, limit: int) -> bytes:
    """A body without its ``Content-Encoding``; never more than ``limit`` bytes are made of it.

    Raises:
        Refusal: 415, another encoding than gzip and deflate; 413, larger than ``limit``; 400, damaged.
    """
    name = (encoding or b"identity").strip().lower()
    if name == b"identity":
        return body
    window = _WINDOWS.get(name)
    if window is None:
        raise Refusal("of Content-Encoding, gzip and deflate are taken", status=415, close=True)
    inflater = zlib.decompressobj(window)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise Refusal(f"the body is not {name.decode()}") from None
    if len(plain) > limit:
        raise Refusal(f"the body is larger than {limit} bytes when it is unpacked", status=413, close=True)
    if not inflater.eof or inflater.unused_data:
        raise Refusal(f"the body is not one complete {name.decode()} stream")
    return plain


class Origins:
    """Which pages of other origins may ask the server: those named, or with ``*`` all.

    Args:
        allowed: as browsers send them, such as ``https://app.example``.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(origin.rstrip("/").encode() for origin in allowed)

    def headers(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """What to add to an answer."""
        if not self._allowed:
            return []
        vary = [(b"vary", b"origin")]
        if not self._takes(origin):
            return vary
        return [*vary, (b"access-control-allow-origin", origin or b"*"), (b"access-control-expose-headers", _EXPOSED)]

    def preflight(self, origin: bytes | None) -> list[tuple[bytes, bytes]] | None:
        """The headers that allow what a page wants to send; None where it may not."""
        if not self._takes(origin):
            return None
        return [
            (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
            (b"access-control-allow-headers", _ALLOWED_HEADERS),
            (b"access-control-max-age", b"600"),
        ]

    def _takes(self, origin: bytes | None) -> bool:
        return origin is not None and (b"*" in self._allowed or origin in self._allowed)
