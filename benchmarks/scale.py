"""What the number of items costs: training steps, the memory of exports, file sizes and the latency of ``rank``.

    python benchmarks/scale.py                  # writes docs/scale.md
    python benchmarks/scale.py --quick --json   # fewer sizes, one JSON object on stdout

Models have random weights, and so do the tables: sizes, times and memory depend on shapes alone. Each export runs in a
process of its own, whose peak of resident memory is read at its end; ``rank`` is measured by the native runners, one
thread, programs in turns, the least median of the turns. Steps are of 205 histories with four negatives each; clicks
follow Zipf's law.
"""

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pages
import torch
from clicks import zipf_clicks

from cocorrrec_export.artifact.recipe import shipped_recipe
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.export.graphs import scn_graphs
from cocorrrec_export.files import publish_file
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.profiling.machines.host import open_host
from cocorrrec_export.profiling.machines.runs import Call, pack
from cocorrrec_export.profiling.machines.worker import memory
from cocorrrec_export.profiling.runner.package import ensure_package, host_abi
from cocorrrec_export.targets import TARGETS
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.loop import Batch, Step, TrainingData
from cocorrrec_export.training.optimizers import Optimizers

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "scale.md"
PRECISIONS = ("fp32", "int8", "pq16", "pq8")
NATIVE = ("executorch", "tflite")
BATCH, LENGTH, NEGATIVES = 205, 10, 4
MEASURED_TARGET = "executorch"
"""Whose exports are weighed."""


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def training_data(vocab_size: int, batches: int) -> TrainingData:
    """Users of as many clicks as a history has, and the target."""
    rng, rows = np.random.default_rng(0), batches * BATCH
    clicks = zipf_clicks(vocab_size - 1, (rows, LENGTH + 1), rng)
    offsets = np.arange(rows + 1, dtype=np.int64) * (LENGTH + 1)
    interactions = Interactions(clicks.ravel(), offsets, _Names(vocab_size - 1), _Names(rows))
    train = leave_last_out(interactions, sequence_length=LENGTH).test
    # No epoch ends here, so nothing is validated.
    return TrainingData(interactions, train, NegativeSampler(interactions), None)  # type: ignore[arg-type]


