"""What a profile measures of an exported file on one machine, and in which order."""

import math
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cocorrrec_export.contract import ParityLimits
from cocorrrec_export.errors import UsageError, nearest
from cocorrrec_export.parity.tensors import tensor_parity
from cocorrrec_export.parity.vectors import Case
from cocorrrec_export.profiling.machines.runs import MEMORY_STAGES, Call, Machine, Measured, Program, pack, unpack
from cocorrrec_export.profiling.machines.traces import operator_times
from cocorrrec_export.runtime.base import Arrays

COLD_LOADS = 3
SHAPE_RUNS = 5
"""Fresh processes for each shape: one peak is a multiple of pages, and their median says more."""
_TRACED_CALLS = 20
PERCENTILES = {"p50_us": 50, "p90_us": 90, "p99_us": 99}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How often, and with how many threads."""

    iterations: int = 200
    warmup: int = 50
    threads: tuple[int, ...] = (1,)
    entry_points: tuple[str, ...] = ()
    """None given: all of the file."""
    per_operator: bool = False


@dataclass(frozen=True)
class Subject:
    """An artifact, as far as it is run."""

    program: Program
    cases: list[Case]
    limits: ParityLimits


@dataclass(frozen=True)
class Shape:
    """The same model exported for another sequence length or number of candidates."""

    length: int
    candidates: int
    program: Program
    inputs: dict[str, Arrays]
    """One case for each entry point."""


def chosen_entry_points(program: Program, names: Sequence[str]) -> list[str]:
    """The entry points to measure.

    Raises:
        UsageError: the file has no such entry point.
    """
    known = [entry.name for entry in program.entry_points]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"{program.path.name} has no entry point '{unknown[0]}' ({nearest(unknown[0], known)})")
    return [name for name in known if not names or name in names]


def measure(machine: Machine, subject: Subject, settings: Settings, progress: Callable[[str], None]) -> dict[str, Any]:
    """Parity on the machine, then time and memory of each entry point.

    Returns:
        ``{"parity": ..., "entry_points": [...]}`` as in ``profile.json``.

    Raises:
        RunError: a run did not end with a complete result.
        UsageError: an unknown entry point.
    """
    measured, outputs = [], {}
    cases = [case for case in subject.cases if _one_user(case)]
    for name in chosen_entry_points(subject.program, settings.entry_points):
        contract = subject.program.contract(name)
        own = [_arrays(case) for case in cases if case.entry_point == name]
        entry, answer = _measure_entry(machine, subject.program, name, own, settings, progress)
        measured.append(entry)
        outputs[name] = deque(unpack(contract, answer.outputs, len(own)))
    progress("parity on the machine")
    ran = [case for case in cases if case.entry_point in outputs]
    parity = tensor_parity(
        lambda entry_point, _: outputs[entry_point].popleft(),
        ran,
        {entry.name: entry for entry in subject.program.entry_points},
    )
    problems = parity.problems(subject.limits)
    return {
        "parity": {
            "verdict": "fail" if problems else "pass",
            "cases": len(ran),
            "max_abs": _finite(parity.max_abs),
            "max_rel": _finite(parity.max_rel),
            "top10_overlap": parity.top10_overlap,
            "problems": problems,
        },
        "entry_points": measured,
    }


def _measure_entry(
    machine: Machine,
    program: Program,
    name: str,
    cases: list[Arrays],
    settings: Settings,
    progress: Callable[[str], None],
) -> tuple[dict[str, Any], Measured]:
    contract = program.contract(name)
    inputs, one = pack(contract, cases), pack(contract, cases[:1])
    runs, first = [], None
    for threads in settings.threads:
        progress(f"{name}: {settings.iterations} calls on {threads} thread{'s' * (threads > 1)}")
        call = Call(
            contract=contract, inputs=inputs, iterations=settings.iterations, warmup=settings.warmup, threads=threads
        )
        answer = machine.run(program.path, call)
        first = first or answer
        runs.append(
            {"threads": threads, "latency_ns": answer.report["latency_ns"]} | summary(answer.report["latency_ns"])
        )
    assert first is not None
    progress(f"{name}: cold load in {COLD_LOADS} fresh processes")
    threads = settings.threads[0]
    cold = [
        machine.run(program.path, Call(contract=contract, inputs=one, threads=threads)).report
        for _ in range(COLD_LOADS)
    ]
    operators = None
    if settings.per_operator:
        progress(f"{name}: operators")
        call = Call(contract=contract, inputs=inputs, iterations=_TRACED_CALLS, threads=threads, trace=True)
        trace = machine.run(program.path, call).trace
        assert trace is not None
        operators = operator_times(trace)
    entry = {
        "name": name,
        "cold_load_ns": [report["load_ns"] for report in cold],
        "first_call_ns": [report["first_call_ns"] for report in cold],
        "planned_bytes": first.report["planned_bytes"],
        "memory": {stage: first.report["memory"][stage] for stage in MEMORY_STAGES},
        "peak_over_idle_kb": peak_over_idle_kb(first.report),
        "heap_over_idle_bytes": heap_over_idle_bytes(first.report),
        "heap_parts": heap_parts(first.report),
        "runs": runs,
        "operators": operators,
    }
    return entry, first


def measure_shapes(
    machine: Machine, shapes: Sequence[Shape], settings: Settings, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Time and memory of the same model for other sequence lengths and numbers of candidates.

    Raises:
        RunError: a run did not end with a complete result.
    """
    rows = []
    for shape in shapes:
        for name, case in shape.inputs.items():
            contract = shape.program.contract(name)
            progress(f"{name}: {shape.length} clicks, {shape.candidates} candidates")
            call = Call(
                contract=contract,
                inputs=pack(contract, [case]),
                iterations=settings.iterations,
                warmup=settings.warmup,
                threads=settings.threads[0],
            )
            reports = [machine.run(shape.program.path, call).report for _ in range(SHAPE_RUNS)]
            samples = reports[0]["latency_ns"]
            rows.append(
                {
                    "entry_point": name,
                    "length": shape.length,
                    "candidates": shape.candidates,
                    "program_bytes": shape.program.bytes,
                    "planned_bytes": reports[0]["planned_bytes"],
                    "peak_over_idle_kb": [peak_over_idle_kb(report) for report in reports],
                    "heap_over_idle_bytes": [heap_over_idle_bytes(report) for report in reports],
                    "latency_ns": samples,
                }
                | summary(samples)
            )
    return rows


