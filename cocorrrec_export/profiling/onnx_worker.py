"""The runner for ONNX files: the same options and the same JSON as the native runners, on ONNX Runtime's Python API.

ONNX Runtime has no C++ headers in its wheel; its Python call adds some microseconds to each sample. Memory is that of
this process over the time before ONNX Runtime is imported.
"""

import argparse
import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from cocorrrec_export.runtime.onnx import program_file


class _Mallinfo2(ctypes.Structure):
    """As in glibc's ``malloc.h``."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


_libc = ctypes.CDLL(None)
_libc.mallinfo2.restype = _Mallinfo2


def memory() -> dict[str, int]:
    """Kilobytes of this process, under the names of the native runners."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    names = {"peak_kb": "VmHWM", "resident_kb": "VmRSS", "anonymous_kb": "RssAnon", "mapped_kb": "RssFile"}
    heap = _libc.mallinfo2()
    return {name: int(status[key].split()[0]) for name, key in names.items()} | {
        "heap_bytes": heap.uordblks + heap.hblkhd
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Load, first call, every case, warm up, time."""
    before = memory()
    program = program_file(Path(options.model), options.entry)
    start = time.perf_counter_ns()
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(program), settings, providers=["CPUExecutionProvider"])
    load_ns = time.perf_counter_ns() - start
    loaded = memory()
    names = options.output_names.split(",")
    cases = _cases(session, options.input_names.split(","), Path(options.inputs).read_bytes())
    start = time.perf_counter_ns()
    outputs = [session.run(names, cases[0])]
    first_call_ns = time.perf_counter_ns() - start
    called = memory()
    outputs += [session.run(names, case) for case in cases[1:]]
    Path(options.outputs).write_bytes(b"".join(x.tobytes() for output in outputs for x in output))
    for index in range(options.warmup):
        session.run(names, cases[index % len(cases)])
    samples = []
    for index in range(options.iterations):
        case = cases[index % len(cases)]
        start = time.perf_counter_ns()
        session.run(names, case)
        samples.append(time.perf_counter_ns() - start)
    stages = {"before_load": before, "loaded": loaded, "first_call": called, "end": memory()}
    return {
        "cases": len(cases),
        "load_ns": load_ns,
        "first_call_ns": first_call_ns,
        "planned_bytes": 0,
        "program_bytes": 0,
    } | {
        "memory": stages,
        "latency_ns": samples,
    }


def _cases(session: Any, names: list[str], data: bytes) -> list[dict[str, Any]]:
    types = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
    inputs = {x.name: x for x in session.get_inputs()}
    specs = [(n, types[inputs[n].type], [d if isinstance(d, int) else 1 for d in inputs[n].shape]) for n in names]
    size = sum(4 * int(np.prod(shape)) for _, _, shape in specs)
    if not data or len(data) % size:
        raise ValueError(f"the inputs have {len(data)} bytes, not a multiple of {size}")
    cases, place = [], 0
    while place < len(data):
        case = {}
        for name, dtype, shape in specs:
            end = place + 4 * int(np.prod(shape))
            case[name] = np.frombuffer(data[place:end], dtype=np.int32 if dtype != np.float32 else dtype).astype(dtype)
            case[name] = case[name].reshape(shape)
            place = end
        cases.append(case)
    return cases


def main() -> None:
    """Parse, measure, print one line."""
    idle = memory()
    parser = argparse.ArgumentParser()
    for name in ("model", "entry", "inputs", "outputs", "input-names", "output-names"):
        parser.add_argument(f"--{name}", required=True)
    for name, default in (("iterations", 0), ("warmup", 0), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    try:
        report = measure(options)
    except Exception as error:  # ONNX Runtime's errors have no common base but this
        print(json.dumps({"runner": 1, "ok": False, "error": str(error).splitlines()[0]}))
        sys.exit(1)
    report["memory"] = {"idle": idle} | report["memory"]
    print(json.dumps({"runner": 1, "ok": True, "entry_point": options.entry, "threads": options.threads} | report | {
        "complete": True,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
