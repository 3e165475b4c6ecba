"""What clients, networks and operators do to a server."""

import asyncio
import contextlib
import json
import random
import shutil
import socket
import time
from collections import Counter
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.runtime.onnx import OnnxRuntime
from cocorrrec_export.serving.app import Served, create_app
from cocorrrec_export.serving.client import GcnClient, SyncGcnClient
from cocorrrec_export.serving.protocol import HEADER_LENGTH, encode_request
from tests.serving.asgi import INFER, call
from tests.serving.conftest import Running, running, uploads
from tests.serving.test_protocol import request

PATIENCE = 60.0
"""Seconds that a test waits for something that should come soon."""


def check_it_still_works(address: str, gcn: OnnxRuntime) -> None:
    H = uploads(3)
    with SyncGcnClient(address, deadline_s=PATIENCE) as client:
        answer = client.correct(H)
    for name, expected in gcn.run("correct", {"H": H}).items():
        np.testing.assert_allclose(answer.tensors[name], expected, rtol=1e-5, atol=1e-5)


def raw_request(body: bytes, headers: str = "", *, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + body


def binary_request(users: int = 1) -> bytes:
    body, size = encode_request(uploads(users))
    return raw_request(body, f"Inference-Header-Content-Length: {size}\r\n")


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def read_until_closed(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


def test_clients_that_vanish_in_the_middle_of_a_body(server: Running, gcn: OnnxRuntime) -> None:
    whole = binary_request()
    for share in np.linspace(0.02, 0.999, 60):
        with connect(server.port) as connection:
            connection.sendall(whole[: int(len(whole) * share)])
    # The same, with a reset in the place of an orderly end.
    for share in np.linspace(0.02, 1.0, 60):
        connection = connect(server.port)
        connection.sendall(whole[: int(len(whole) * share)])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    check_it_still_works(server.address, gcn)


def test_clients_that_dribble_are_ended_and_slow_nobody_down(gcn_fp32: Artifact, gcn: OnnxRuntime) -> None:
    whole = binary_request()
    head, body = whole.split(b"\r\n\r\n", 1)
    with running(gcn_fp32.path, "--timeout", 1.5, "--max-connections", 200) as server:
        idle = [connect(server.port) for _ in range(20)]
        slow = [connect(server.port) for _ in range(60)]
        for i, connection in enumerate(slow):
            connection.sendall(head[: 10 + i] if i % 2 else head + b"\r\n\r\n" + body[: 10 * i])
        check_it_still_works(server.address, gcn)
        for _ in range(3):  # a byte now and then does not buy more time
            time.sleep(0.3)
            for i, connection in enumerate(slow):
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b"a" if i % 2 else b"\0")
        for connection in slow:
            received = read_until_closed(connection)
            assert received == b"" or received.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 ")), received
            connection.close()
        for connection in idle:
            received = read_until_closed(connection)
            assert received == b"" or received.startswith(b"HTTP/1.1 408 "), received
            connection.close()
        check_it_still_works(server.address, gcn)


def test_a_client_that_does_not_read_its_answers_is_cut_off(gcn_fp32: Artifact, gcn: OnnxRuntime) -> None:
    with running(gcn_fp32.path, "--timeout", 1) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        connection.connect(("127.0.0.1", server.port))
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                try:
                    connection.sendall(binary_request(64))
                except TimeoutError:
                    check_it_still_works(server.address, gcn)
            pytest.fail("the server still waits for its answers to be read")
        connection.close()


def test_headers_are_bounded(server: Running, gcn: OnnxRuntime) -> None:
    for junk in (b"GET /v2 HTTP/1.1\r\n" + b"x: y\r\n" * 400_000, b"GET /" + b"a" * 2_000_000):
        with connect(server.port) as connection:
            try:
                connection.sendall(junk)
            except ConnectionError:
                continue  # cut off before it was done
            received = read_until_closed(connection)
            assert received.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")) or not received
    check_it_still_works(server.address, gcn)


def test_a_body_without_end_is_cut_off(server: Running, gcn: OnnxRuntime) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with connect(server.port) as connection:
        connection.sendall(head)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 500_000_000:
                connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                sent += 0x10000
            pytest.fail("the server reads on for ever")
    check_it_still_works(server.address, gcn)


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A body that is nearly right: bytes flipped, parts cut, doubled, swapped or made up."""
    body = bytearray(rng.choice(seeds))
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(7):
            case 0:
                body[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del body[at : at + rng.choice((1, 2, 10, 1000))]
            case 2:
                body[at:at] = body[at : at + rng.choice((1, 4, 100))]
            case 3:
                body[at:at] = rng.choice(
                    (b"null", b"-1", b"1e999", b"[[", b"}", b'"', b"\0", b"\xff", b"9" * 400, b"{}")
                )
            case 4:
                body[at:] = rng.randbytes(rng.randrange(64))
            case 5:
                body = bytearray(body[: rng.randrange(1, 400)]) + body[at:]
            case 6:
                old, new = rng.choice(
                    ((b"FP32", b"FP64"), (b"2560", b"2561"), (b"shape", b"shapes"), (b"true", b"1"), (b"10", b"1e1"))
                )
                body = bytearray(bytes(body).replace(old, new, 1))
    return bytes(body)


def seed_bodies() -> tuple[list[bytes], list[int]]:
    """Right bodies, and the sizes of their JSON parts."""
    (one, size), (three, size3) = encode_request(uploads(1)), encode_request(uploads(3), request_id="x")
    nested = request(shape=[1, 10, 64], data=uploads(1).round(2).tolist())
    return [one, three, request(), nested, one[:size]], [size, size3]


async def fuzz(served: Served, count: int, seed: int) -> Counter[int]:
    """Malformed bodies into the application; the statuses that came back."""
    rng = random.Random(seed)
    app = create_app(served)
    app.start()
    statuses: Counter[int] = Counter()
    seeds, sizes = seed_bodies()
    try:
        for _ in range(count):
            body = mutated(rng, seeds)
            lengths = [None, *(b"%d" % size for size in sizes), b"%d" % rng.randrange(400), b"-1", b"1e2", b"\xff"]
            length = rng.choice(lengths)
            chunks = [body] if rng.random() < 0.8 or len(body) < 2 else [body[: len(body) // 2], body[len(body) // 2 :]]
            response = await call(app, chunks=chunks, headers=[] if length is None else [(HEADER_LENGTH, length)])
            assert response is not None
            statuses[response.status] += 1
            if response.status != 200:
                facts = json.loads(response.body)
                assert facts.keys() == {"error"} and 0 < len(facts["error"]) < 600, facts
    finally:
        app.stop()
    return statuses


def test_malformed_bodies_are_400_and_nothing_else(served: Served) -> None:
    statuses = asyncio.run(fuzz(served, 4_000, seed=1))
    assert statuses.keys() <= {200, 400}, statuses
    assert statuses[400] > 3_000


@pytest.mark.slow
def test_a_hundred_thousand_malformed_bodies(served: Served) -> None:
    statuses = asyncio.run(fuzz(served, 100_000, seed=2))
    assert statuses.keys() <= {200, 400}, statuses
    assert statuses[400] > 75_000


def test_malformed_requests_over_a_socket(server: Running, gcn: OnnxRuntime) -> None:
    rng = random.Random(3)
    whole = binary_request()
    head_bytes = whole.index(b"\r\n\r\n")
    statuses: Counter[bytes] = Counter()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(head_bytes)] = rng.randrange(256)
        with connect(server.port) as connection:
            try:
                connection.sendall(bytes(data))
                connection.shutdown(socket.SHUT_WR)
            except ConnectionError:
                continue
            statuses[read_until_closed(connection)[9:12]] += 1
    assert b"500" not in statuses
    assert statuses[b"400"] > 50
    check_it_still_works(server.address, gcn)


def test_a_model_file_that_is_replaced_or_removed_under_the_server(
    gcn_fp32: Artifact, gcn: OnnxRuntime, tmp_path: Path
) -> None:
    folder = tmp_path / "gcn"
    shutil.copytree(gcn_fp32.path, folder)
    with running(folder) as server:
        program = folder / "gcn.onnx"
        program.write_bytes(b"\0" * program.stat().st_size)  # in place: the same inode
        check_it_still_works(server.address, gcn)
        program.unlink()
        check_it_still_works(server.address, gcn)
        program.write_bytes(b"another")
        check_it_still_works(server.address, gcn)
        assert server.stop()[0] == 0
    with pytest.raises(pytest.fail.Exception, match=r"gcn.onnx has 7 bytes, the manifest says"), running(folder):
        pass


async def load(
    server: Running, seconds: float, clients: int, *, users: int = 1, stop: "asyncio.Event | None" = None
) -> Counter[str]:
    """Closed-loop clients; how their requests ended. A client that is told that the connection closes stops.

    A request whose connection broke before it was answered counts as ``lost``.
    """
    ends: Counter[str] = Counter()
    body, size = encode_request(uploads(users))
    headers = {"Inference-Header-Content-Length": str(size)}
    end = time.monotonic() + seconds

    async def client() -> None:
        connector = aiohttp.TCPConnector(limit=1)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(server.address, connector=connector, timeout=timeout) as session:
            while time.monotonic() < end:
                try:
                    async with session.post(INFER, data=body, headers=headers) as response:
                        content = await response.read()
                        ends[str(response.status)] += 1
                        if response.status == 503:
                            assert response.headers["Retry-After"] == "1" and b"error" in content
                        if response.headers.get("Connection") == "close":
                            return
                except aiohttp.ClientConnectorError:
                    ends["not accepted"] += 1
                    return
                except aiohttp.ClientError as error:
                    ends[f"lost: {error!r}"] += 1
                    return
                if stop is not None and stop.is_set():
                    return

    await asyncio.gather(*(client() for _ in range(clients)))
    return ends


def test_sigterm_under_load_loses_nothing_that_was_accepted(gcn_fp32: Artifact) -> None:
    async def scenario(server: Running) -> Counter[str]:
        clients = asyncio.ensure_future(load(server, 30.0, 24))
        await asyncio.sleep(1.0)
        server.process.terminate()
        await asyncio.sleep(0.3)
        async with aiohttp.ClientSession(server.address) as session, session.get("/v2/health/ready") as response:
            assert response.status == 503, "readiness goes off first"
        return await clients

    with running(gcn_fp32.path, "--drain-seconds", 2) as server:
        ends = asyncio.run(scenario(server))
        _, stderr = server.process.communicate(timeout=PATIENCE)
        assert server.process.returncode == 0, stderr
        assert ends.keys() == {"200"}, ends
        assert json.loads(stderr.splitlines()[-1])["message"] == "stopped"
        assert json.loads(stderr.splitlines()[-1])["requests"] >= ends["200"]


def test_overload_is_200_or_503_and_memory_stays_bounded(gcn_fp32: Artifact, gcn: OnnxRuntime) -> None:
    with running(gcn_fp32.path, "--max-queue", 64, "--max-batch", 16) as server:
        asyncio.run(load(server, 1.0, 8))
        before = server.resident_bytes
        ends = asyncio.run(load(server, 4.0, 60, users=8))
        assert ends.keys() == {"200", "503"}, ends
        assert server.resident_bytes - before < 64 << 20
        check_it_still_works(server.address, gcn)
        after = asyncio.run(load(server, 1.0, 4))
        assert after.keys() == {"200"}, "full service again"


@pytest.mark.slow
def test_overload_for_long_is_200_or_503_and_every_answer_is_counted(gcn_fp32: Artifact, gcn: OnnxRuntime) -> None:
    """23,807 requests and more, of 60 clients."""
    ends = Counter[str]()
    with running(gcn_fp32.path, "--max-queue", 64, "--max-batch", 16) as server:
        asyncio.run(load(server, 1.0, 8))
        before = server.resident_bytes
        deadline = time.monotonic() + 300
        while ends.total() < 23_807 and time.monotonic() < deadline:
            ends += asyncio.run(load(server, 5.0, 60, users=8))
        grown = server.resident_bytes - before
        check_it_still_works(server.address, gcn)
        print(f"{dict(ends)}; {before / 1e6:.0f} MB, grown by {grown / 1e6:.1f} MB")
        assert server.stop()[0] == 0
    assert ends.keys() == {"200", "503"} and ends.total() >= 23_807, ends
    assert grown < 64 << 20


def test_more_connections_than_allowed_are_told_to_come_again(gcn_fp32: Artifact, gcn: OnnxRuntime) -> None:
    with running(gcn_fp32.path, "--max-connections", 10) as server:
        held = [connect(server.port) for _ in range(10)]  # the listener takes them in turn
        with connect(server.port) as one_more:
            received = read_until_closed(one_more)
        assert received.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in received
        for connection in held:
            connection.close()
        check_it_still_works(server.address, gcn)  # its client comes again when it is told to


def test_a_client_that_goes_away_while_it_waits_is_counted(gcn_fp32: Artifact) -> None:
    async def scenario(server: Running) -> str:
        async with GcnClient(server.address, deadline_s=PATIENCE) as client:
            await client.correct(uploads(1))
            busy = [asyncio.ensure_future(client.correct(uploads(64))) for _ in range(7)]
            await asyncio.sleep(0)
            for _ in range(20):
                connection = connect(server.port)
                connection.sendall(binary_request())
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()
            await asyncio.gather(*busy)
        async with aiohttp.ClientSession(server.address) as session, session.get("/metrics") as response:
            return await response.text()

    with running(gcn_fp32.path, "--max-queue", 2048) as server:
        text = asyncio.run(scenario(server))
        assert 'cocorr_requests_total{status="200"}' in text
        assert 'cocorr_requests_total{status="500"}' not in text
        assert server.stop()[0] == 0
