"""What the server answers when it does not answer with tensors."""


class Refusal(Exception):
    """A request that is not served. The message is the one sentence that its client reads.

    Args:
        message: what is wrong, where, and what is expected.
        status: the HTTP status.
        headers: what goes along with it.
        close: whether the rest of the body is not worth reading.
    """

    def __init__(
        self, message: str, *, status: int = 400, headers: tuple[tuple[bytes, bytes], ...] = (), close: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.close = close


def busy(message: str, *, close: bool = False) -> Refusal:
    """503, and when to come again."""
    return Refusal(message, status=503, headers=((b"retry-after", b"1"),), close=close)
