"""What the phone's calls cost: ``rank`` by model and item side, ``recommend`` by catalog, sizes, and memory of exports.

    python benchmarks/on_device.py                    # all of it; writes docs/on_device.md
    python benchmarks/on_device.py rank recommend     # only these tables; prints them

Models have random weights: sizes and times depend on shapes alone. Programs are run by the native runners, one thread,
in turns: each figure is the least median of the turns. Exports are weighed in processes of their own.
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cocorrrec_export.artifact.recipe import Recipe, shipped_recipe
from cocorrrec_export.contract import RECOMMEND, EntryPoint
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.export.graphs import GraphSpec, scn_graphs
from cocorrrec_export.files import publish_file
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.profiling.machines.host import open_host
from cocorrrec_export.profiling.machines.runs import Call, pack
from cocorrrec_export.profiling.machines.worker import memory
from cocorrrec_export.profiling.runner.package import ensure_package, host_abi
from cocorrrec_export.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
NATIVE = ("executorch", "tflite")
MODELS: dict[str, dict[str, Any]] = {
    "paper's": {"item_side": "mlp", "readout": "norm"},
    "default": {"item_side": "dot", "readout": "residual"},
    "SASRec": {"architecture": "sasrec"},
}
ITEMS, TURNS = 10_000, 5
RANKED = ((10, 100), (10, 1000), (25, 100))
"""Clicks and candidates."""
CATALOGS = (10_000, 100_000, 1_000_000)
PRECISIONS = ("fp32", "int8", "pq16", "pq8")
RECOMMENDED = 20
WEIGHED = (9_067, 100_000, 1_000_000)


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Made:
    """A program, and what it is called with."""

    target: str
    path: Path
    contract: EntryPoint
    vocab_size: int

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size


def recipe_of(target: str, precision: str) -> Recipe:
    return shipped_recipe(f"{target}-{TARGETS[target].programs['scn'].backends[0]}-{precision}")


def random_model(config: ModelConfig) -> Any:
    return build_model(config, generator=torch.Generator().manual_seed(0)).eval()


def export(graph: GraphSpec, recipe: Recipe, path: Path, vocab_size: int) -> Made:
    find_exporter(recipe.target).export([graph], recipe, path, metadata={"vocab_size": vocab_size})
    return Made(recipe.target, path, graph.contract, vocab_size)


def made_for_rank(folder: Path) -> dict[tuple[Any, ...], Made]:
    """By clicks, candidates, model and target."""
    made = {}
    for length, candidates in RANKED:
        for name, options in MODELS.items():
            config = ModelConfig(vocab_size=ITEMS, sequence_length=length, **options)
            model = random_model(config)
            for target in NATIVE:
                progress(f"exporting {target}, {name}, {length} clicks, {candidates} candidates")
                recipe = dataclasses.replace(recipe_of(target, "int8"), candidates=candidates, entry_points=("rank",))
                (graph,) = scn_graphs(model, config, recipe)
                path = folder / f"{len(made)}{TARGETS[target].suffix}"
                made[length, candidates, name, target] = export(graph, recipe, path, ITEMS)
    return made


class BruteForce(nn.Module):
    """The plain way: the user times the whole float32 table, and the best of that. It leaves nothing out."""

    def __init__(self, device: Any, table: Tensor) -> None:
        super().__init__()
        self.device = device
        self.register_buffer("catalog", table.detach())

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        user = self.device.read(ids, self.device.table(ids.view(ids.shape[1])))
        scores, places = torch.topk(nn.functional.linear(user, self.catalog), RECOMMENDED)
        return places.to(torch.int32), scores


def recommend_graph(model: Any, config: ModelConfig, recipe: Recipe) -> GraphSpec:
    asked = dataclasses.replace(recipe, entry_points=("rank",)).with_recommend(RECOMMENDED)
    return next(graph for graph in scn_graphs(model, config, asked) if graph.name == RECOMMEND)


def brute_force(model: Any, config: ModelConfig, recipe: Recipe) -> GraphSpec:
    graph = recommend_graph(model, config, recipe)
    module = BruteForce(graph.module.device, model.item_embedding.weight).eval()
    return GraphSpec(graph.contract, module, graph.example)


def made_for_recommend(folder: Path, catalogs: Iterable[int]) -> dict[tuple[Any, ...], Made]:
    """By items, precision or ``brute force``, and target."""
    made = {}
    for items in catalogs:
        config = ModelConfig(vocab_size=items, **MODELS["default"])
        model = random_model(config)
        for name in ("brute force", *PRECISIONS):
            for target in NATIVE:
                progress(f"exporting {target}, {items:,} items, {name}")
                recipe = recipe_of(target, "fp32" if name == "brute force" else name)
                make = brute_force if name == "brute force" else recommend_graph
                path = folder / f"r{len(made)}{TARGETS[target].suffix}"
                made[items, name, target] = export(make(model, config, recipe), recipe, path, items)
    return made


def least_medians(made: dict[tuple[Any, ...], Made], calls: int, turns: int = TURNS) -> dict[tuple[Any, ...], float]:
    """Microseconds: of each program the least median of all turns."""
    rng, least = np.random.default_rng(0), {}
    packages = {target: ensure_package(target, host_abi(), progress) for target in NATIVE}
    for turn in range(turns):
        progress(f"turn {turn + 1} of {turns}")
        for key, program in made.items():
            cases = [
                {x.name: rng.integers(1, program.vocab_size, x.shape).astype(np.int32) for x in program.contract.inputs}
                for _ in range(16)
            ]
            count = calls if program.vocab_size <= ITEMS else max(5, calls * ITEMS // program.vocab_size)
            with open_host(program.target, packages[program.target], timeout_s=300) as host:
                call = Call(
                    contract=program.contract,
                    inputs=pack(program.contract, cases),
                    iterations=count,
                    warmup=max(2, count // 6),
                    threads=1,
                )
                report = host.run(program.path, call).report
            median = float(np.median(report["latency_ns"])) / 1e3
            least[key] = min(median, least.get(key, math.inf))
    return least


def rank_table(folder: Path) -> list[str]:
    times = least_medians(made_for_rank(folder), calls=400)
    lines = [
        "## `rank`",
        "",
        f"Int8, {ITEMS:,} items, microseconds; x is over the paper's model with its item tower, as exported today.",
        "",
        "| clicks | candidates | model | " + " | ".join(f"{target} | x" for target in NATIVE) + " |",
        "|---|---|---|" + "---|---|" * len(NATIVE),
    ]
    for length, candidates in RANKED:
        for name in MODELS:
            cells = []
            for target in NATIVE:
                own, base = (times[length, candidates, which, target] for which in (name, next(iter(MODELS))))
                cells.append(f"{own:.1f} | {own / base:.2f}")
            lines.append(f"| {length} | {candidates:,} | {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def recommend_table(folder: Path, catalogs: Iterable[int]) -> list[str]:
    made = made_for_recommend(folder, catalogs)
    times = least_medians(made, calls=200, turns=3)
    lines = [
        "## `recommend`",
        "",
        f"The {RECOMMENDED} best of all items, milliseconds, next to the float32 table times the user in one product",
        "and the best of it, which leaves out neither history nor padding (brute force).",
        "",
        "| items | precision | " + " | ".join(f"{target}, ms | MB" for target in NATIVE) + " |",
        "|---|---|" + "---|---|" * len(NATIVE),
    ]
    for items, name in dict.fromkeys(key[:2] for key in made):
        cells = [f"{times[items, name, t] / 1e3:.2f} | {made[items, name, t].bytes / 1e6:.1f}" for t in NATIVE]
        lines.append(f"| {items:,} | {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def weigh(items: int, target: str) -> None:
    """Export in this process, all entry points in int8, and print its peak of resident memory."""
    config = ModelConfig(vocab_size=items, **MODELS["default"])
    recipe = recipe_of(target, "int8")
    with tempfile.TemporaryDirectory() as folder:
        graphs = scn_graphs(random_model(config), config, recipe)
        path = Path(folder) / TARGETS[target].programs["scn"].name
        find_exporter(target).export(graphs, recipe, path, metadata={"vocab_size": items})
    # Not what getrusage says: a child's peak there is at least its parent's.
    print(json.dumps(memory()["peak_kb"] * 1024 / 1e6))


def weighed(items: int, target: str) -> float:
    command = [sys.executable, __file__, "--weigh", f"{target},{items}"]
    return float(json.loads(subprocess.check_output(command, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})))


def memory_table(targets: Iterable[str], catalogs: Iterable[int]) -> list[str]:
    lines = [
        "## Memory of an export",
        "",
        "Peak of resident memory of a process that makes a model and exports it in int8, all entry points. Base:",
        "the same with 60 items, which is imports and what the converters need anyway.",
        "",
        "| target | base, MB | items | float32 table, MB | peak, MB | above base, in tables |",
        "|---|---|---|---|---|---|",
    ]
    for target in targets:
        base = weighed(60, target)
        for items in catalogs:
            progress(f"weighing {target}, {items:,} items")
            table, peak = items * ModelConfig(vocab_size=2).hidden_size * 4 / 1e6, weighed(items, target)
            lines.append(
                f"| {target} | {base:.0f} | {items:,} | {table:.1f} | {peak:.0f} | {(peak - base) / table:.1f} |"
            )
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", choices=["rank", "recommend", "memory"], help="only these; all by default")
    parser.add_argument("--catalogs", help="numbers of items, by commas")
    parser.add_argument("--targets", help="to weigh exports to, by commas")
    parser.add_argument("--weigh", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.weigh:
        target, items = arguments.weigh.split(",")
        weigh(int(items), target)
        return
    catalogs = [int(x) for x in arguments.catalogs.split(",")] if arguments.catalogs else None
    wanted = arguments.tables or ["rank", "recommend", "memory"]
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        if "rank" in wanted:
            lines += rank_table(Path(folder))
        if "recommend" in wanted:
            lines += recommend_table(Path(folder), catalogs or CATALOGS)
    if "memory" in wanted:
        lines += memory_table(arguments.targets.split(",") if arguments.targets else TARGETS, catalogs or WEIGHED)
    if arguments.tables:
        print("\n".join(lines))
        return
    head = [
        "# What calls on the phone cost",
        "",
        "Written by `python benchmarks/on_device.py`: one run, one thread, native runners, random weights.",
        f"{platform.machine()}, torch {torch.__version__}. A shared machine: read times as ratios.",
        "",
    ]
    with publish_file(ROOT / "docs" / "on_device.md") as staging:
        staging.write_text("\n".join(head + lines))


if __name__ == "__main__":
    main()
