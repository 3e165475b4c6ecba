"""The application, with no socket: batches, bounds, and clients that go away."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from cocorrrec_export.serving.app import App, Served, ServingLimits, create_app
from cocorrrec_export.serving.protocol import Array, encode_request, parse_response
from tests.serving.asgi import Response, call
from tests.serving.conftest import uploads
from tests.serving.test_protocol import CONTRACT, request


class Model:
    """A stand-in for the runtime that can be held, and that tells which batches it saw."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, H: Array) -> dict[str, Array]:
        assert self.go.wait(30)
        self.batches.append(len(H))
        marks = H[:, 0, 0].reshape(-1, 1, 1, 1)
        return {
            "k_attn": np.broadcast_to(marks, (len(H), 4, 10, 10)).copy(),
            "k_b": np.broadcast_to(marks, (len(H), 4, 10, 16)).copy(),
        }


@asynccontextmanager
async def started(app: App) -> AsyncIterator[App]:
    app.start()
    try:
        yield app
    finally:
        app.stop()


def app_of(model: Model, token: str | None = None, **limits: object) -> App:
    return create_app(Served(compute=model, contract=CONTRACT, version="v1"), ServingLimits(**limits), token=token)  # type: ignore[arg-type]


async def infer(app: App, H: Array, **options: object) -> Response | None:
    body, size = encode_request(H)
    return await call(app, body, headers=[(b"inference-header-content-length", b"%d" % size)], **options)  # type: ignore[arg-type]


def answer_of(response: Response | None) -> Array:
    assert response is not None and response.status == 200, response
    size = int(response.headers[b"inference-header-content-length"])
    return parse_response(response.body, size)[1]["k_b"]


def error_of(response: Response | None) -> str:
    assert response is not None
    assert response.headers[b"content-type"] == b"application/json"
    facts = json.loads(response.body)
    assert facts.keys() == {"error"}
    return facts["error"]


def metric(app: App, name: str) -> float:
    value = app.metrics.registry.get_sample_value(name)
    assert value is not None
    return value


def test_what_waits_for_a_batch_becomes_the_next_one_and_each_gets_its_own() -> None:
    async def scenario() -> None:
        model = Model()
        async with started(app_of(model, max_batch=8)) as app:
            model.go.clear()
            uploaded = [uploads(1 + i % 3, seed=i) for i in range(10)]
            calls = [asyncio.ensure_future(infer(app, uploaded[0]))]
            await asyncio.sleep(0.05)
            calls += [asyncio.ensure_future(infer(app, H)) for H in uploaded[1:]]
            await asyncio.sleep(0.05)
            model.go.set()
            for H, response in zip(uploaded, await asyncio.gather(*calls), strict=True):
                np.testing.assert_array_equal(answer_of(response)[:, 0, 0, 0], H[:, 0, 0])
            assert model.batches[0] == 1 and sum(model.batches) == sum(map(len, uploaded))
            assert len(model.batches) <= 4 and max(model.batches) <= 8
            assert metric(app, "cocorr_users_total") == sum(map(len, uploaded))
            assert metric(app, "cocorr_batch_size_count") == len(model.batches)

    asyncio.run(scenario())


def test_a_delay_lets_a_batch_fill_up() -> None:
    async def scenario() -> None:
        model = Model()
        async with started(app_of(model, max_batch=4, max_delay_s=30.0)) as app:
            calls = []
            for i in range(4):  # in four turns of the loop: without the delay the first would go alone
                calls.append(asyncio.ensure_future(infer(app, uploads(1, seed=i))))
                await asyncio.sleep(0.01)
            await asyncio.wait_for(asyncio.gather(*calls), 20)
            assert model.batches == [4]
        async with started(app_of(model, max_batch=4, max_delay_s=0.01)) as app:
            answer_of(await infer(app, uploads(1)))
            assert model.batches == [4, 1]

    asyncio.run(scenario())


def test_a_full_queue_is_503_at_once_and_the_rest_is_served() -> None:
    async def scenario() -> None:
        model = Model()
        async with started(app_of(model, max_batch=8, max_queue=4)) as app:
            model.go.clear()
            calls = [asyncio.ensure_future(infer(app, uploads(1)))]
            await asyncio.sleep(0.05)
            calls += [asyncio.ensure_future(infer(app, uploads(1))) for _ in range(4)]
            await asyncio.sleep(0.05)
            refused = await infer(app, uploads(1))
            assert refused is not None and refused.status == 503
            assert refused.headers[b"retry-after"] == b"1"
            assert "come again later" in error_of(refused)
            assert metric(app, "cocorr_shed_total") == 1 and metric(app, "cocorr_queue_users") == 4
            model.go.set()
            for response in await asyncio.gather(*calls):
                answer_of(response)
            answer_of(await infer(app, uploads(2)))

    asyncio.run(scenario())


def test_a_client_that_has_gone_is_not_computed() -> None:
    async def scenario() -> None:
        model = Model()
        async with started(app_of(model)) as app:
            model.go.clear()
            first = asyncio.ensure_future(infer(app, uploads(1)))
            await asyncio.sleep(0.05)
            gone = asyncio.Event()
            lost = [asyncio.ensure_future(infer(app, uploads(3), gone=gone)) for _ in range(5)]
            stays = asyncio.ensure_future(infer(app, uploads(1)))
            await asyncio.sleep(0.05)
            gone.set()
            assert await asyncio.gather(*lost) == [None] * 5
            model.go.set()
            answer_of(await first)
            answer_of(await stays)
            assert model.batches == [1, 1]
            assert metric(app, "cocorr_dropped_total") == 5

    asyncio.run(scenario())


