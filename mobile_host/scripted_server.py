"""A server that does what the scenario named in the path asks: the same one for the tests of all three languages.

The address of a scenario's server is ``http://127.0.0.1:PORT/<kind>/<scenario>``; below it are the endpoints of the
Open Inference Protocol. A correct answer depends on the upload, with a weight for each position, so that a history that
is padded on the other side, or tensors that are swapped, change the scores.
"""

import http.server
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCENARIOS = Path(__file__).with_name("scenarios") / "exchange.json"
HEADER = "Inference-Header-Content-Length"


def weighted(values: list[float]) -> float:
    """What an upload comes to: each position's value by its place."""
    return sum((place + 1) * value for place, value in enumerate(values)) / 64


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "ScriptedServer"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Metadata and readiness."""
        kind, scenario = self._scenario()
        if self._refused(scenario):
            return
        cloud = self.server.kinds[kind]["cloud"]
        tensors = {
            side: [{"name": x["name"], "datatype": x["datatype"], "shape": [-1, *x["shape"][1:]]} for x in cloud[side]]
            for side in ("inputs", "outputs")
        }
        self._json(200, {"name": "gcn", "versions": [self.server.version], "platform": "test", **tensors})

    def do_POST(self) -> None:
        """Infer."""
        kind, scenario = self._scenario()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.posts[f"{kind}/{scenario['name']}"] = self.server.posts.get(f"{kind}/{scenario['name']}", 0) + 1
        time.sleep(scenario["server"].get("delay_ms", 0) / 1e3)
        if self._refused(scenario):
            return
        fault = scenario["server"].get("fault")
        if fault == "never":
            self.server.stopped.wait()
        if fault in ("never", "gone"):
            self.close_connection = True
            return
        answer, json_bytes = self._answer(self.server.kinds[kind]["cloud"], body, fault)
        self.send_response(200)
        self.send_header(HEADER, str(json_bytes))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if fault == "half":
            self.close_connection = True
            answer = answer[: len(answer) // 2]
        self.wfile.write(answer)

    def _scenario(self) -> tuple[str, dict[str, Any]]:
        kind, name = self.path.split("/")[1:3]
        return kind, self.server.scenarios[name]

    def _refused(self, scenario: dict[str, Any]) -> bool:
        status = scenario["server"].get("status", 200)
        if status != 200:
            self._json(status, {"error": scenario["server"]["error"]})
        return status != 200

    def _json(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, cloud: dict[str, Any], body: bytes, fault: str | None) -> tuple[bytes, int]:
        json_bytes = int(self.headers[HEADER])
        (given,) = json.loads(body[:json_bytes])["inputs"]
        (expected,) = cloud["inputs"]
        assert {key: given[key] for key in expected} == expected, given
        letter = "f" if expected["datatype"] == "FP32" else "i"
        values = struct.unpack(f"<{(len(body) - json_bytes) // 4}{letter}", body[json_bytes:])
        rows = values[:: len(values) // expected["shape"][1]]
        outputs, parts = [], []
        for place, tensor in enumerate(cloud["outputs"], start=1):
            count = 1
            for size in tensor["shape"]:
                count *= size
            value = float("nan") if fault == "nan" else place * weighted(list(rows))
            if fault == "short":
                count -= 1
            parts.append(struct.pack(f"<{count}f", *[value] * count))
            outputs.append({**tensor, "parameters": {"binary_data_size": 4 * count}})
        if fault == "reversed":
            outputs.reverse()
            parts.reverse()
        header = json.dumps({"model_name": "gcn", "model_version": self.server.version, "outputs": outputs}).encode()
        return header + b"".join(parts), len(header)


class ScriptedServer(http.server.ThreadingHTTPServer):
    """All scenarios of the file on one port.

    Attributes:
        posts: how many uploads each ``<kind>/<scenario>`` got.
    """

    daemon_threads = True

    def __init__(self, scenarios: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kinds: dict[str, Any] = scenarios["kinds"]
        self.version: str = scenarios["version"]
        self.scenarios = {each["name"]: each for each in scenarios["exchanges"]}
        self.posts: dict[str, int] = {}
        self.lock = threading.Lock()
        self.stopped = threading.Event()

    @property
    def address(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that went away is not an error of ours."""


@contextmanager
def scripted_server(read: Callable[[], str] = SCENARIOS.read_text) -> Iterator[ScriptedServer]:
    """Run one for the length of the block."""
    with ScriptedServer(json.loads(read())) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()