def slopes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bytes per token of each entry point: least squares over the lengths of rows with the same candidates."""
    found = []
    for name in dict.fromkeys(row["entry_point"] for row in rows):
        own = [row for row in rows if row["entry_point"] == name]
        common = statistics.mode(row["candidates"] for row in own)
        own = [row for row in own if row["candidates"] == common]
        lengths = [row["length"] for row in own]
        if len(set(lengths)) < 2:
            continue
        peak = [1024 * statistics.median(row["peak_over_idle_kb"]) for row in own]
        heap = [statistics.median(row["heap_over_idle_bytes"]) for row in own]
        found.append(
            {
                "entry_point": name,
                "lengths": lengths,
                "planned_bytes_per_token": slope(lengths, [row["planned_bytes"] for row in own]),
                "peak_bytes_per_token": slope(lengths, peak),
                "heap_bytes_per_token": slope(lengths, heap),
            }
        )
    return found


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of ``y`` over ``x``."""
    return round(float(np.polyfit(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), 1)[0]), 3)


def summary(latency_ns: Sequence[int]) -> dict[str, float]:
    """Percentiles in microseconds."""
    values = np.percentile(latency_ns, list(PERCENTILES.values()))
    return {name: round(float(value) / 1000, 3) for name, value in zip(PERCENTILES, values, strict=True)}


def peak_over_idle_kb(report: dict[str, Any]) -> int:
    """The highest resident set of the run, over that of the runner before it did anything."""
    return report["memory"]["end"]["peak_kb"] - report["memory"]["idle"]["peak_kb"]


def heap_over_idle_bytes(report: dict[str, Any]) -> int:
    """What malloc gave out since: program, arena, packed weights; no pages of code, and exact to the byte."""
    found: int = report["memory"]["end"]["heap_bytes"] - report["memory"]["before_load"]["heap_bytes"]
    return found


def heap_parts(report: dict[str, Any]) -> dict[str, int]:
    """What :func:`heap_over_idle_bytes` is made of, in bytes.

    Returns:
        ``program``: what reading the file gave out (0 where the runtime does not read it in a step of its own);
        ``planned``: the arena; ``load``: what else the load did, which are packed copies of weights and the objects of
        runtime and delegate; ``first_call``, mostly workspace; ``later``.
    """
    before, loaded, called, end = (
        report["memory"][stage]["heap_bytes"] for stage in ("before_load", "loaded", "first_call", "end")
    )
    program, planned = report["program_bytes"], report["planned_bytes"]
    return {
        "program": program,
        "planned": planned,
        "load": loaded - before - program - planned,
        "first_call": called - loaded,
        "later": end - called,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _one_user(case: Case) -> bool:
    """A runner's cases have one size; the batch case of the GCN is another."""
    return all(value.shape[0] == 1 for value in case.inputs.values())


def _arrays(case: Case) -> Arrays:
    return dict(case.inputs)