def test_a_value_that_is_not_finite_hurts_its_own_request_alone() -> None:
    async def scenario() -> None:
        model = Model()
        async with started(app_of(model)) as app:
            model.go.clear()
            calls = []
            for i, value in enumerate((0.5, np.nan, 1.5, np.inf, 2.5, -np.inf)):
                H = uploads(1, seed=i)
                H[0, 0, 0] = value
                calls.append(asyncio.ensure_future(infer(app, H)))
            await asyncio.sleep(0.05)
            model.go.set()
            responses = await asyncio.gather(*calls)
            for value, response in zip((0.5, 1.5, 2.5), responses[::2], strict=True):
                assert answer_of(response)[0, 0, 0, 0] == value
            for response in responses[1::2]:
                assert response is not None and response.status == 400
                assert error_of(response) == "the input holds a value that is not a finite float32"
            body = request(data=[1e39] + [0.5] * 639)
            assert "not a finite float32" in error_of(await call(app, body))

    asyncio.run(scenario())


def test_a_model_that_fails_is_500_and_the_next_request_is_served() -> None:
    async def scenario() -> None:
        model = Model()

        def compute(H: Array) -> dict[str, Array]:
            if len(H) == 2:
                raise RuntimeError("secret")
            return model(H)

        async with started(create_app(Served(compute=compute, contract=CONTRACT, version="v1"))) as app:
            response = await infer(app, uploads(2))
            assert response is not None and response.status == 500
            assert error_of(response) == "internal error"
            answer_of(await infer(app, uploads(1)))

    asyncio.run(scenario())


def test_bodies_are_bounded_one_by_one_and_together() -> None:
    async def scenario() -> None:
        app = app_of(Model(), max_body_bytes=4000, max_buffered_bytes=5000)
        async with started(app):
            for options in (
                {"headers": [(b"content-length", b"4001")]},
                {"headers": [(b"content-length", b"9" * 5000)]},
                {"chunks": [b"x" * 3000, b"x" * 1001]},
                {"body": b"x" * 4001},
            ):
                response = await call(app, **options)  # type: ignore[arg-type]
                assert response is not None and response.status == 413
                assert response.headers[b"connection"] == b"close"
                assert error_of(response) == "the body is larger than 4000 bytes"
            never = asyncio.Event()

            async def receive() -> dict[str, object]:
                if not receive.sent:  # type: ignore[attr-defined]
                    receive.sent = True  # type: ignore[attr-defined]
                    return {"type": "http.request", "body": b"x" * 3000, "more_body": True}
                await never.wait()
                return {"type": "http.disconnect"}

            receive.sent = False  # type: ignore[attr-defined]

            async def send(_: object) -> None: ...

            scope = {"type": "http", "method": "POST", "path": "/v2/models/gcn/infer", "headers": []}
            slow = asyncio.ensure_future(app(scope, receive, send))  # type: ignore[arg-type]
            await asyncio.sleep(0.02)
            response = await call(app, chunks=[b"x" * 2500, b"x"])
            assert response is not None and response.status == 503
            never.set()
            await slow
            assert error_of(await call(app, chunks=[b"x" * 2500, b"x"])).startswith("the request is not JSON")

    asyncio.run(scenario())


def test_paths_methods_and_tokens() -> None:
    async def scenario() -> None:
        async with started(app_of(Model(), token="secret")) as app:
            right = [(b"authorization", b"Bearer secret")]

            async def status(path: str, method: str = "GET", headers: object = right) -> int:
                response = await call(app, path=path, method=method, headers=headers)  # type: ignore[arg-type]
                assert response is not None
                if response.status >= 400:
                    error_of(response)
                return response.status

            for path in ("/v2", "/v2/", "/metrics", "/v2/models/gcn", "/v2/models/gcn/versions/v1/ready"):
                assert await status(path) == 200, path
                assert await status(path, headers=[]) == 401, path
                assert await status(path, headers=[(b"authorization", b"Bearer wrong")]) == 401, path
            for path in ("/v2/health/live", "/v2/health/ready"):
                assert await status(path, headers=[]) == 200
                assert await status(path, "HEAD", headers=[]) == 200
            for path in ("/", "/v1", "/v2/models", "/v2/models/gcn/versions/v2", "/v2/models/x/ready", "//", "/v2/x/y"):
                assert await status(path) == 404, path
            assert await status("/v2/models/gcn/infer") == 405
            assert await status("/v2/models/gcn", "DELETE") == 405
            assert await status("/v2/models/gcn/infer", "POST", [(b"content-encoding", b"br"), *right]) == 415

    asyncio.run(scenario())


def test_readiness_goes_off_while_requests_are_still_served() -> None:
    async def scenario() -> None:
        async with started(app_of(Model())) as app:
            app.draining = True
            for path in ("/v2/health/ready", "/v2/models/gcn/ready"):
                response = await call(app, path=path, method="GET")
                assert response is not None and response.status == 503
                assert "stopping" in error_of(response)
            live = await call(app, path="/v2/health/live", method="GET")
            assert live is not None and live.status == 200
            response = await infer(app, uploads(1))
            answer_of(response)
            assert response is not None and response.headers[b"connection"] == b"close"

    asyncio.run(scenario())


def test_the_application_serves_http_alone() -> None:
    async def nothing(*_: object) -> dict[str, object]:
        return {}

    with pytest.raises(RuntimeError, match="serves http, not websocket"):
        asyncio.run(app_of(Model())({"type": "websocket"}, nothing, nothing))  # type: ignore[arg-type]
