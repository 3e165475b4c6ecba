"""What the workers share that run a file through its runtime's Python API.

They have the options and the JSON of the native runners. A call through Python adds some microseconds to each sample.
Memory is that of this process over the time before the runtime is imported.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.runtime.base import Arrays


@dataclass(frozen=True)
class Loaded:
    """A program that is ready to be called."""

    inputs: list[tuple[str, str, tuple[int, ...]]]
    """Name, type and shape, in the order of the raw bytes."""
    call: Callable[[Arrays], list[NDArray[Any]]]
    """Outputs in the order that was asked for."""


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


class _MallocStatistics(ctypes.Structure):
    """As in macOS's ``malloc/malloc.h``."""

    _fields_ = (
        ("blocks_in_use", ctypes.c_uint),
        ("size_in_use", ctypes.c_size_t),
        ("max_size_in_use", ctypes.c_size_t),
        ("size_allocated", ctypes.c_size_t),
    )


def memory() -> dict[str, int]:
    """Memory of this process, under the names of the native runners."""
    library = ctypes.CDLL(None)
    if sys.platform == "darwin":
        statistics = _MallocStatistics()
        library.malloc_zone_statistics(None, ctypes.byref(statistics))
        peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # bytes there, kilobytes on Linux
        asked = ["ps", "-o", "rss=", "-p", str(os.getpid())]
        resident_kb = int(subprocess.check_output(asked, text=True))
        # macOS does not tell a process's own pages from those of files by a call of its C library.
        sizes = {"peak_kb": peak_kb, "resident_kb": resident_kb, "anonymous_kb": resident_kb, "mapped_kb": 0}
        return sizes | {"heap_bytes": statistics.size_in_use}
    library.mallinfo2.restype = _Mallinfo2
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    names = {"peak_kb": "VmHWM", "resident_kb": "VmRSS", "anonymous_kb": "RssAnon", "mapped_kb": "RssFile"}
    heap = library.mallinfo2()
    return {name: int(status[key].split()[0]) for name, key in names.items()} | {
        "heap_bytes": heap.uordblks + heap.hblkhd
    }


def _measure(options: argparse.Namespace, load: Callable[[argparse.Namespace], Loaded]) -> dict[str, Any]:
    """Load, first call, every case, warm up, time."""
    before = memory()
    start = time.perf_counter_ns()
    program = load(options)
    load_ns = time.perf_counter_ns() - start
    loaded = memory()
    cases = _cases(program, Path(options.inputs).read_bytes())
    start = time.perf_counter_ns()
    outputs = [program.call(cases[0])]
    first_call_ns = time.perf_counter_ns() - start
    called = memory()
    outputs += [program.call(case) for case in cases[1:]]
    Path(options.outputs).write_bytes(b"".join(x.tobytes() for output in outputs for x in output))
    for index in range(options.warmup):
        program.call(cases[index % len(cases)])
    samples = []
    for index in range(options.iterations):
        case = cases[index % len(cases)]
        start = time.perf_counter_ns()
        program.call(case)
        samples.append(time.perf_counter_ns() - start)
    stages = {"before_load": before, "loaded": loaded, "first_call": called, "end": memory()}
    return {
        "cases": len(cases),
        "load_ns": load_ns,
        "first_call_ns": first_call_ns,
        "planned_bytes": 0,
        "program_bytes": 0,
        "memory": stages,
        "latency_ns": samples,
    }


def _cases(program: Loaded, data: bytes) -> list[Arrays]:
    size = sum(4 * int(np.prod(shape)) for _, _, shape in program.inputs)
    if not data or len(data) % size:
        raise ValueError(f"the inputs have {len(data)} bytes, not a multiple of {size}")
    cases, place = [], 0
    while place < len(data):
        case: Arrays = {}
        for name, dtype, shape in program.inputs:
            end = place + 4 * int(np.prod(shape))
            raw = np.float32 if dtype == "float32" else np.int32
            case[name] = np.frombuffer(data[place:end], dtype=raw).astype(dtype).reshape(shape)
            place = end
        cases.append(case)
    return cases


def main(load: Callable[[argparse.Namespace], Loaded]) -> None:
    """Parse, measure, print one line.

    Args:
        load: makes a program ready; imports its runtime itself, since that memory counts.
    """
    idle = memory()
    parser = argparse.ArgumentParser()
    for name in ("model", "entry", "inputs", "outputs", "input-names", "output-names"):
        parser.add_argument(f"--{name}", required=True)
    for name, default in (("iterations", 0), ("warmup", 0), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    try:
        report = _measure(options, load)
    except Exception as error:  # the runtimes' errors have no common base but this
        print(json.dumps({"runner": 1, "ok": False, "error": str(error).splitlines()[0]}))
        sys.exit(1)
    report["memory"] = {"idle": idle} | report["memory"]
    print(json.dumps({"runner": 1, "ok": True, "entry_point": options.entry, "threads": options.threads} | report | {
        "complete": True,
    }))  # fmt: skip
