"""Odd requests to a real server: one error each or the right answer, none lost from the counts, in bounded memory."""

import http.client
import json
import random
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.runtime.onnx import OnnxRuntime
from cocorrrec_export.serving.protocol import encode_request, parse_response
from tests.hostile.mutants import json_mutants, mutants
from tests.serving.conftest import running, uploads

INFER = "/v2/models/gcn/infer"
GROWTH_BYTES = 64 << 20
REFUSED = {400, 404, 405, 411, 413, 415, 431}


@dataclass(frozen=True)
class Asked:
    """One request."""

    body: bytes
    method: str = "POST"
    path: str = INFER
    headers: dict[str, str] = field(default_factory=dict)


def odd_requests(count: int, *, seed: int) -> Iterator[Asked]:
    """Bodies that were damaged, JSON that says something else, odd headers, methods and paths, and good ones."""
    rng = random.Random(seed)
    H = uploads(2, seed=seed)
    binary, size = encode_request(H)
    tensor = {"name": "H", "shape": list(H.shape), "datatype": "FP32", "data": H.reshape(-1).tolist()}
    plain = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = {"Inference-Header-Content-Length": str(size)}
    damaged = (mutants(binary, count, seed=seed), mutants(plain, count, seed=seed + 1))
    other = json_mutants(plain, count, seed=seed + 2)
    for _ in range(count):
        kind = rng.randrange(8)
        if kind == 0:
            yield Asked(binary, headers=length)
        elif kind in (1, 2):
            yield Asked(next(damaged[0]), headers=length)
        elif kind == 3:
            yield Asked(next(damaged[1]))
        elif kind in (4, 5):
            yield Asked(next(other))
        elif kind == 6:
            value = rng.choice(("", "-1", "0", "99999999999999999999", "1e3", "x", str(size - 1), str(size + 1)))
            yield Asked(binary, headers={"Inference-Header-Content-Length": value})
        else:
            path = rng.choice((INFER, "/v2/models/other/infer", "/v2/models/gcn/versions/x/infer", "/v2/../etc", "//"))
            yield Asked(plain, method=rng.choice(("GET", "PUT", "DELETE", "PATCH")), path=path)


def read_apart(asked: Asked) -> "np.ndarray | None":
    """The upload of a request, read by other means than the server's; None where it is none."""
    try:
        size = asked.headers.get("Inference-Header-Content-Length")
        text = asked.body if size is None else asked.body[: int(size)]
        document = json.loads(text.decode(errors="replace"))  # a key that nobody knows may be called anything
        (tensor,) = document["inputs"]
        if "data" in tensor:
            H = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        else:
            assert size is not None
            H = np.frombuffer(asked.body[int(size) :], "<f4").reshape(tensor["shape"])
    except (ValueError, KeyError, TypeError, AssertionError, OverflowError):
        return None
    return H


def answered_rightly(asked: Asked, answer: http.client.HTTPResponse, gcn: OnnxRuntime) -> bool:
    """Whether an answer of 200 is what the file computes of the upload."""
    body, H = answer.read(), read_apart(asked)
    size = answer.headers.get("Inference-Header-Content-Length")
    if H is None or size is None:
        return H is not None and "outputs" in json.loads(body)
    found = parse_response(body, int(size))[1]
    expected = gcn.run("correct", {"H": H})
    return all(np.allclose(found[name], expected[name], rtol=1e-4, atol=1e-5) for name in found)


def counts(address: str) -> Counter[int]:
    """Infer requests answered, by status, as the server counts."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    rows = re.findall(r'^cocorr_requests_total\{status="(\d+)"\} (\S+)$', text, re.MULTILINE)
    return Counter({int(status): int(float(count)) for status, count in rows})


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_odd_requests(gcn_fp32: Artifact, count: int) -> None:
    gcn, ends = OnnxRuntime(gcn_fp32.program, gcn_fp32.entry_points), Counter[int]()
    with running(gcn_fp32.path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        before = 0
        for number, asked in enumerate(odd_requests(count, seed=count)):
            connection.request(asked.method, asked.path, asked.body, asked.headers)
            answer = connection.getresponse()
            if answer.status == 200:
                assert answered_rightly(asked, answer, gcn), (number, asked.headers, asked.body[:300])
            else:
                assert answer.status in REFUSED, (number, answer.status, asked.headers, asked.body[:300])
                said = answer.read()
                assert b"Traceback" not in said and len(said) < 2000
            if asked.path == INFER:
                ends[answer.status] += 1
            if answer.headers.get("Connection", "").lower() == "close":
                connection.close()
            if number == count // 10:
                before = server.resident_bytes
        connection.close()
        grown = server.resident_bytes - before
        assert grown < GROWTH_BYTES
        print(f"{count:,} requests, no wrong answer; {before / 1e6:.0f} MB, grown by {grown / 1e6:.1f} MB")
        found = counts(server.address)
        assert found == ends, (found, ends)
        print(f"infer requests by status, as counted: {dict(sorted(ends.items()))}")
        assert ends[200] > count / 10 and sum(ends.values()) > count / 2
        code, log = server.stop()
    assert code == 0
    assert [line["message"] for line in log] == ["started", "stopped"]
