"""The client, against servers that behave and servers that do not."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from cocorrrec_export.runtime.onnx import OnnxRuntime
from cocorrrec_export.serving.client import ClientError, DeadlineError, GcnClient, RefusedError, SyncGcnClient
from cocorrrec_export.serving.protocol import InferRequest, encode_response
from tests.serving.conftest import Running, uploads

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def right_answer() -> bytes:
    arrays = {"k_attn": np.ones((1, 4, 10, 10), np.float32), "k_b": np.ones((1, 4, 10, 16), np.float32)}
    request = InferRequest(None, uploads(1), (("k_attn", True), ("k_b", True)))
    body, size = encode_response(request, arrays, model_name="gcn", model_version="v")
    return reply(200, body, f"Inference-Header-Content-Length: {size}")


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))[15:])
    return head + await reader.readexactly(length)


@asynccontextmanager
async def scripted(*answers: bytes | None, delay_s: float = 0.0) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers, one a request; ``None`` closes the connection instead."""
    seen: list[bytes] = []
    script = list(answers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while script:
                seen.append(await read_request(reader))
                await asyncio.sleep(delay_s)
                answer = script.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


def test_sync_and_async_give_what_the_file_computes(server: Running, gcn: OnnxRuntime) -> None:
    H = uploads(5)
    expected = gcn.run("correct", {"H": H})

    async def ask() -> dict[str, object]:
        async with GcnClient(server.address, deadline_s=30) as client:
            assert await client.ready()
            assert (await client.metadata())["name"] == "gcn"
            answers = await asyncio.gather(*(client.correct(H, request_id=str(i)) for i in range(5)))
            assert [answer.id for answer in answers] == list("01234")
            assert {answer.attempts for answer in answers} == {1}
            return dict(answers[0].tensors)

    with SyncGcnClient(server.address, deadline_s=30) as client:
        assert client.ready() and client.metadata()["versions"] == [server.facts["version"]]
        sync = client.correct(H).tensors
    for tensors in (sync, asyncio.run(ask())):
        for name, array in expected.items():
            np.testing.assert_allclose(tensors[name], array, rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]


def test_another_version_is_refused_and_both_are_named(server: Running) -> None:
    with (
        SyncGcnClient(server.address, version="0123", deadline_s=30) as client,
        pytest.raises(RefusedError, match=f"404: no version '0123' .* has '{server.facts['version']}'"),
    ):
        client.correct(uploads(1))


def test_the_connection_is_kept(server: Running) -> None:
    async def ask() -> None:
        async with GcnClient(server.address, deadline_s=30) as client:
            for _ in range(3):
                await client.correct(uploads(1))
            assert client._session is not None and client._session.connector is not None
            (pool,) = client._session.connector._conns.values()  # type: ignore[attr-defined]
            assert len(pool) == 1

    asyncio.run(ask())


def test_what_is_safe_is_tried_again() -> None:
    busy = reply(503, b'{"error": "full"}', "Retry-After: 0")

    async def ask() -> None:
        for first in (None, busy):
            async with scripted(first, right_answer()) as (address, seen), GcnClient(address, deadline_s=30) as client:
                answer = await client.correct(uploads(1))
                assert answer.attempts == 2 and len(seen) == 2 and seen[0] == seen[1]
        async with scripted(busy, busy, busy) as (address, seen), GcnClient(address, deadline_s=30) as client:
            with pytest.raises(RefusedError, match="503: full"):
                await client.correct(uploads(1))
            assert len(seen) == 3

    asyncio.run(ask())


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_what_would_fail_again_is_not_tried_again(status: int) -> None:
    async def ask() -> None:
        answer = reply(status, json.dumps({"error": "why"}).encode())
        async with scripted(answer, right_answer()) as (address, seen), GcnClient(address, deadline_s=30) as client:
            with pytest.raises(RefusedError, match=f"{status}: why") as error:
                await client.correct(uploads(1))
            assert error.value.status == status and len(seen) == 1

    asyncio.run(ask())


def test_a_deadline_covers_the_whole_call() -> None:
    async def ask() -> None:
        patient = reply(503, b'{"error": "full"}', "Retry-After: 100")
        async with scripted(patient) as (address, _), GcnClient(address, deadline_s=0.2) as client:
            with pytest.raises(DeadlineError, match="no answer within 200 ms"):
                await client.correct(uploads(1))
        async with scripted(right_answer(), delay_s=5) as (address, _), GcnClient(address) as client:
            with pytest.raises(DeadlineError, match="no answer within 50 ms"):
                await client.correct(uploads(1), deadline_s=0.05)

    asyncio.run(ask())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nInference-Header-Content-Length: 2\r\n\r\n{}",
        right_answer().replace(b"1600", b"1604"),
        b"SSH-2.0-x\r\n\r\n",
    ],
)
def test_what_is_not_the_protocol_is_one_clear_error(answer: bytes) -> None:
    async def ask() -> None:
        async with scripted(answer) as (address, _), GcnClient(address, deadline_s=30, retries=0) as client:
            with pytest.raises(ClientError, match=address):
                await client.correct(uploads(1))

    asyncio.run(ask())


def test_nobody_there() -> None:
    async def ask() -> None:
        async with scripted() as (address, _):
            pass
        async with GcnClient(address, deadline_s=30) as client:
            assert not await client.ready()
            with pytest.raises(ClientError, match="Cannot connect"):
                await client.correct(uploads(1))
            with pytest.raises(ClientError, match="Cannot connect"):
                await client.metadata()

    asyncio.run(ask())
