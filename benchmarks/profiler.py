"""How far the profiler's own figures can be trusted.

Five measurements on this machine, and a table of faults:

1. what a call of the runner costs by itself: a program that does nothing but copy one number;
2. the same file through the runner and through the Python runtime, in turns within one run;
3. ten profiles in a row: how far their medians lie apart;
4. every block of the heap of `rank`, by who took it (heap_trace.c, which needs gcc): what it is made of;
5. a profile of every export that is named, by the command line;
6. with --faults, every fault of tests/device: what is said, exit code, and seconds until it is said.

Writes docs/profiler_benchmark.md and its picture. Only ratios within one run are worth reading: a machine that does
other work slows everything.

    cocorr-export scn --target executorch --precision int8     # and the other exports
    python benchmarks/profiler.py dist/scn-executorch-int8 dist/scn-executorch-fp32 dist/gcn-onnx-fp32 --faults
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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pages
import torch
from torch import nn

from cocorrrec_export.artifact.manifest import Artifact, open_artifact
from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.export import executorch
from cocorrrec_export.export.graphs import GraphSpec
from cocorrrec_export.parity.vectors import read_vectors
from cocorrrec_export.profiling.machines.host import Host, open_host
from cocorrrec_export.profiling.machines.runs import Call, pack, read_report
from cocorrrec_export.profiling.measure import heap_over_idle_bytes
from cocorrrec_export.profiling.report.compare import median_ratio_interval
from cocorrrec_export.profiling.runner.package import RunnerPackage, ensure_package, host_abi
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
    graph = GraphSpec(contract, Nothing().eval(), (torch.zeros(1, 1),))
    executorch.export([graph], choose_recipe("scn", "executorch"), path, metadata={})
    return path, contract


def cases_of(artifact: Artifact, name: str) -> list[dict[str, np.ndarray]]:
    contracts = {entry.name: entry for entry in artifact.entry_points}
    cases = read_vectors(artifact.vectors, contracts)
    return [case.inputs for case in cases if case.entry_point == name]


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


class Weightless(nn.Module):
    """Delegated operators that have no weights to pack."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor]:
        """A product of matrices, and of numbers."""
        return (torch.bmm(x, y) * y,)


def weightless_program(folder: Path) -> tuple[Path, EntryPoint]:
    square = (1, 16, 16)
    inputs = tuple(TensorSpec(name, "float32", square) for name in ("x", "y"))
    contract = EntryPoint("weightless", inputs, (TensorSpec("z", "float32", square),))
    path = folder / "weightless.pte"
    sample = (torch.zeros(square), torch.zeros(square))
    graph = GraphSpec(contract, Weightless().eval(), sample)
    executorch.export([graph], choose_recipe("scn", "executorch"), path, metadata={})
    return path, contract


# Stages at which a runner asks for the size of its heap, as the trace counts them.
BEFORE, FILE, READ, LOADED, OWN, CALLED, END = 2, 3, 4, 5, 7, 8, 9
XNNPACK = "libexecutorch_backend_xnnpack.so"


@dataclass(frozen=True)
class Block:
    """What was given out and not given back."""

    stage: int
    function: str
    bytes: int
    library: str


def heap_blocks(package: RunnerPackage, program: Path, call: Call, folder: Path) -> tuple[list[Block], dict]:
    """Everything that is on the heap at the end of a run, and the runner's report."""
    library, trace, inputs = folder / "heap_trace.so", folder / "trace.txt", folder / "inputs.bin"
    source = ROOT / "benchmarks" / "heap_trace.c"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True)
    inputs.write_bytes(call.inputs)
    options = call.options(model=str(program), inputs=str(inputs), outputs=str(folder / "outputs.bin"), trace="")
    loader, *rest = package.command(str(package.path))
    command = [loader, "--preload", str(library), *rest, *options]
    done = subprocess.run(
        command, env=os.environ | {"HEAP_TRACE": str(trace)}, capture_output=True, text=True, check=True
    )
    live: dict[str, Block] = {}
    stage = 0
    for line in trace.read_text().splitlines():
        what, function, size, address, owner = line.split(" ", 4)
        if what == "S":
            stage += 1
        elif what == "A":
            live[address] = Block(stage, function, int(size), owner)
        else:
            live.pop(address, None)
        if stage == END:
            break
    return list(live.values()), read_report(done.stdout, done.stderr, done.returncode, call)


