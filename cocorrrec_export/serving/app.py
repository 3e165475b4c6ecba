"""The server as an ASGI application: the six endpoints of the Open Inference Protocol v2, and ``/metrics``.

Everything is bounded before it is read: the size of a body, the bytes of all unfinished bodies together, and the users
that may wait. What is not taken is answered at once with 503 and ``Retry-After``. The time that a request may take to
arrive is the business of :mod:`cocorrrec_export.serving.server`, which sees the connection.
"""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cocorrrec_export import __version__
from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.serving.batching import Batcher, Compute, Job
from cocorrrec_export.serving.errors import Refusal, busy
from cocorrrec_export.serving.extensions import EXTENSIONS as OPERATORS
from cocorrrec_export.serving.extensions import Statistics, model_config, repository_index
from cocorrrec_export.serving.http import Origins, decoded
from cocorrrec_export.serving.metrics import CONTENT_TYPE, Metrics
from cocorrrec_export.serving.protocol import (
    DATATYPES,
    EXTENSIONS,
    HEADER_LENGTH,
    Array,
    encode_error,
    encode_response,
    parse_request,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SERVER_NAME = "cocorr-serve"
PLATFORM = "onnx_onnxruntime"
OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
"""What needs no token: probes have none."""
CLIENT_GONE = 499
"""Not sent to anyone; how the metrics count a request whose client went away."""
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServingLimits:
    """What one server takes on."""

    max_batch: int = 64
    """Users of one batch, and of one request."""
    max_queue: int = 512
    """Users that may wait; beyond them, 503."""
    max_delay_s: float = 0.0
    """How long a batch that is not full waits for more."""
    max_body_bytes: int = 1 << 20
    """Bytes of one request's body."""
    max_buffered_bytes: int = 64 << 20
    """Bytes of all unfinished bodies together; beyond them, 503."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where the application is among others."""

    path_prefix: str = ""
    """What every path begins with, as behind a proxy that does not take it away: ``/recommend``."""
    origins: Origins = field(default_factory=Origins)
    """Whose pages may ask."""


DEFAULT_LIMITS = ServingLimits()
DEFAULT_SURROUNDINGS = Surroundings()


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model and its contract."""

    compute: Compute
    contract: EntryPoint
    """One input ``[N, ...]``, outputs ``[N, ...]``."""
    version: str
    """Which weights these are; a request may name it in its path."""
    name: str = "gcn"
    vocab_size: int | None = None
    """V, where the input are item ids."""


class Reply(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)


class _ClientGoneError(Exception):
    """Nobody is left to answer."""


class App:
    """The ASGI application; :func:`create_app` makes one.

    Attributes:
        draining: set when the server is about to stop: readiness goes off, answers ask clients to close.
    """

    def __init__(
        self,
        served: Served,
        limits: ServingLimits,
        *,
        token: str | None,
        timing: bool,
        log_requests: bool,
        surroundings: Surroundings = DEFAULT_SURROUNDINGS,
    ) -> None:
        self.metrics = Metrics()
        self.statistics = Statistics()
        self._prefix = surroundings.path_prefix
        self._origins = surroundings.origins
        self.draining = False
        self._served = served
        self._limits = limits
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._timing = timing
        self._log_requests = log_requests
        self._batcher = Batcher(
            served.compute,
            self.metrics,
            statistics=self.statistics,
            max_batch=limits.max_batch,
            max_queue=limits.max_queue,
            max_delay_s=limits.max_delay_s,
        )
        self._buffered = 0
        models = (f"/v2/models/{served.name}", f"/v2/models/{served.name}/versions/{served.version}")
        self._get: dict[str, Callable[[], Reply]] = {
            "/v2": self._server_metadata,
            "/v2/health/live": lambda: _json({"live": True}),
            "/v2/health/ready": lambda: self._readiness({"live": True, "ready": True}),
            "/metrics": lambda: Reply(200, self.metrics.render(), ((b"content-type", CONTENT_TYPE),)),
        }
        for model in models:
            self._get[model] = self._model_metadata
            self._get[f"{model}/config"] = self._model_config
            self._get[f"{model}/stats"] = self._model_statistics
            self._get[f"{model}/ready"] = lambda: self._readiness({"name": served.name, "ready": True})
        self._get["/v2/models/stats"] = self._model_statistics
        self._infer_paths = frozenset(f"{model}/infer" for model in models)
        self.metrics.queue_users.set_function(lambda: self._batcher.waiting_users)
        self.metrics.ready.set_function(lambda: float(not self.draining))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            raise RuntimeError(f"this application serves http, not {scope['type']}")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def start(self) -> None:
        """Start to compute; for hosts that run no ASGI lifespan."""
        self._batcher.start()

    def stop(self) -> None:
        """Stop computing."""
        self._batcher.stop()

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        facts: dict[str, Any] = {}
        started = time.perf_counter()
        try:
            if self._prefix:
                scope = self._without_prefix(scope)
            reply = await self._reply(scope, receive, facts)
        except _ClientGoneError:
            reply = Reply(CLIENT_GONE, b"")
        except Refusal as refusal:
            close = ((b"connection", b"close"),) if refusal.close else ()
            reply = Reply(refusal.status, encode_error(str(refusal)), (_JSON, *refusal.headers, *close))
        except Exception:
            _log.exception("internal error")
            reply = Reply(500, encode_error("internal error"), (_JSON, (b"connection", b"close")))
        if scope["path"] in self._infer_paths:
            self.metrics.answered(reply.status)
            if reply.status != 200:
                self.statistics.refused(time.perf_counter() - started)
        if reply.status != CLIENT_GONE:
            headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
            headers += self._origins.headers(_header(scope, b"origin"))
            if self.draining:
                headers.append((b"connection", b"close"))
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})
        if self._log_requests:
            _log.info("request", extra={"facts": _request_facts(scope) | {"status": reply.status} | facts})

    async def _reply(self, scope: Message, receive: Receive, facts: dict[str, Any]) -> Reply:
        """The answer to a request; ``facts`` takes what the log is to tell of it."""
        path, method = scope["path"], scope["method"]
        if method == "OPTIONS" and (allowed := self._origins.preflight(_header(scope, b"origin"))) is not None:
            return Reply(204, b"", tuple(allowed))  # a browser asks before it sends the token
        if path not in OPEN_PATHS:
            self._authorize(scope)
        if path in self._infer_paths:
            _allow(method, path, "POST")
            return await self._infer(scope, receive, facts)
        if path == "/v2/repository/index":
            _allow(method, path, "POST", "GET")
            index = repository_index(self._served.name, self._served.version, ready=not self.draining)
            return Reply(200, json.dumps(index).encode())
        handler = self._get.get(path) or self._get.get(path.removesuffix("/"))
        if handler is None:
            raise Refusal(self._no_such(path), status=404, close=True)
        _allow(method, path, "GET", "HEAD")
        return handler()

    def _without_prefix(self, scope: Message) -> Message:
        path = scope["path"]
        if path != self._prefix and not path.startswith(f"{self._prefix}/"):
            raise Refusal(f"no endpoint {path[:200]}: paths begin with {self._prefix}", status=404, close=True)
        return {**scope, "path": path.removeprefix(self._prefix)}

    def _authorize(self, scope: Message) -> None:
        if self._authorization is None:
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(given, self._authorization):
            challenge = ((b"www-authenticate", b"Bearer"),)
            raise Refusal("a valid bearer token is needed", status=401, headers=challenge, close=True)

    def _no_such(self, path: str) -> str:
        """Which part of a path is unknown."""
        name, version = self._served.name, self._served.version
        match path.split("/")[1:]:
            case ["v2", "models", model, *_] if model != name:
                return f"no model '{model[:60]}': this server has '{name}'"
            case ["v2", "models", _, "versions", given, *_] if given != version:
                return f"no version '{given[:80]}' of model '{name}': this server has '{version}'"
        return f"no endpoint {path[:200]}"

    def _server_metadata(self) -> Reply:
        return _json({"name": SERVER_NAME, "version": __version__, "extensions": [*EXTENSIONS, *OPERATORS]})

    def _model_metadata(self) -> Reply:
        def tensors(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
            return [
                {
                    "name": x.name,
                    "datatype": DATATYPES[x.dtype],
                    "shape": [-1 if isinstance(n, str) else n for n in x.shape],
                }
                for x in specs
            ]

        served = self._served
        return _json(
            {
                "name": served.name,
                "versions": [served.version],
                "platform": PLATFORM,
                "inputs": tensors(served.contract.inputs),
                "outputs": tensors(served.contract.outputs),
            }
        )

    def _model_config(self) -> Reply:
        contract, limits = self._served.contract, self._limits
        batching = {"max_batch": limits.max_batch, "max_delay_s": limits.max_delay_s}
        return _json(model_config(self._served.name, contract.inputs, contract.outputs, **batching))  # type: ignore[arg-type]

    def _model_statistics(self) -> Reply:
        return _json(self.statistics.as_dict(self._served.name, self._served.version))

    def _readiness(self, facts: dict[str, Any]) -> Reply:
        if self.draining:
            raise busy("the server is stopping")
        return _json(facts)

    async def _infer(self, scope: Message, receive: Receive, facts: dict[str, Any]) -> Reply:
        headers = dict(scope["headers"])
        self._check_length(headers.get(b"content-length", b"0"))
        if self._batcher.full:  # before a byte of the body is looked at
            raise busy("too many users are waiting: come again later", close=b"content-length" not in headers)
        encoding = b", ".join(value for name, value in scope["headers"] if name == b"content-encoding") or None
        body = await self._read_body(receive)
        if encoding is not None:
            body = decoded(body, encoding, self._limits.max_body_bytes)
        received = time.perf_counter()
        request = parse_request(
            body,
            headers.get(HEADER_LENGTH),
            self._served.contract,
            max_users=self._limits.max_batch,
            vocab_size=self._served.vocab_size,
        )
        del body  # not while the request waits
        waits = self._batcher.makes_wait
        job = self._batcher.submit(request.H)
        arrays = await (self._answer_or_gone(job, receive) if waits else job.future)
        self.metrics.queue_time.observe(job.queue_s)
        self.metrics.users.inc(job.users)
        self.statistics.succeeded(
            job.users,
            total_s=time.perf_counter() - received,
            queue_s=job.queue_s,
            compute_s=job.compute_s,
        )
        content, json_size = encode_response(
            request, arrays, model_name=self._served.name, model_version=self._served.version
        )
        reply = Reply(200, content)
        if json_size is not None:
            reply = Reply(200, content, (_BINARY, (HEADER_LENGTH, b"%d" % json_size)))
        if self._log_requests:
            facts |= {"id": request.id, "users": job.users, "queue_s": job.queue_s, "compute_s": job.compute_s}
        if self._timing:
            reply = reply._replace(headers=(*reply.headers, _server_timing(job, received)))
        return reply

    def _check_length(self, declared: bytes) -> None:
        if not declared.isdigit():
            raise Refusal("Content-Length is not a number", close=True)
        if len(declared) > 12 or int(declared) > self._limits.max_body_bytes:
            raise _too_large(self._limits.max_body_bytes)

    async def _read_body(self, receive: Receive) -> bytes:
        """All of a body.

        Raises:
            Refusal: too large, or the server holds too many unfinished ones.
        """
        limit = self._limits.max_body_bytes
        held = 0
        chunks: list[bytes] = []
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _ClientGoneError
                chunk = message.get("body", b"")
                more = message.get("more_body", False)
                if not (more or chunks):
                    if len(chunk) > limit:
                        raise _too_large(limit)
                    return chunk
                held += len(chunk)
                self._buffered += len(chunk)
                chunks.append(chunk)
                if held > limit:
                    raise _too_large(limit)
                if not more:
                    return b"".join(chunks)
                if self._buffered > self._limits.max_buffered_bytes:
                    raise busy("the server holds too many unfinished requests: come again later", close=True)
        finally:
            self._buffered -= held

    async def _answer_or_gone(self, job: Job, receive: Receive) -> dict[str, Array]:
        """The outputs of a job that waits; it is taken back if its client goes away."""
        watch = asyncio.ensure_future(receive())  # after the body, the next message is the disconnect
        watch.add_done_callback(lambda ended: ended.cancelled() or job.future.cancel())
        try:
            return await job.future
        except asyncio.CancelledError:
            if watch.done() and not watch.cancelled():
                raise _ClientGoneError from None
            raise
        finally:
            watch.cancel()


def create_app(
    served: Served,
    limits: ServingLimits = DEFAULT_LIMITS,
    *,
    token: str | None = None,
    timing: bool = False,
    log_requests: bool = False,
    surroundings: Surroundings = DEFAULT_SURROUNDINGS,
) -> App:
    """The server of one model as an ASGI application.

    Args:
        served: the model, its contract and its version.
        limits: what it takes on.
        token: what clients must send as bearer token, except to the health endpoints.
        timing: answer with a ``Server-Timing`` header: queue, compute, and the host's monotonic clock.
        log_requests: log a line for each request.
        surroundings: a prefix of all paths, and other origins.

    Returns:
        An application for any ASGI server; the lifespan starts and stops its thread.
    """
    return App(served, limits, token=token, timing=timing, log_requests=log_requests, surroundings=surroundings)


def _header(scope: Message, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def _json(value: dict[str, Any]) -> Reply:
    return Reply(200, json.dumps(value).encode())


def _too_large(limit: int) -> Refusal:
    return Refusal(f"the body is larger than {limit} bytes", status=413, close=True)


def _allow(method: str, path: str, *allowed: str) -> None:
    if method not in allowed:
        message = f"{path[:200]} takes {' and '.join(allowed)}, not {method[:20]}"
        raise Refusal(message, status=405, headers=((b"allow", ", ".join(allowed).encode()),), close=True)


def _server_timing(job: Job, received: float) -> tuple[bytes, bytes]:
    """Milliseconds, and when the body was complete and the answer ready, on the host's monotonic clock."""
    parts = (
        f"queue;dur={job.queue_s * 1e3:.4f}",
        f"compute;dur={job.compute_s * 1e3:.4f}",
        f'received;desc="{received:.7f}"',
        f'answered;desc="{time.perf_counter():.7f}"',
    )
    return b"server-timing", ", ".join(parts).encode()


def _request_facts(scope: Message) -> dict[str, Any]:
    client = scope.get("client")
    return {"method": scope["method"], "path": scope["path"][:200], "client": client[0] if client else None}
