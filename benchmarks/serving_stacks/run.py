"""Which server for the GCN: the well-kept ones on the same file, one after another, on one core.

Each stack serves gcn.onnx from a process tree that is pinned to core 0; wrk runs on core 1. Each needs a virtual
environment of its own under --venvs, since their requirements exclude each other:

    for name in asgi litserve ray kserve mlserver; do python3.11 -m venv VENVS/$name; done
    VENVS/asgi/bin/pip install numpy onnxruntime msgspec uvicorn uvloop httptools granian
    VENVS/NAME/bin/pip install numpy onnxruntime PACKAGE      # litserve, 'ray[serve]', kserve, mlserver

    python benchmarks/serving_stacks/run.py --venvs VENVS --gcn dist/gcn-onnx-fp32/gcn.onnx

It needs Linux, wrk (Debian package wrk), and numpy and psutil in the Python that runs it. It writes the table of
docs/decisions/0001-serving-stack.md.
"""

import argparse
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

HERE = Path(__file__).resolve().parent
CONNECTIONS = (1, 64)


@dataclass(frozen=True)
class Stack:
    """How one is started; {port} is filled in."""

    name: str
    venv: str
    command: tuple[str, ...]
    path: str = "/v2/models/gcn/infer"
    ready: str = "/v2/health/ready"
    body: str = "binary"


STACKS = (
    Stack("uvicorn, uvloop, httptools", "asgi", (
        "uvicorn", "asgi_app:app", "--port", "{port}", "--loop", "uvloop", "--http", "httptools", "--no-access-log",
        "--log-level", "error",
    )),
    Stack("granian, ASGI", "asgi", (
        "granian", "--interface", "asginl", "--port", "{port}", "--loop", "uvloop", "--no-log", "asgi_app:app",
    )),
    Stack("KServe SDK", "kserve", ("python", "kserve_app.py", "{port}")),
    # MLServer 1.7.1 answers a binary body with 500: today's FastAPI checks the body before MLServer's own parser does.
    Stack("MLServer, JSON", "mlserver", ("mlserver", "start", "{folder}"), body="json"),
    Stack("LitServe", "litserve", ("python", "litserve_app.py", "{port}"), "/predict", "/health", "base64"),
    Stack("Ray Serve", "ray", ("python", "ray_app.py", "{port}"), "/", "/"),
)  # fmt: skip
ALL = [stack.venv for stack in STACKS]
HEAD = "| stack | packages | environment MB | resident MB | " + " | ".join(
    f"{c} connection{'s' * (c > 1)}: req/s, p50, p99 ms" for c in CONNECTIONS
) + " | failed |"  # fmt: skip
DECISION = HERE.parents[1] / "docs" / "decisions" / "0001-serving-stack.md"
BEGIN, END = "<!-- stacks -->", "<!-- /stacks -->"


def request_bodies(folder: Path) -> dict[str, tuple[Path, int]]:
    """One user's request in each form, and the bytes of its JSON part."""
    H = np.random.default_rng(0).standard_normal((1, 10, 64), dtype=np.float32)
    tensor = {"name": "H", "shape": [1, 10, 64], "datatype": "FP32"}
    binary = tensor | {"parameters": {"binary_data_size": H.nbytes}}
    header = json.dumps({"inputs": [binary], "parameters": {"binary_data_output": True}}).encode()
    (folder / "binary").write_bytes(header + H.tobytes())
    (folder / "json").write_text(json.dumps({"inputs": [tensor | {"data": H.ravel().tolist()}]}))
    (folder / "base64").write_text(json.dumps({"H": base64.b64encode(H.tobytes()).decode()}))
    return {name: (folder / name, len(header) if name == "binary" else 0) for name in ("binary", "json", "base64")}


def mlserver_folder(folder: Path, port: int) -> None:
    """The settings that MLServer reads."""
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps(settings | {"debug": False, "logging_settings": None}))
    model = {"name": "gcn", "implementation": "mlserver_app.GcnModel", "max_batch_size": 64, "max_batch_time": 0.0005}
    (folder / "model-settings.json").write_text(json.dumps(model))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(stack: Stack, venvs: Path, gcn: Path, folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A stack that is ready, on core 0."""
    port = free_port()
    if stack.venv == "mlserver":
        mlserver_folder(folder, port)
    binary = venvs / stack.venv / "bin" / stack.command[0]
    arguments = [part.format(port=port, folder=folder) for part in stack.command[1:]]
    environment = os.environ | {"GCN": str(gcn.resolve()), "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["taskset", "-c", "0", binary, *arguments],
            cwd=HERE, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_ready(f"http://127.0.0.1:{port}{stack.ready}", process, folder / "log")
        yield port, psutil.Process(process.pid)
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in psutil.wait_procs(children, timeout=5)[1]:
            child.kill()


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the stack answers."""
    for _ in range(240):
        if process.poll() is not None:
            raise SystemExit(f"the server ended:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit(f"{url} is not ready:\n{log.read_text()[-3000:]}")


def wrk(port: int, stack: Stack, bodies: dict[str, tuple[Path, int]], connections: int, seconds: int) -> dict:
    """What wrk measured from core 1."""
    path, header = bodies[stack.body]
    done = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency",
         "-s", str(HERE / "post.lua"), f"http://127.0.0.1:{port}{stack.path}"],
        env=os.environ | {"BODY": str(path), "HEADER_BYTES": str(header)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))[7:])


def resident_bytes(process: psutil.Process) -> int:
    """Of a process and all its children."""
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


def venv_facts(venv: Path) -> tuple[int, int]:
    """Packages and megabytes of an environment."""
    packages = sum(1 for _ in venv.glob("lib/python*/site-packages/*.dist-info"))
    size = sum(path.stat().st_size for path in venv.rglob("*") if path.is_file() and not path.is_symlink())
    return packages, size >> 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=Path, required=True)
    parser.add_argument("--gcn", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=ALL, help="names of environments")
    options = parser.parse_args()
    lines = [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    for stack in STACKS:
        if stack.venv in options.only:
            lines.append(measure(stack, options.venvs, options.gcn, options.seconds))
            print(lines[-1], flush=True)
    if options.only == ALL:  # a part of the table does not replace the whole
        before, rest = DECISION.read_text().split(f"{BEGIN}\n")
        DECISION.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}" + rest.split(END)[1])


def measure(stack: Stack, venvs: Path, gcn: Path, seconds: int) -> str:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        bodies = request_bodies(Path(folder))
        with serve(stack, venvs, gcn, Path(folder)) as (port, process):
            wrk(port, stack, bodies, 8, 2)  # warm-up
            results = [wrk(port, stack, bodies, connections, seconds) for connections in CONNECTIONS]
            resident = resident_bytes(process)
    packages, size = venv_facts(venvs / stack.venv)
    cells = [stack.name, packages, size, resident >> 20]
    for r in results:
        cells += [f"{r['requests'] / r['seconds']:,.0f}, {r['p50_us'] / 1e3:.2f}, {r['p99_us'] / 1e3:.2f}"]
    cells.append(sum(r["status"] + r["socket"] for r in results))
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.exit(main())
