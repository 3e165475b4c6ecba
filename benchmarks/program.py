"""One exported program in a fresh process: load, memory and latency of ``rank``. Prints one JSON object.

    python benchmarks/program.py TARGET PROGRAM CONTRACT.json [CALLS]

Started by targets.py; of use on its own too. One thread; every raw latency is kept.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.runtime.open import open_runtime

WARM_UP = 50


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def import_runtime(target: str) -> None:
    """What a process needs before it opens a file: not a cost of the file."""
    if target == "executorch":
        import torch  # noqa: F401
        from executorch.extension.pybindings import _C  # noqa: F401
    elif target == "tflite":
        from ai_edge_litert import interpreter  # noqa: F401
    elif target == "onnx":
        import onnxruntime  # noqa: F401


def main() -> None:
    target, program, contract_file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    calls = int(sys.argv[4]) if len(sys.argv) > 4 else 500
    entry = json.loads(contract_file.read_text())
    inputs, outputs = (tuple(TensorSpec(n, d, tuple(s)) for n, d, s in entry[side]) for side in ("inputs", "outputs"))
    contract = EntryPoint(entry["name"], inputs, outputs)
    import_runtime(target)
    idle = resident_bytes()
    start = time.perf_counter()
    runtime = open_runtime(target, program, [contract])
    rng = np.random.default_rng(0)
    feeds = {
        x.name: rng.integers(1, entry["vocab_size"], x.shape).astype(x.dtype)
        if x.dtype == "int32"
        else rng.standard_normal(x.shape).astype(x.dtype)
        for x in inputs
    }
    runtime.run(contract.name, feeds)
    load_ms = 1e3 * (time.perf_counter() - start)
    for _ in range(WARM_UP):
        runtime.run(contract.name, feeds)
    samples = []
    for _ in range(calls):
        start = time.perf_counter()
        runtime.run(contract.name, feeds)
        samples.append(1e3 * (time.perf_counter() - start))
    result = {"load_ms": load_ms, "memory_bytes": resident_bytes() - idle, "latency_ms": samples}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
