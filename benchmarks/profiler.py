"""How far the profiler's own figures can be trusted.

Three measurements on this machine, and a table of faults:

1. what a call of the runner costs by itself: a program that does nothing but copy one number;
2. the same file through the runner and through the Python runtime, in turns within one run;
3. ten profiles in a row: how far their medians lie apart;
4. with --faults, every fault of tests/device: what is said, exit code, and seconds until it is said.

Writes docs/profiler_benchmark.md and its picture. Only ratios within one run are worth reading: a machine that does
other work slows everything.

    cocorr-export scn --target executorch --precision int8
    python benchmarks/profiler.py dist/scn-executorch-int8 --faults
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.export.artifact import Artifact, open_artifact
from cocorrrec_export.export.executorch import export_executorch
from cocorrrec_export.export.graphs import GraphSpec
from cocorrrec_export.parity.vectors import read_vectors
from cocorrrec_export.profiling.bundle import Bundle, ensure_bundle, host_abi
from cocorrrec_export.profiling.compare import median_ratio_interval
from cocorrrec_export.profiling.host import Host, open_host
from cocorrrec_export.profiling.runs import Call, pack
from cocorrrec_export.runtime.open import open_runtime

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "profiler_benchmark.md"
PICTURE = ROOT / "docs" / "profiler_benchmark.svg"
CALLS, ROUNDS, PROFILES = 1000, 5, 10


class Nothing(nn.Module):
    """As little as a program can do."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """One number, copied."""
        return (x.clone(),)


def empty_program(folder: Path) -> tuple[Path, EntryPoint]:
    number = TensorSpec("x", "float32", (1, 1))
    contract = EntryPoint("nothing", (number,), (TensorSpec("y", "float32", (1, 1)),))
    path = folder / "nothing.pte"
    export_executorch([GraphSpec(contract, Nothing().eval(), (torch.zeros(1, 1),))], path, metadata={})
    return path, contract


def cases_of(artifact: Artifact, name: str) -> list[dict[str, np.ndarray]]:
    contracts = {entry.name: entry for entry in artifact.entry_points}
    cases = read_vectors(artifact.vectors, contracts)
    return [{k: v.numpy() for k, v in case.inputs.items()} for case in cases if case.entry_point == name]


def in_turns(artifact: Artifact, host: Host) -> dict[str, dict[str, list[int]]]:
    """Latencies in nanoseconds: runner and Python runtime, alternating, on the same cases."""
    runtime = open_runtime(artifact.target, artifact.program, artifact.entry_points)
    result = {}
    for contract in artifact.entry_points:
        cases = cases_of(artifact, contract.name)
        call = Call(contract=contract, inputs=pack(contract, cases), iterations=CALLS // ROUNDS, warmup=50)
        times: dict[str, list[int]] = {"runner": [], "python": []}
        for _ in range(ROUNDS):
            times["runner"] += host.run(artifact.program, call).report["latency_ns"]
            times["python"] += python_calls(lambda i, c=contract, x=cases: runtime.run(c.name, x[i % len(x)]))
        result[contract.name] = times
    return result


def python_calls(call: Callable[[int], object]) -> list[int]:
    samples = []
    for i in range(-50, CALLS // ROUNDS):
        start = time.perf_counter_ns()
        call(i)
        if i >= 0:
            samples.append(time.perf_counter_ns() - start)
    return samples


def profiles_in_a_row(artifact: Artifact, host: Host) -> dict[str, list[float]]:
    """Medians in microseconds, one a profile; each run is a process of its own."""
    medians: dict[str, list[float]] = {entry.name: [] for entry in artifact.entry_points}
    for _ in range(PROFILES):
        for contract in artifact.entry_points:
            inputs = pack(contract, cases_of(artifact, contract.name))
            call = Call(contract=contract, inputs=inputs, iterations=200, warmup=50)
            medians[contract.name].append(
                statistics.median(host.run(artifact.program, call).report["latency_ns"]) / 1000
            )
    return medians


def faults() -> list[dict]:
    """Run tests/device and collect what was said."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "faults"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "device", "tests/device"]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"CI": "true", "FAULT_TABLE": str(table)}, check=True)
        # A path of this machine is no part of what is said.
        text = re.sub(rf"{re.escape(tempfile.gettempdir())}/\S*/", "", table.read_text())
        return [json.loads(line) for line in text.splitlines()]


