"""Ask a server of the Open Inference Protocol for corrections: one connection pool, one deadline a call.

Safe to retry: an answer is a pure function of the upload, so a request whose connection broke, or that met a 503,
may be sent again while its deadline lasts. Everything else is reported at once.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import numpy as np

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.serving.protocol import Array, encode_request, parse_response

_BACKOFF_S = 0.02
_TIMING = re.compile(r'(\w+);(?:dur=|desc=")([0-9.]+)')


class ClientError(CocorrrecError):
    """A call did not bring a correction."""


class DeadlineError(ClientError):
    """The deadline of a call passed."""


class RefusedError(ClientError):
    """The server answered with an error.

    Args:
        status: HTTP status.
        message: the server's sentence.
        retry_after_s: how long to wait before another try, where the server said so.
    """

    def __init__(self, status: int, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"the server answered {status}: {message}")
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class ServerTiming:
    """What a server that runs with ``--server-timing`` says of one request."""

    queue_s: float
    compute_s: float
    received: float
    """When the request was complete, on the monotonic clock of the server's host."""
    answered: float
    """When the answer was ready, on the same clock."""


@dataclass(frozen=True)
class Answer:
    """The outputs of one request."""

    tensors: dict[str, Array]
    """``k_attn [N, 4, 10, 10]`` and ``k_b [N, 4, 10, 16]``, or ``vector [N, 64]``."""
    id: str | None
    attempts: int
    timing: ServerTiming | None


class GcnClient:
    """An asynchronous client of one model; use it as a context manager.

    Args:
        address: ``http://host:port``.
        model: its name.
        version: which weights the server must have; by default any. A server with others refuses with 404.
        token: bearer token.
        tls: for a certificate that the system does not know.
        deadline_s: of a call that names none.
        retries: how often a request may be sent again.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str = "gcn",
        version: str | None = None,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        deadline_s: float = 1.0,
        retries: int = 2,
    ) -> None:
        self.address = address.rstrip("/")
        self._path = f"v2/models/{model}" + (f"/versions/{version}" if version else "")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = tls
        self._deadline_s = deadline_s
        self._retries = retries
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pool; a connection is made by the first call, and kept."""
        connector = aiohttp.TCPConnector(ssl=self._tls or True, keepalive_timeout=60)
        # No timeout of its own: the deadline is asyncio's.
        self._session = aiohttp.ClientSession(
            self.address + "/", connector=connector, headers=self._headers, timeout=aiohttp.ClientTimeout(total=None)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        assert self._session is not None
        await self._session.close()

    async def ready(self) -> bool:
        """Whether the model takes requests; ``False`` also when nobody answers."""
        try:
            async with asyncio.timeout(self._deadline_s), self._open.get(f"{self._path}/ready") as response:
                return response.status == 200
        except (TimeoutError, aiohttp.ClientError):
            return False

    async def metadata(self) -> dict[str, Any]:
        """The model's contract as the server states it.

        Raises:
            ClientError: no answer within the deadline, or an error.
        """
        try:
            async with asyncio.timeout(self._deadline_s), self._open.get(self._path) as response:
                if response.status != 200:
                    raise await _refused(response)
                return msgspec.json.decode(await response.read(), type=dict[str, Any])
        except TimeoutError:
            raise self._late(self._deadline_s) from None
        except (aiohttp.ClientError, msgspec.DecodeError) as error:
            raise ClientError(f"{self.address}: {error}") from error

    async def correct(self, upload: Array, *, deadline_s: float | None = None, request_id: str | None = None) -> Answer:
        """The cloud's answers for N users.

        Args:
            upload: ``H [N, L, D]`` float32, or where the cloud answers with a vector ``ids [N, L_cloud]`` int32.
            deadline_s: for the whole call, retries included.
            request_id: comes back as ``Answer.id``.

        Raises:
            DeadlineError: there was no answer in time.
            RefusedError: the server refused, with its reason.
            ClientError: no server, or one that does not speak the protocol.
        """
        deadline = self._deadline_s if deadline_s is None else deadline_s
        body, json_bytes = encode_request(upload, request_id=request_id)
        headers = {"Inference-Header-Content-Length": str(json_bytes), "Content-Type": "application/octet-stream"}
        try:
            async with asyncio.timeout(deadline):
                return await self._with_retries(body, headers)
        except TimeoutError:
            raise self._late(deadline) from None

    async def _with_retries(self, body: bytes, headers: dict[str, str]) -> Answer:
        for attempt in range(1, self._retries + 2):
            try:
                return await self._post(body, headers, attempt)
            except RefusedError as error:
                if error.status != 503 or attempt > self._retries:
                    raise
                await asyncio.sleep(error.retry_after_s or _BACKOFF_S)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
                if attempt > self._retries:
                    raise ClientError(f"{self.address}: {error or type(error).__name__}") from error
                await asyncio.sleep(_BACKOFF_S * (attempt - 1))
            except aiohttp.ClientError as error:
                raise ClientError(f"{self.address}: {error}") from error
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, body: bytes, headers: dict[str, str], attempt: int) -> Answer:
        async with self._open.post(f"{self._path}/infer", data=body, headers=headers) as response:
            if response.status != 200:
                raise await _refused(response)
            content = await response.read()
            json_bytes = response.headers.get("Inference-Header-Content-Length", "")
            try:
                request_id, tensors = parse_response(content, int(json_bytes))
            except ValueError as error:
                raise ClientError(f"{self.address}: not an answer of the protocol: {error}") from None
            for name, array in tensors.items():
                if not np.isfinite(array).all():
                    raise ClientError(f"{self.address}: the answer has values in '{name}' that are not finite")
            return Answer(tensors, request_id, attempt, _timing(response.headers.get("Server-Timing")))

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("enter the client first: async with GcnClient(...) as client")
        return self._session

    def _late(self, deadline_s: float) -> DeadlineError:
        return DeadlineError(f"{self.address}: no answer within {deadline_s * 1e3:g} ms")


async def _refused(response: aiohttp.ClientResponse) -> RefusedError:
    content = await response.read()
    try:
        message = str(msgspec.json.decode(content)["error"])
    except (msgspec.DecodeError, KeyError, TypeError):
        message = content[:200].decode(errors="replace")
    after = response.headers.get("Retry-After", "")
    return RefusedError(response.status, message, float(after) if after.isdigit() else None)


def _timing(header: str | None) -> ServerTiming | None:
    values = {name: float(value) for name, value in _TIMING.findall(header or "")}
    if values.keys() < {"queue", "compute", "received", "answered"}:
        return None
    return ServerTiming(values["queue"] / 1e3, values["compute"] / 1e3, values["received"], values["answered"])


class SyncGcnClient:
    """The same client for code that is not asynchronous; takes the same arguments."""

    def __init__(self, address: str, **options: Any) -> None:
        self._client = GcnClient(address, **options)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        """Open the pool."""
        self._runner.run(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._runner.run(self._client.__aexit__(kind, error, traceback))
        self._runner.close()

    def ready(self) -> bool:
        """See :meth:`GcnClient.ready`."""
        return self._runner.run(self._client.ready())

    def metadata(self) -> dict[str, Any]:
        """See :meth:`GcnClient.metadata`."""
        return self._runner.run(self._client.metadata())

    def correct(self, upload: Array, *, deadline_s: float | None = None, request_id: str | None = None) -> Answer:
        """See :meth:`GcnClient.correct`."""
        return self._runner.run(self._client.correct(upload, deadline_s=deadline_s, request_id=request_id))
