"""What the phone's calls cost: ``rank`` by model and precision, ``recommend`` by catalog, next to an earlier export.

    python benchmarks/on_device.py                    # fills in the tables of docs/on_device.md
    python benchmarks/on_device.py recommend          # only this one; the other stays as it is

Models have random weights, and codes of product quantization are drawn too: times and sizes depend on shapes alone.
Programs are run by the native runners, one thread, in turns: each figure is the least median of the turns. With
``--programs FOLDER`` programs that lie there are not exported again, so that a busy machine can export and a quiet one
measure. The earlier export is made by the package as it was, from this repository's own history.
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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pages
import torch
from torch import Tensor, nn

from cocorrrec_export.artifact.recipe import Recipe, shipped_recipe
from cocorrrec_export.contract import RECOMMEND, EntryPoint
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.export.graphs import GraphSpec, scn_contracts, scn_graphs
from cocorrrec_export.forms import quantizer, weights
from cocorrrec_export.forms.quantizer import CENTROIDS, SCALE_STEPS, Codes
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.profiling.machines.host import open_host
from cocorrrec_export.profiling.machines.runs import Call, pack
from cocorrrec_export.profiling.runner.package import ensure_package, host_abi
from cocorrrec_export.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "on_device.md"
TABLES = ("rank", "recommend")
NATIVE = ("executorch", "tflite")
PRECISIONS = ("fp32", "int8", "pq16", "pq8")
EARLIER = "764e08c"
"""The commit before product quantization, scores by product, and faster graphs."""
MODELS: dict[str, dict[str, Any]] = {
    "paper's": {"item_side": "mlp", "readout": "norm"},
    "default": {"item_side": "dot", "readout": "residual"},
    "SASRec": {"architecture": "sasrec"},
}
ONE_MINI_BATCH = "default, one mini-batch"
"""The default model where all clicks are one mini-batch, as its ten are."""
BEFORE = ("paper's, earlier", "int8")
ROWS = (
    BEFORE,
    ("paper's", "int8"),
    *(("default", precision) for precision in PRECISIONS),
    ("SASRec, earlier", "int8"),
    ("SASRec", "int8"),
)
"""Models and precisions."""
ITEMS = 10_000
RANKED = ((10, 100), (10, 1000), (25, 100))
"""Clicks and candidates."""
CATALOGS = (10_000, 100_000, 1_000_000)
BRUTE_FORCE = "brute force"
RECOMMENDED = 20
EXPORT_EARLIER = """
import dataclasses, json, sys
from pathlib import Path
import torch
from cocorrrec_export.export import executorch, tflite
from cocorrrec_export.export.graphs import scn_graphs
from cocorrrec_export.export.recipes import shipped_recipe
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig

