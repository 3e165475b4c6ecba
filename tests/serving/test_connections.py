"""What a connection may do before, around and after its requests, by raw sockets and by curl."""

import contextlib
import gzip
import json
import os
import resource
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.runtime.onnx import OnnxRuntime
from cocorrrec_export.serving.protocol import encode_request
from tests.serving.asgi import INFER
from tests.serving.conftest import ROOT, Running, running, uploads
from tests.serving.test_faults import check_it_still_works, connect, raw_request, read_until_closed
from tests.serving.test_server import serve

OPENSSL = shutil.which("openssl")
UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


def answers(received: bytes) -> list[tuple[int, bytes]]:
    """Status and body of every answer."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
        size = int(lengths[0].partition(b":")[2])
        found.append((int(head.split()[1]), rest[:size]))
        received = rest[size:]
    return found


def ask(port: int, *requests: bytes) -> list[tuple[int, bytes]]:
    """One answer for each request; the connection stays open for as long as the server likes."""
    with connect(port) as connection:
        received = b""
        for request in requests:
            connection.sendall(request)
        while complete(received) < len(requests) and (data := connection.recv(65536)):
            received += data
        return answers(received)


def complete(received: bytes) -> int:
    """How many whole answers there are."""
    count = 0
    while b"\r\n\r\n" in received:
        head, _, rest = received.partition(b"\r\n\r\n")
        size = int(next(x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length"))[15:])
        if len(rest) < size:
            break
        received, count = rest[size:], count + 1
    return count


@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("offer", [UPGRADE, "Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n"])
def test_an_offer_of_another_protocol_is_answered_in_this_one(
    server: Running, gcn: OnnxRuntime, parts: int, offer: str
) -> None:
    H = uploads(2, seed=parts)
    body, size = encode_request(H)
    whole = raw_request(body, f"Inference-Header-Content-Length: {size}\r\n{offer}")
    after = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    step = -(-len(whole) // parts)
    with connect(server.port) as connection:
        for start in range(0, len(whole), step):
            connection.sendall(whole[start : start + step])
            time.sleep(0.02)
        connection.sendall(after)
        (first, second) = answers(read_until_closed(connection))
    assert first[0] == 200 and second == (200, b'{"live": true}')
    expected = gcn.run("correct", {"H": H})
    assert np.allclose(np.frombuffer(first[1][-expected["k_b"].nbytes :], "<f4"), expected["k_b"].ravel(), atol=1e-5)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_with_http2(server: Running, tmp_path: Path) -> None:
    body, size = encode_request(uploads(1))
    (tmp_path / "body").write_bytes(body)
    header = f"Inference-Header-Content-Length: {size}"
    command = ["curl", "-sS", "--http2", "--max-time", "20", "-H", header, "--data-binary", f"@{tmp_path / 'body'}"]
    command += ["-o", str(tmp_path / "answer"), "-w", "%{http_code}", f"{server.address}{INFER}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "200"


def test_connect_is_refused(server: Running) -> None:
    assert ask(server.port, b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n")[0][0] == 405


def test_headers_are_bounded_in_one_segment_too(server: Running) -> None:
    for padding in ("X: " + "a" * 20_000 + "\r\n", "".join(f"X-{i}: {i}\r\n" for i in range(2000))):
        request = f"GET /v2 HTTP/1.1\r\nHost: x\r\n{padding}\r\n".encode()
        assert ask(server.port, request)[0][0] == 431
    assert ask(server.port, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")[0][0] == 431
    small = "".join(f"X-{i}: {i}\r\n" for i in range(500))
    request = f"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n{small}Connection: close\r\n\r\n".encode()
    assert ask(server.port, request)[0][0] == 200


@pytest.mark.parametrize("size", [40_000, 250_000])
def test_small_requests_that_were_sent_ahead_are_not_taken_for_large_ones(server: Running, size: int) -> None:
    """More bytes at once than one header may have, and the last request of a piece is not whole."""
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    count = size // len(request)
    with connect(server.port) as connection:
        connection.sendall(request * count + request[:20])
        received = b""
        while received.count(b"HTTP/1.1 ") < count and (data := connection.recv(65536)):
            received += data
        connection.sendall(request[20:])
        while received.count(b"HTTP/1.1 ") <= count and (data := connection.recv(65536)):
            received += data
    assert received.count(b"HTTP/1.1 200 ") == count + 1
    # What follows a piece with other requests counts as before.
    with connect(server.port) as connection:
        connection.sendall(request * 3 + b"GET /v2 HTTP/1.1\r\nX: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(b"a" * 8192)
                time.sleep(0.005)
        received = read_until_closed(connection)
    assert received.count(b"HTTP/1.1 431 ") <= 1 and received.count(b"HTTP/1.1 200 ") <= 3
    assert server.process.poll() is None


def test_a_client_that_asks_ahead_and_leaves_writes_no_traceback(gcn_fp32: Artifact, gcn: OnnxRuntime) -> None:
    body, size = encode_request(uploads(1))
    request = raw_request(body, f"Inference-Header-Content-Length: {size}\r\n")
    with running(gcn_fp32.path) as started:
        for count in (3, 20):
            for linger in (True, False):
                with connect(started.port) as connection:
                    if linger:  # leaves with a reset
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    connection.sendall(request * count)
                    time.sleep(0.02)
        check_it_still_works(started.address, gcn)
        code, log = started.stop()
    assert code == 0
    assert not [line for line in log if line["level"] not in ("info", "debug")], log


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_packed_bodies_are_taken_within_bounds(server: Running, name: str, pack: object) -> None:
    body, size = encode_request(uploads(2))
    headers = f"Content-Encoding: {name}\r\nInference-Header-Content-Length: {size}\r\nConnection: close\r\n"
    packed = pack(body)  # type: ignore[operator]
    assert ask(server.port, raw_request(packed, headers))[0][0] == 200
    bomb = pack(b"0" * (64 << 20))  # type: ignore[operator]
    assert len(bomb) < 200_000
    for damaged, status in ((bomb, 413), (packed[:-9], 400), (b"no " + packed, 400), (packed + b"more", 400)):
        assert ask(server.port, raw_request(damaged, headers))[0][0] == status
    for other in ("br", f"{name}, {name}", f"{name}\r\nContent-Encoding: {name}", f"br\r\nContent-Encoding: {name}"):
        assert ask(server.port, raw_request(pack(packed), f"Content-Encoding: {other}\r\n"))[0][0] == 415  # type: ignore[operator]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if OPENSSL is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    command = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder / "cert", folder / "key"


def trusting(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    return context


def test_unfinished_handshakes_are_bounded_in_number_and_time(
    gcn_fp32: Artifact, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    with running(
        gcn_fp32.path, "--tls-cert", cert, "--tls-key", key, "--max-connections", 20, "--timeout", 2
    ) as started:
        idle = [connect(started.port) for _ in range(60)]
        time.sleep(0.5)
        open_now = len(list(Path(f"/proc/{started.process.pid}/fd").iterdir()))
        for connection in idle:
            connection.settimeout(10)
        start = time.monotonic()
        for connection in idle:  # the server closes every one of them
            read_until_closed(connection)
            connection.close()
        assert time.monotonic() - start < 8
        assert len(list(Path(f"/proc/{started.process.pid}/fd").iterdir())) <= open_now - 20
        with connect(started.port) as raw, trusting(cert).wrap_socket(raw) as secure:
            secure.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert answers(read_until_closed(secure)) == [(200, b'{"live": true}')]
        assert started.stop()[0] == 0


def test_tls_with_bodies_in_many_segments(gcn_fp32: Artifact, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with running(gcn_fp32.path, "--tls-cert", cert, "--tls-key", key) as started:
        body, size = encode_request(uploads(40))
        request = raw_request(body, f"Inference-Header-Content-Length: {size}\r\n")
        for _ in range(5):
            with connect(started.port) as raw, trusting(cert).wrap_socket(raw) as secure:
                secure.sendall(request * 3 + b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert [status for status, _ in answers(read_until_closed(secure))] == [200] * 4


def test_an_encrypted_key_is_said_and_not_asked_for(gcn_fp32: Artifact, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    locked = key.with_name("locked")
    assert OPENSSL is not None
    command = [OPENSSL, "pkey", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    ended = serve(gcn_fp32.path, "--port", 0, "--tls-cert", cert, "--tls-key", locked)
    assert ended.returncode == 1 and "the key is encrypted" in ended.stderr and str(locked) in ended.stderr
    ended = serve(gcn_fp32.path, "--port", 0, "--tls-cert", cert, "--tls-key", key.with_name("none"))
    assert ended.returncode == 1 and "the key cannot be read" in ended.stderr


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_is_said(gcn_fp32: Artifact, host: str) -> None:
    ended = serve(gcn_fp32.path, "--host", host)
    assert ended.returncode == 2 and "--host is empty" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("limit", [64, 150, 1000])
def test_too_few_descriptors_are_found_out_before_the_start(gcn_fp32: Artifact, limit: int) -> None:
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
        "from cocorrrec_export.cli.serve.app import main; main()"
    )
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "gcn",
            str(gcn_fp32.path),
            "--port",
            "0",
            "--json",
            "--max-connections",
            "4000",
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (1, ""), ended.stderr
    assert "4000 connections need 4096 open files" in ended.stderr and f"may have {limit}" in ended.stderr
    assert ("--max-connections" in ended.stderr) == (limit > 96)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > limit


def test_a_log_that_nobody_reads_stops_nothing(gcn_fp32: Artifact, gcn: OnnxRuntime) -> None:
    with running(gcn_fp32.path, "--log-requests") as started:
        request = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        for _ in range(12):  # far more than a pipe and the queue hold
            with connect(started.port) as connection:
                connection.sendall(request * 1000 + b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert len(answers(read_until_closed(connection))) == 1001
        check_it_still_works(started.address, gcn)
        (_, metrics) = ask(started.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0]
        line = next(x for x in metrics.decode().splitlines() if x.startswith("cocorr_log_dropped_total "))
        assert float(line.split()[1]) > 100
        started.process.terminate()
        assert started.process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def surrounded(gcn_fp32: Artifact) -> Iterator[Running]:
    place = ("--path-prefix", "/recommend/v1", "--cors-origin", "https://app.example")
    with running(gcn_fp32.path, *place) as started:
        yield started


def head_of(port: int, request: str) -> bytes:
    with connect(port) as connection:
        connection.sendall(f"{request}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return read_until_closed(connection).lower()


def test_a_prefix_is_in_front_of_every_path(surrounded: Running) -> None:
    def status(path: str) -> bytes:
        return head_of(surrounded.port, f"GET {path} HTTP/1.1").split()[1]

    assert [status(f"/recommend/v1{path}") for path in ("/v2", "/v2/health/live", "/metrics")] == [b"200"] * 3
    assert [status(path) for path in ("/v2", "/recommend/v12/v2", "/recommend/v1", "/v2/recommend/v1")] == [b"404"] * 4


def test_other_origins_are_told_what_they_may(surrounded: Running, server: Running) -> None:
    def asked(running_server: Running, origin: str, method: str = "GET") -> bytes:
        prefix = "/recommend/v1" if running_server is surrounded else ""
        return head_of(running_server.port, f"{method} {prefix}/v2/models/gcn HTTP/1.1\r\nOrigin: {origin}")

    assert b"access-control-allow-origin: https://app.example" in asked(surrounded, "https://app.example")
    assert b"access-control" not in asked(surrounded, "https://evil.example")
    before = asked(surrounded, "https://app.example", "OPTIONS")
    assert before.startswith(b"http/1.1 204") and b"inference-header-content-length" in before
    assert asked(surrounded, "https://evil.example", "OPTIONS").startswith(b"http/1.1 405")
    assert b"access-control" not in asked(server, "https://app.example"), "off unless it is asked for"


def test_a_unix_socket(gcn_fp32: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "gcn.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    body, size = encode_request(uploads(1))
    with running(gcn_fp32.path, "--unix-socket", path) as started:
        assert started.facts["address"] == f"unix:{path}"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(path))
            headers = f"Inference-Header-Content-Length: {size}\r\nConnection: close\r\n"
            connection.sendall(raw_request(body, headers))
            assert answers(read_until_closed(connection))[0][0] == 200
        ended = serve(gcn_fp32.path, "--unix-socket", path)
        assert ended.returncode == 1 and "choose another --unix-socket" in ended.stderr
        assert started.stop()[0] == 0
    assert not path.exists()
    path.write_text("mine")
    assert serve(gcn_fp32.path, "--unix-socket", path).returncode == 1 and path.read_text() == "mine"


def test_what_perf_analyzer_asks_for(gcn_fp32: Artifact) -> None:
    def get(port: int, path: str, method: str = "GET") -> dict:
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        status, body = ask(port, request.encode())[0]
        assert status == 200, body
        found: dict = json.loads(body)
        return found

    with running(gcn_fp32.path) as started:
        config = get(started.port, "/v2/models/gcn/config")
        assert config["input"] == [{"name": "H", "data_type": "TYPE_FP32", "dims": [10, 64]}]
        assert [x["dims"] for x in config["output"]] == [[4, 10, 10], [4, 10, 16]] and config["max_batch_size"] == 64
        (index,) = get(started.port, "/v2/repository/index", "POST")
        assert index["name"] == "gcn" and index["state"] == "READY"
        for users in (1, 3, 3):
            body, size = encode_request(uploads(users))
            headers = f"Inference-Header-Content-Length: {size}\r\nConnection: close\r\n"
            assert ask(started.port, raw_request(body, headers))[0][0] == 200
        assert ask(started.port, raw_request(b"{"))[0][0] == 400
        (model,) = get(started.port, "/v2/models/gcn/stats")["model_stats"]
        stats = model["inference_stats"]
        assert (model["inference_count"], model["execution_count"]) == (7, 3)
        assert (stats["success"]["count"], stats["fail"]["count"]) == (3, 1) and stats["compute_infer"]["ns"] > 0
        assert [(x["batch_size"], x["compute_infer"]["count"]) for x in model["batch_stats"]] == [(1, 1), (3, 2)]
        extensions = get(started.port, "/v2")["extensions"]
        assert {"model_configuration", "statistics", "model_repository"} <= set(extensions)


def test_a_token_that_others_may_read_is_warned_of(gcn_fp32: Artifact, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    for mode, warned in ((0o644, True), (0o600, False)):
        token.chmod(mode)
        # The port is taken, so that it ends.
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            ended = serve(gcn_fp32.path, "--token-file", token, "--port", taken.getsockname()[1])
        assert ("may be read by other users" in ended.stderr) == warned
        assert stat.S_IMODE(token.stat().st_mode) == mode