class _Names(list):  # type: ignore[type-arg]
    """As many names as there are items, without making millions of strings."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __len__(self) -> int:
        return self._count


def step_ms(vocab_size: int, table_optimizer: str, steps: int) -> float:
    """Milliseconds of the processor, of which others on the machine take none, for the least of some training steps."""
    config = TrainConfig(weight_decay=0.01, negatives=NEGATIVES, table_optimizer=table_optimizer)  # type: ignore[arg-type]
    data = training_data(vocab_size, steps + 2)
    model = build_model(ModelConfig(vocab_size=vocab_size), generator=torch.Generator().manual_seed(0)).train()
    optimizers = Optimizers(model, config, every_row=False)
    step, samples = Step(model, data, config, "bce", optimizers.table), []
    for index in range(steps + 2):
        batch = Batch.of(data.train.cut(np.arange(index * BATCH, (index + 1) * BATCH)))
        start = time.process_time()
        optimizers.zero_grad()
        step(batch, np.random.default_rng(index))
        optimizers.step()
        samples.append(1e3 * (time.process_time() - start))
    return min(samples[2:])


def export_program(vocab_size: int, target: str, precision: str, path: Path) -> list:
    """Export random weights, without parity; the graphs."""
    config = ModelConfig(vocab_size=vocab_size)
    model = build_model(config, generator=torch.Generator().manual_seed(0)).eval()
    recipe = shipped_recipe(f"{target}-{TARGETS[target].programs['scn'].backends[0]}-{precision}")
    graphs = scn_graphs(model, config, dataclasses.replace(recipe, entry_points=("rank",)))
    find_exporter(target).export(graphs, recipe, path, metadata={})
    return graphs


def weighed_export(vocab_size: int) -> float:
    """Peak of resident memory, in MB, of a process that exports a table of ``vocab_size`` in int8; 0: of imports."""
    command = [sys.executable, __file__, "--weigh", str(vocab_size)]
    return float(subprocess.check_output(command, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}))


def weigh(vocab_size: int) -> None:
    """The child of :func:`weighed_export`."""
    with tempfile.TemporaryDirectory() as folder:
        # A table of a few items brings every import, and what an exporter needs however small the model.
        export_program(max(vocab_size, 16), MEASURED_TARGET, "int8", Path(folder) / "program")
    # Not what getrusage says: a child's peak there is at least its parent's.
    print(memory()["peak_kb"] * 1024 / 1e6)


def programs(vocab_size: int, folder: Path) -> dict[tuple[str, str], tuple[Path, object]]:
    """The programs of every native target and precision, each with its graph of ``rank``."""
    made = {}
    for target in NATIVE:
        for precision in PRECISIONS:
            progress(f"exporting {target} {precision}")
            path = folder / f"{target}-{precision}{TARGETS[target].suffix}"
            (graph,) = export_program(vocab_size, target, precision, path)
            made[target, precision] = (path, graph.contract)
    return made


def rank_us(vocab_size: int, made: dict, *, turns: int, calls: int) -> dict[str, dict[str, float]]:
    """Microseconds of ``rank``: of each program the least median of all turns."""
    rng, least = np.random.default_rng(0), {}
    packages = {target: ensure_package(target, host_abi(), progress) for target in NATIVE}
    for turn in range(turns):
        progress(f"rank, turn {turn + 1} of {turns}")
        for (target, precision), (path, contract) in made.items():
            cases = [
                {x.name: rng.integers(1, vocab_size, x.shape).astype(np.int32) for x in contract.inputs}
                for _ in range(16)
            ]
            with open_host(target, packages[target], timeout_s=120) as host:
                call = Call(contract=contract, inputs=pack(contract, cases), iterations=calls, warmup=50, threads=1)
                report = host.run(path, call).report
            median = float(np.median(report["latency_ns"])) / 1e3
            least[target, precision] = min(median, least.get((target, precision), median))
    return {t: {p: round(least[t, p], 2) for p in PRECISIONS if (t, p) in least} for t in NATIVE}


@dataclass(frozen=True)
class Sizes:
    """Of one run."""

    steps: tuple[int, ...] = (10_000, 100_000, 1_000_000, 4_000_000)
    """Numbers of items whose training steps are timed."""
    counted: int = 20
    """Steps of each."""
    exports: tuple[int, ...] = (9_067, 100_000, 1_000_000)
    """Numbers of items whose exports are weighed."""
    ranked: int = 10_000
    turns: int = 5


QUICK = Sizes(steps=(10_000, 4_000_000), counted=8, exports=(9_067, 100_000), turns=2)


def run(sizes: Sizes, *, quick: bool) -> dict:
    """Everything of ``sizes``; ``quick`` leaves out the dense optimizer."""
    torch.set_num_threads(1)
    result: dict = {"step_ms": {}, "export_peak_mb": {}, "table_mb": {}}
    for vocab_size in sizes.steps:
        progress(f"training steps with {vocab_size:,} items")
        result["step_ms"][vocab_size] = round(step_ms(vocab_size, "lazy_adamw", sizes.counted), 2)
        if not quick:
            dense = result.setdefault("step_ms_adamw", {})
            dense[vocab_size] = round(step_ms(vocab_size, "adamw", 5), 2)
    progress("weighing the importers")
    result["import_peak_mb"] = round(weighed_export(0), 1)
    for vocab_size in sizes.exports:
        progress(f"weighing an export of {vocab_size:,} items")
        result["table_mb"][vocab_size] = round(vocab_size * ModelConfig(vocab_size=2).hidden_size * 4 / 1e6, 2)
        result["export_peak_mb"][vocab_size] = round(weighed_export(vocab_size), 1)
    with tempfile.TemporaryDirectory() as folder:
        made = programs(sizes.ranked, Path(folder))
        result["program_bytes"] = {p: made[MEASURED_TARGET, p][0].stat().st_size for p in PRECISIONS}
        try:
            result["rank_us"] = rank_us(sizes.ranked, made, turns=sizes.turns, calls=300)
        except CocorrrecError as error:  # no compiler here, and no runner installed
            progress(f"rank is not measured: {error}")
            result["rank_us"] = {}
    return result


def blocks(result: dict) -> dict[str, list[str]]:
    """What is between the marks of docs/scale.md."""
    steps, dense = result["step_ms"], result["step_ms_adamw"]
    table, peak, base = result["table_mb"], result["export_peak_mb"], result["import_peak_mb"]
    made = f"{platform.machine()}, torch {torch.__version__}, {BATCH} histories a step, {NEGATIVES} negatives each."
    return {
        "steps": [
            made,
            "",
            "| items | `lazy_adamw`, ms (default) | examples/s | `adamw`, ms |",
            "|---|---|---|---|",
            *(f"| {v:,} | {ms:.1f} | {1e3 * BATCH / ms:,.0f} | {dense[v]:.1f} |" for v, ms in steps.items()),
        ],
        "exports": [
            f"Of an export to {MEASURED_TARGET}; importers alone: {base:.0f} MB.",
            "",
            "| items | float32 table, MB | peak, MB | above the importers, in tables |",
            "|---|---|---|---|",
            *(f"| {v:,} | {table[v]:.1f} | {x:.0f} | {(x - base) / table[v]:.1f} |" for v, x in peak.items()),
        ],
        "rank": [
            "| precision | ExecuTorch file, kB | " + " | ".join(f"{x}, us" for x in result["rank_us"]) + " |",
            "|---|---|" + "---|" * len(result["rank_us"]),
            *(
                f"| {p} | {size / 1e3:.0f} | " + " | ".join(f"{us[p]:.1f}" for us in result["rank_us"].values()) + " |"
                for p, size in result["program_bytes"].items()
            ),
        ],
    }


def plot(result: dict, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    steps, memory_of, latency = figure.subplots(1, 3)
    for label, line in (("lazy_adamw", result["step_ms"]), ("adamw", result["step_ms_adamw"])):
        steps.plot(list(line), list(line.values()), marker=".", label=label)
    steps.set_title("training step, ms")
    steps.set_xlabel("items")
    steps.set_xscale("log")
    steps.set_yscale("log")
    steps.legend(fontsize="small")
    for label, line in (("peak of an int8 export", result["export_peak_mb"]), ("float32 table", result["table_mb"])):
        memory_of.plot(list(line), list(line.values()), marker=".", label=label)
    memory_of.axhline(result["import_peak_mb"], linestyle=":", color="C0", label="importers")
    memory_of.set_title("resident memory, MB")
    memory_of.set_xlabel("items")
    memory_of.set_xscale("log")
    memory_of.legend(fontsize="small")
    for target, times in result["rank_us"].items():
        latency.plot(list(times), list(times.values()), marker=".", label=target)
    latency.set_title("rank, 100 candidates, one thread, us")
    latency.set_ylim(bottom=0)
    if result["rank_us"]:
        latency.legend(fontsize="small")
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer sizes and turns")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of writing docs/scale.md")
    parser.add_argument("--weigh", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.weigh is not None:
        weigh(arguments.weigh)
        return
    result = run(QUICK if arguments.quick else Sizes(), quick=arguments.quick)
    if arguments.json:
        print(json.dumps(result))
        return
    pages.fill(PAGE, blocks(result))
    with publish_file(PAGE.with_suffix(".png")) as staging:
        plot(result, staging)


if __name__ == "__main__":
    main()