target, candidates, options, path = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), Path(sys.argv[4])
config = ModelConfig(**options)
recipe = shipped_recipe(f"{target}-xnnpack-int8")
recipe = dataclasses.replace(recipe, candidates=candidates, entry_points=("rank",))
graphs = scn_graphs(build_model(config, generator=torch.Generator().manual_seed(0)).eval(), config, recipe)
export = {"executorch": executorch.export_executorch, "tflite": tflite.export_tflite}[target]
export(graphs, path, metadata={"vocab_size": config.vocab_size})
"""


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


Programs = dict[tuple[Any, ...], Made]


def drawn_codes(weight: Tensor, books: int, *, metric: Tensor | None = None, scaled: bool = False) -> Codes:  # noqa: ARG001
    """In the place of a fit, whose result has no part in times and sizes."""
    generator = torch.Generator().manual_seed(0)
    rows, size = weight.shape
    codes = torch.randint(0, CENTROIDS, (rows, books), generator=generator, dtype=torch.uint8)
    codebooks = torch.randint(-127, 128, (books, CENTROIDS, size // books), generator=generator, dtype=torch.int8)
    scales = torch.randint(1, SCALE_STEPS + 1, (rows, 1), generator=generator, dtype=torch.int8) if scaled else None
    return Codes(codes, codebooks, 1e-3 * torch.eye(size), scales)


def recipe_of(target: str, precision: str) -> Recipe:
    return shipped_recipe(f"{target}-{TARGETS[target].programs['scn'].backends[0]}-{precision}")


def random_model(config: ModelConfig) -> Any:
    return build_model(config, generator=torch.Generator().manual_seed(0)).eval()


def exported(path: Path, graph: Callable[[], GraphSpec], recipe: Recipe, vocab_size: int) -> None:
    """Make a program unless it lies there."""
    if path.exists():
        return
    progress(f"exporting {path.name}")
    partial = path.with_name(f"partial-{path.name}")
    find_exporter(recipe.target).export([graph()], recipe, partial, metadata={"vocab_size": vocab_size})
    partial.rename(path)


def exported_earlier(path: Path, config: ModelConfig, target: str, candidates: int, package: Path) -> None:
    """The same by the package of :data:`EARLIER`, whose files go into the folder ``package``."""
    if path.exists():
        return
    progress(f"exporting {path.name}")
    if not package.exists():
        package.mkdir()
        archive = subprocess.check_output(["git", "archive", EARLIER, "cocorrrec_export", "export_recipes"], cwd=ROOT)
        subprocess.run(["tar", "-x"], cwd=package, input=archive, check=True)
    options = {"vocab_size": config.vocab_size, "sequence_length": config.sequence_length}
    options |= {"architecture": config.architecture}
    partial = path.with_name(f"partial-{path.name}")
    command = [sys.executable, "-c", EXPORT_EARLIER, target, str(candidates), json.dumps(options), str(partial)]
    subprocess.run(command, cwd=package, env=os.environ | {"PYTHONPATH": str(package)}, check=True)
    partial.rename(path)


def rows_of(length: int) -> list[tuple[str, str]]:
    """Models and precisions for so many clicks."""
    several = length > ModelConfig(vocab_size=ITEMS).mini_batch
    return [*ROWS, (ONE_MINI_BATCH, "int8")] if several else list(ROWS)


def config_of(name: str, length: int) -> ModelConfig:
    options = MODELS["default"] | {"mini_batch": length} if name == ONE_MINI_BATCH else MODELS[name]
    return ModelConfig(vocab_size=ITEMS, sequence_length=length, **options)


def made_for_rank(folder: Path) -> Programs:
    """By clicks, candidates, model, precision and target."""
    made: Programs = {}
    for length, candidates in RANKED:
        for name, precision in rows_of(length):
            model = name.removesuffix(", earlier")
            config = config_of(model, length)
            for target in NATIVE:
                label = f"rank {length} {candidates} {name} {precision}".replace(" ", "-").replace(",", "")
                path = folder / f"{label}{TARGETS[target].suffix}"
                recipe = dataclasses.replace(
                    recipe_of(target, precision), candidates=candidates, entry_points=("rank",)
                )
                if model != name:
                    exported_earlier(path, config, target, candidates, folder / EARLIER)
                else:
                    exported(path, lambda c=config, r=recipe: scn_graphs(random_model(c), c, r)[0], recipe, ITEMS)
                contract = scn_contracts(config, candidates=candidates)["rank"]
                made[length, candidates, name, precision, target] = Made(target, path, contract, ITEMS)
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


def recommend_graph(config: ModelConfig, recipe: Recipe, *, brute_force: bool) -> GraphSpec:
    model = random_model(config)
    asked = dataclasses.replace(recipe, entry_points=("rank",)).with_recommend(RECOMMENDED)
    graph = next(graph for graph in scn_graphs(model, config, asked) if graph.name == RECOMMEND)
    if not brute_force:
        return graph
    module = BruteForce(graph.module.device, model.item_embedding.weight).eval()
    return GraphSpec(graph.contract, module, graph.example)


def made_for_recommend(folder: Path, catalogs: Iterable[int]) -> Programs:
    """By items, precision or :data:`BRUTE_FORCE`, and target."""
    made: Programs = {}
    for items in catalogs:
        config = ModelConfig(vocab_size=items, **MODELS["default"])
        for name in (BRUTE_FORCE, *PRECISIONS):
            brute = name == BRUTE_FORCE
            for target in NATIVE:
                path = folder / f"recommend-{items}-{name.replace(' ', '-')}{TARGETS[target].suffix}"
                recipe = recipe_of(target, "fp32" if brute else name)
                exported(path, lambda c=config, r=recipe, b=brute: recommend_graph(c, r, brute_force=b), recipe, items)
                contract = scn_contracts(config, candidates=1, recommend=RECOMMENDED)[RECOMMEND]
                made[items, name, target] = Made(target, path, contract, items)
    return made


def least_medians(made: Programs, calls: int, turns: int) -> dict[tuple[Any, ...], float]:
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


def machine() -> list[str]:
    return [f"{platform.machine()}, {platform.system()}; torch {torch.__version__}.", ""]


def rank_table(folder: Path, turns: int, *, only_export: bool) -> list[str]:
    made = made_for_rank(folder)
    if only_export:
        return []
    times = least_medians(made, calls=400, turns=turns)
    lines = [
        *machine(),
        "| clicks | candidates | model | precision | " + " | ".join(f"{t}, us | x" for t in NATIVE) + " |",
        "|---|---|---|---|" + "---|---|" * len(NATIVE),
    ]
    for length, candidates in RANKED:
        for name, precision in rows_of(length):
            cells = []
            for target in NATIVE:
                own = times[length, candidates, name, precision, target]
                cells.append(f"{own:.1f} | {own / times[length, candidates, *BEFORE, target]:.2f}")
            lines.append(f"| {length} | {candidates:,} | {name} | {precision} | " + " | ".join(cells) + " |")
    return lines


def recommend_table(folder: Path, catalogs: Iterable[int], turns: int, *, only_export: bool) -> list[str]:
    made = made_for_recommend(folder, catalogs)
    if only_export:
        return []
    times = least_medians(made, calls=200, turns=turns)
    lines = [
        *machine(),
        "| items | precision | " + " | ".join(f"{target}, ms | MB" for target in NATIVE) + " |",
        "|---|---|" + "---|---|" * len(NATIVE),
    ]
    for items, name in dict.fromkeys(key[:2] for key in made):
        cells = [f"{times[items, name, t] / 1e3:.2f} | {made[items, name, t].bytes / 1e6:.1f}" for t in NATIVE]
        lines.append(f"| {items:,} | {name} | " + " | ".join(cells) + " |")
    return lines


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=TABLES, help=f"only these; by default {' and '.join(TABLES)}")
    parser.add_argument("--turns", type=int, default=5, help="how often each program is measured")
    parser.add_argument("--catalogs", type=numbers, default=CATALOGS, help="numbers of items, by commas")
    parser.add_argument("--programs", type=Path, help="folder that keeps the programs; a temporary one by default")
    parser.add_argument("--only-export", action="store_true", help="make the programs and stop; needs --programs")
    arguments = parser.parse_args()
    unknown = set(arguments.tables) - set(TABLES)
    if unknown:
        parser.error(f"no table '{unknown.pop()}': there are {' and '.join(TABLES)}")
    if arguments.only_export and arguments.programs is None:
        parser.error("--only-export needs --programs FOLDER")
    torch.set_num_threads(1)
    quantizer.fit_codes = weights.fit_codes = drawn_codes
    blocks = {name: pages.kept(PAGE, name) for name in TABLES}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.programs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if "rank" in arguments.tables:
            blocks["rank"] = rank_table(folder, arguments.turns, only_export=arguments.only_export)
        if "recommend" in arguments.tables:
            blocks["recommend"] = recommend_table(
                folder, arguments.catalogs, arguments.turns, only_export=arguments.only_export
            )
    if not arguments.only_export:
        pages.fill(PAGE, blocks)


if __name__ == "__main__":
    main()