def draw(times: dict[str, dict[str, list[int]]], medians: dict[str, list[float]]) -> None:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(times)
    for offset, side in ((-0.2, "runner"), (0.2, "python")):
        values = [np.median(times[name][side]) / 1000 for name in names]
        left.bar(np.arange(len(names)) + offset, values, 0.4, label=side)
    left.set_xticks(np.arange(len(names)), names, fontsize=7)
    left.set(title="median of one call", ylabel="microseconds")
    left.legend()
    for name, values in medians.items():
        right.plot(np.asarray(values) / np.median(values), marker=".", label=name)
    right.set(title=f"{PROFILES} profiles in a row", ylabel="p50 over the median of all", xlabel="profile")
    right.legend(fontsize=7)
    with mpl.rc_context({"svg.hashsalt": "profiler"}):
        FigureCanvasSVG(figure).print_svg(PICTURE, metadata={"Date": None})


def page(empty: list[int], times: dict, medians: dict, bundle: Bundle, artifact: Artifact, rows: list[dict]) -> str:
    p50, p99 = (np.percentile(empty, q) / 1000 for q in (50, 99))
    lines = [
        "# How far the profiler's figures can be trusted",
        "",
        f"Written by `benchmarks/profiler.py` on {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{bundle.runtime}, runner {bundle.id}, {artifact.path.name}, one thread.",
        "",
        f"A call of the runner that copies one number takes {p50:.2f} us (p99 {p99:.2f} us): what every figure below "
        "holds beside the model.",
        "",
        f"The same file through the runner and through the Python runtime, in turns, {CALLS} calls of each:",
        "",
        "| entry point | runner p50, us | Python p50, us | Python / runner, 95% interval |",
        "|---|---|---|---|",
    ]
    for name, sides in times.items():
        runner, python = (np.asarray(sides[side]) / 1000 for side in ("runner", "python"))
        low, high = median_ratio_interval(runner, python)
        lines.append(f"| `{name}` | {np.median(runner):.1f} | {np.median(python):.1f} | {low:.2f} to {high:.2f} |")
    lines += [
        "",
        f"{PROFILES} profiles in a row, 200 calls each, every one in a process of its own:",
        "",
        "| entry point | smallest p50, us | median | largest | spread |",
        "|---|---|---|---|---|",
    ]
    for name, values in medians.items():
        middle = statistics.median(values)
        spread = (max(values) - min(values)) / middle
        lines.append(f"| `{name}` | {min(values):.2f} | {middle:.2f} | {max(values):.2f} | {spread:.1%} |")
    lines += ["", f"![medians]({PICTURE.name})", ""]
    if rows:
        lines += [
            "Faults of the device, with a real adb and a real adbd (`tests/device`); seconds from the fault, or from "
            "the start of the command, to its end:",
            "",
            "| test | what is said | exit code | seconds |",
            "|---|---|---|---|",
            *(f"| {row['test'].removeprefix('test_').split('[')[0].replace('_', ' ')} | {_cell(row['said'])} | "
              f"{row['code']} | {row['seconds']} |" for row in rows),
            "",
        ]  # fmt: skip
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, help="an ExecuTorch export")
    parser.add_argument("--faults", action="store_true", help="run tests/device too (root, minutes)")
    parser.add_argument("--json", type=Path, help="file for all raw samples")
    options = parser.parse_args()
    artifact = open_artifact(options.artifact)
    bundle = ensure_bundle(artifact.target, host_abi(), print)
    with (
        open_host(artifact.target, bundle, timeout_s=300) as host,
        tempfile.TemporaryDirectory(prefix="cocorr-benchmark-") as folder,
    ):
        path, contract = empty_program(Path(folder))
        call = Call(contract=contract, inputs=bytes(4), iterations=CALLS, warmup=200)
        empty = host.run(path, call).report["latency_ns"]
        times = in_turns(artifact, host)
        medians = profiles_in_a_row(artifact, host)
    rows = faults() if options.faults else []
    draw(times, medians)
    PAGE.write_text(page(empty, times, medians, bundle, artifact, rows), encoding="utf-8")
    if options.json:
        raw = {"empty_ns": empty, "in_turns_ns": times, "medians_us": medians, "faults": rows}
        options.json.write_text(json.dumps(raw, indent=2), encoding="utf-8")
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