def heap_terms(artifact: Artifact, package: RunnerPackage, folder: Path) -> dict[str, int]:
    """Bytes of the heap of ``rank`` by what they are for."""
    path, contract = weightless_program(folder)
    blocks, _ = heap_blocks(package, path, Call(contract=contract, inputs=bytes(2 * 4 * 256)), folder)
    objects = {x.bytes for x in blocks if x.library == XNNPACK and x.function == "posix_memalign" and x.stage < LOADED}
    contract = next(entry for entry in artifact.entry_points if entry.name == "rank")
    call = Call(contract=contract, inputs=pack(contract, cases_of(artifact, "rank")[:1]))
    blocks, report = heap_blocks(package, artifact.program, call, folder)
    terms = dict.fromkeys(
        (FILE_TERM, ARENA_TERM, PACKED_TERM, WORKSPACE_TERM, GRAPH_TERM, RUNTIME_TERM, MALLOC_TERM), 0
    )
    for block in blocks:
        if block.stage < BEFORE or OWN - 1 <= block.stage < OWN:
            continue
        aligned = block.library == XNNPACK and block.function == "posix_memalign"
        if block.stage == FILE:
            terms[FILE_TERM] += block.bytes
        elif block.bytes == report["planned_bytes"] and block.stage == READ:
            terms[ARENA_TERM] += block.bytes
        elif aligned and block.stage >= LOADED:
            terms[WORKSPACE_TERM] += block.bytes
        elif aligned and block.bytes not in objects:
            terms[PACKED_TERM] += block.bytes
        elif block.library == XNNPACK:
            terms[GRAPH_TERM] += block.bytes
        else:
            terms[RUNTIME_TERM] += block.bytes
    terms[MALLOC_TERM] = heap_over_idle_bytes(report) - sum(terms.values())
    return terms


FILE_TERM = "the file: tables, constants, program"
ARENA_TERM = "the planned arena"
PACKED_TERM = "packed copies of the matrices, by XNNPACK"
WORKSPACE_TERM = "XNNPACK's workspace, from the first call"
GRAPH_TERM = "XNNPACK's operators and graph"
RUNTIME_TERM = "objects of ExecuTorch and its delegates"
MALLOC_TERM = "malloc's own: headers, alignment"


def host_profiles(artifacts: list[Artifact]) -> list[dict]:
    """Each export through the command line, in a folder of its own."""
    found = []
    for artifact in artifacts:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", "from cocorrrec_export.cli.profile.app import main; main()", "run"]
            command += [str(artifact.path.resolve()), "--host", "--json", "--output", f"{folder}/profile"]
            found.append(json.loads(subprocess.check_output(command, cwd=ROOT, text=True)))
    return found


