"""The server under load, next to what it is made of, in one run.

Each server is pinned to core 0 and loaded by wrk from core 1. Next to it: ONNX Runtime called in a loop on core 0
without any server, the same server without batching (--max-batch 1), and the bare ASGI application of
serving_stacks/asgi_app.py, which has none of the checks. Then overload, and the recovery after it.

    sudo apt-get install wrk        # or: benchmarks/install_wrk.sh
    python benchmarks/serving.py --gcn dist/gcn-onnx-fp32 --kernel dist/paper/gcn-onnx-fp32 --json serving.json

--kernel is the export of a model with the paper's correction, which is measured for comparison. It writes
docs/serving_benchmark.md. Only ratios within one run are worth reading on a machine that does other work.
Needs Linux, two cores, and wrk.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pages

from cocorrrec_export.serving.protocol import encode_request

ROOT = Path(__file__).resolve().parents[1]
STACKS = ROOT / "benchmarks" / "serving_stacks"
sys.path.insert(0, str(STACKS))
from model import Gcn  # noqa: E402

CONNECTIONS = (1, 8, 64, 256)
HALF_LOAD = (1, 2, 4, 8, 16)
"""Connections that are tried, to find about half of the maximum."""
USERS = 64
PAPER_CLOUD_MS = 1.18
RAW_LOOP = """
import sys, time, json
import numpy as np
from model import Gcn
gcn, rates = Gcn(), {}
for batch in (1, 64, 256):
    upload, times = gcn.uploads(batch), []
    end = time.perf_counter() + float(sys.argv[1])
    while time.perf_counter() < end:
        start = time.perf_counter()
        gcn.correct(upload)
        times.append(time.perf_counter() - start)
    times = times[len(times) // 10:]
    rates[batch] = [batch * len(times) / sum(times), float(np.percentile(times, 50)), float(np.percentile(times, 99))]
print(json.dumps(rates))
"""


@dataclass(frozen=True)
class Server:
    """One that is ready."""

    port: int
    pid: int

    def resident_mb(self) -> float:
        """Memory of the process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def environment(gcn: Path) -> dict[str, str]:
    return os.environ | {
        "GCN": str((gcn / "gcn.onnx").resolve()),
        "PYTHONPATH": f"{ROOT}:{STACKS}",
        "OMP_NUM_THREADS": "1",
    }


@contextlib.contextmanager
def started(command: list[str], gcn: Path, port: int) -> Iterator[Server]:
    process = subprocess.Popen(
        ["taskset", "-c", "0", *command],
        env=environment(gcn),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready"):
                break
            time.sleep(0.2)
        else:
            raise SystemExit(f"{' '.join(command)} does not answer")
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ours(gcn: Path, *options: str) -> contextlib.AbstractContextManager[Server]:
    port = free_port()
    program = "from cocorrrec_export.cli.serve.app import main; main()"
    flags = ["--port", str(port), "--drain-seconds", "0", *options]
    return started([sys.executable, "-c", program, "gcn", str(gcn), *flags], gcn, port)


def bare(gcn: Path) -> contextlib.AbstractContextManager[Server]:
    port = free_port()
    flags = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error"]
    return started([sys.executable, "-m", "uvicorn", "asgi_app:app", "--port", str(port), *flags], gcn, port)


def load(server: Server, body: tuple[Path, int], connections: int, seconds: float) -> dict[str, float]:
    """What wrk measured from core 1."""
    done = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "--latency",
         "-s", str(STACKS / "post.lua"), f"http://127.0.0.1:{server.port}/v2/models/gcn/infer"],
        env=os.environ | {"BODY": str(body[0]), "HEADER_BYTES": str(body[1])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    result = json.loads(re.findall(r"^RESULT (.*)$", done.stdout, re.M)[0])
    return result | {"rate": result["requests"] / result["seconds"]}


def overload(gcn: Path, bodies: dict[int, tuple[Path, int]], seconds: float) -> dict[str, object]:
    """Five times the connections that already fill the server, then the rate right after."""
    with ours(gcn) as server:
        load(server, bodies[1], 64, 3)
        before = load(server, bodies[1], 64, 5)
        resident, peak, stop = server.resident_mb(), [0.0], threading.Event()

        def watch() -> None:
            while not stop.wait(0.2):
                peak[0] = max(peak[0], server.resident_mb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        during = load(server, bodies[1], 5 * max(CONNECTIONS), seconds)
        time.sleep(2)
        after = load(server, bodies[1], 64, 5)
        stop.set()
        watcher.join()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as response:
            text = response.read().decode()
        statuses = dict(re.findall(r'^cocorr_requests_total\{status="(\d+)"\} (\S+)', text, re.M))
        buckets = re.findall(r'^cocorr_queue_seconds_bucket\{le="(\S+)"\} (\S+)', text, re.M)
        waited = next(limit for limit, count in buckets if float(count) >= 0.99 * float(buckets[-1][1]))
    return {
        "before": before, "during": during, "after": after, "resident_mb": resident, "peak_mb": peak[0],
        "queue_p99_below_s": waited,
        "statuses": {status: int(float(count)) for status, count in statuses.items()},
    }  # fmt: skip


def row(name: str, result: dict[str, float], users: int = 1) -> str:
    return (
        f"| {name} | {result['rate'] * users:,.0f} | {result['p50_us'] / 1e3:.2f} | {result['p99_us'] / 1e3:.2f} "
        f"| {result['status'] + result['socket']:.0f} |"
    )


def raw_rows(raw: dict[str, list[float]], prefix: str = "") -> list[str]:
    return [
        f"| {prefix}ONNX Runtime in a loop, batch {batch} | {rate:,.0f} | {p50 * 1e3:.2f} | {p99 * 1e3:.2f} | - |"
        for batch, (rate, p50, p99) in raw.items()
    ]


def server_rows(label: str, results: dict[str, dict[str, float]]) -> list[str]:
    return [row(f"{label}, {c} connection{'s' * (c != '1')}", result) for c, result in results.items()]


def blocks(results: dict) -> dict[str, list[str]]:
    """What the page has between its marks."""
    table = ["| | corrections/s | p50 ms | p99 ms | failed |", "|---|---|---|---|---|", *raw_rows(results["raw"])]
    for kind, label in (("server", "the server"), ("unbatched", "without batching"), ("bare", "bare ASGI, no checks")):
        table += server_rows(label, results[kind])
    many, raw = results["many"], results["raw"]
    table.append(row(f"the server, 8 connections, {USERS} users a request", many, USERS))
    if "kernel" in results:
        table += raw_rows(results["kernel_raw"], "the paper's correction: ")
        table += server_rows("the paper's correction: the server", results["kernel"])
    best_name, best = max(results["server"].items(), key=lambda item: item[1]["rate"])
    half, over = results["half_load"], results["overload"]
    ratio = many["rate"] * USERS / raw["256"][0]
    during, statuses = over["during"], over["statuses"]
    shares = f"{statuses.get('200', 0):,} answers 200, {statuses.get('503', 0):,} answers 503"
    others = {status: count for status, count in statuses.items() if status not in ("200", "503", "499")}
    recovery = over["after"]["rate"] / over["before"]["rate"]
    findings = [
        f"- Most corrections a second, one user a request, one core: {best['rate']:,.0f} at {best_name} "
        "connections (goal: 5,000).",
        f"- {USERS} users a request: {ratio:.0%} of ONNX Runtime alone at batch 256 (goal: 50%).",
        f"- At {half['share']:.0%} of the maximum ({half['connections']} connections): "
        f"p50 {half['p50_us'] / 1e3:.2f} ms, p99 {half['p99_us'] / 1e3:.2f} ms, "
        f"transport over loopback included (goal: {PAPER_CLOUD_MS} ms plus transport).",
        f"- Overload, {5 * max(CONNECTIONS)} connections for {during['seconds']:.0f} s: {shares}, other answers: "
        f"{others or 'none'}, broken connections: {during['socket']}; p50 {during['p50_us'] / 1e3:.1f} ms and p99 "
        f"{during['p99_us'] / 1e3:.1f} ms over all answers, corrected by wrk for what it could not send meanwhile; "
        f"99% of the requests that were taken waited less than {over['queue_p99_below_s']} s in the queue; "
        f"resident memory {over['resident_mb']:.0f} MB before, "
        f"{over['peak_mb']:.0f} MB at the most.",
        f"- 2 s after the overload: {recovery:.0%} of the rate before it.",
    ]
    return {"machine": [f"{results['machine']}."], "rates": table, "findings": findings}


def raw_rates(gcn: Path, seconds: float) -> dict[str, list[float]]:
    """Of ONNX Runtime in a loop, by batch: users a second, p50 and p99 in seconds."""
    done = subprocess.run(
        ["taskset", "-c", "0", sys.executable, "-c", RAW_LOOP, str(seconds)],
        env=environment(gcn), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def bodies_of(gcn: Path, folder: Path) -> dict[int, tuple[Path, int]]:
    """Requests of one user and of many, and how long their JSON part is."""
    os.environ["GCN"] = environment(gcn)["GCN"]
    model, bodies = Gcn(), {}
    for users in (1, USERS):
        content, header = encode_request(model.uploads(users))
        path = folder / f"{model.input}-{users}"
        path.write_bytes(content)
        bodies[users] = (path, header)
    return bodies


def rates(server: Server, body: tuple[Path, int], seconds: float) -> dict[str, dict[str, float]]:
    load(server, body, 8, 2)  # warm-up
    return {str(c): load(server, body, c, seconds) for c in CONNECTIONS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gcn", type=Path, required=True)
    parser.add_argument("--kernel", type=Path, help="export with the paper's correction, for comparison")
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement")
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument("--json", type=Path, help="file for all results")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "serving_benchmark.md", help="page to fill in")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: benchmarks/install_wrk.sh")
    results: dict = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"}
    with tempfile.TemporaryDirectory() as folder:
        bodies = bodies_of(options.gcn, Path(folder))
        results["raw"] = raw_rates(options.gcn, options.seconds / 2)
        for kind, server in (
            ("server", ours(options.gcn)),
            ("unbatched", ours(options.gcn, "--max-batch", "1")),
            ("bare", bare(options.gcn)),
        ):
            with server as running:
                results[kind] = rates(running, bodies[1], options.seconds)
                if kind == "server":
                    results["many"] = load(running, bodies[USERS], 8, options.seconds)
                    most = max(result["rate"] for result in results[kind].values())
                    tries = {c: load(running, bodies[1], c, options.seconds / 2) for c in HALF_LOAD}
                    connections = min(tries, key=lambda c: abs(tries[c]["rate"] / most - 0.5))
                    half = tries[connections]
                    results["half_load"] = half | {"share": half["rate"] / most, "connections": connections}
            print(kind, {c: round(result["rate"]) for c, result in results[kind].items()}, file=sys.stderr)
        if options.kernel:
            results["kernel_raw"] = raw_rates(options.kernel, options.seconds / 2)
            with ours(options.kernel) as running:
                results["kernel"] = rates(running, bodies_of(options.kernel, Path(folder))[1], options.seconds)
        results["overload"] = overload(options.gcn, bodies, options.overload_seconds)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    pages.fill(options.output, blocks(results))
    print(options.output.read_text())


if __name__ == "__main__":
    main()