def faults() -> list[dict]:
    """Run tests/device and collect what was said."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "faults"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "device", "tests/device"]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"CI": "true", "FAULT_TABLE": str(table)}, check=True)
        # A path of this machine is not part of what is said.
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


def blocks(
    empty: list[int],
    times: dict,
    medians: dict,
    terms: dict[str, int],
    profiles: list[dict],
    package: RunnerPackage,
    artifact: Artifact,
) -> dict[str, list[str]]:
    """What the page has between its marks, but for the faults."""
    p50, p99 = (np.percentile(empty, q) / 1000 for q in (50, 99))
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {package.runtime}, runner {package.id}, "
        f"{artifact.path.name}, one thread; {CALLS} calls, and {PROFILES} profiles in a row. A call of the runner that "
        f"copies one number takes {p50:.2f} us (p99 {p99:.2f} us)."
    )
    return {
        "machine": [machine],
        "in-turns": in_turns_table(times),
        "in-a-row": in_a_row_table(medians),
        "heap": heap_table(terms),
        "exports": [
            "| export | file, bytes | entry point | p50, us | p99, us | cold load, ms | peak, kB | heap, bytes "
            "| planned | parity: largest difference |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(profile_row(profile, entry) for profile in profiles for entry in profile["entry_points"]),
        ],
    }


def in_turns_table(times: dict) -> list[str]:
    lines = [
        "| entry point | runner p50, us | Python p50, us | Python / runner, 95% interval |",
        "|---|---|---|---|",
    ]
    for name, sides in times.items():
        runner, python = (np.asarray(sides[side]) / 1000 for side in ("runner", "python"))
        low, high = median_ratio_interval(runner, python)
        lines.append(f"| `{name}` | {np.median(runner):.1f} | {np.median(python):.1f} | {low:.2f} to {high:.2f} |")
    return lines


def in_a_row_table(medians: dict) -> list[str]:
    lines = ["| entry point | smallest p50, us | median | largest | spread |", "|---|---|---|---|---|"]
    for name, values in medians.items():
        middle = statistics.median(values)
        spread = (max(values) - min(values)) / middle
        lines.append(f"| `{name}` | {min(values):.2f} | {middle:.2f} | {max(values):.2f} | {spread:.1%} |")
    return lines


def heap_table(terms: dict[str, int]) -> list[str]:
    total = sum(terms.values())
    rows = (f"| {name} | {size:,} | {size / total:.1%} |" for name, size in terms.items())
    return ["| what | bytes | share |", "|---|---|---|", *rows, f"| all | {total:,} | |"]


def faults_table(rows: list[dict]) -> list[str]:
    """Of --faults; a run without it leaves the page's table as it is."""
    lines = ["| test | what is said | exit code | seconds |", "|---|---|---|---|"]
    for row in rows:
        test = row["test"].removeprefix("test_").split("[")[0].replace("_", " ")
        lines.append(f"| {test} | {_cell(row['said'])} | {row['code']} | {row['seconds']} |")
    return lines


def profile_row(profile: dict, entry: dict) -> str:
    run, parity = entry["runs"][0], profile["parity"]
    cells = [
        profile["artifact"]["name"], f"{profile['artifact']['bytes']:,}", f"`{entry['name']}`", f"{run['p50_us']:.1f}",
        f"{run['p99_us']:.1f}", f"{statistics.median(entry['cold_load_ns']) / 1e6:.2f}",
        f"{entry['peak_over_idle_kb']:,}", f"{entry['heap_over_idle_bytes']:,}",
        f"{entry['planned_bytes']:,}" if entry["planned_bytes"] else "not told",
        f"{parity['max_abs']:.2g}, {parity['verdict']}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, help="an ExecuTorch export with 'rank'")
    parser.add_argument("others", type=Path, nargs="*", help="exports to profile next to it")
    parser.add_argument("--faults", action="store_true", help="run tests/device too (root, minutes)")
    parser.add_argument("--json", type=Path, help="file for all raw samples")
    options = parser.parse_args()
    artifact = open_artifact(options.artifact)
    package = ensure_package(artifact.target, host_abi(), print)
    with (
        open_host(artifact.target, package, timeout_s=300) as host,
        tempfile.TemporaryDirectory(prefix="cocorr-benchmark-") as folder,
    ):
        path, contract = empty_program(Path(folder))
        call = Call(contract=contract, inputs=bytes(4), iterations=CALLS, warmup=200)
        empty = host.run(path, call).report["latency_ns"]
        times = in_turns(artifact, host)
        medians = profiles_in_a_row(artifact, host)
        terms = heap_terms(artifact, package, Path(folder))
    profiles = host_profiles([artifact, *(open_artifact(path) for path in options.others)])
    rows = faults() if options.faults else []
    draw(times, medians)
    found = blocks(empty, times, medians, terms, profiles, package, artifact)
    found["faults"] = faults_table(rows) if rows else pages.kept(PAGE, "faults")
    pages.fill(PAGE, found)
    if options.json:
        raw = {"empty_ns": empty, "in_turns_ns": times, "medians_us": medians, "heap": terms, "profiles": profiles}
        raw["faults"] = rows
        options.json.write_text(json.dumps(raw, indent=2), encoding="utf-8")
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
