"""``rank`` of every architecture over the length of the history, in ExecuTorch and LiteRT, on one thread, in one run.

Weights are random, those of norms too, since a converter drops a product with ones: they change neither time nor size.
Each program is exported in int8 for 100 candidates by the recipes that ship, and run by the native runner: latency of
every call, planned arena, heap, file. Next to ``rank``:

- a click of the streaming form (``step``) of the models that have one, against ``rank`` of SASRec for one candidate,
  which has to read the whole history again;
- SASRec as it is trained, which computes every position, converted without an export graph, in float32.

Writes docs/architectures.md, its picture, and all raw samples as JSON.

    python benchmarks/architectures.py --json architectures.json
"""

import argparse
import dataclasses
import importlib.metadata
import itertools
import json
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pages
import plain
import torch
from torch import Tensor

from cocorrrec_export.artifact.recipe import shipped_recipes
from cocorrrec_export.files import publish_file
from cocorrrec_export.modeling.build import ARCHITECTURES
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.layers import pick_rows
from cocorrrec_export.modeling.ranker import last_position
from cocorrrec_export.modeling.store import ModelFolder, open_model, save_model
from cocorrrec_export.profiling.machines.host import Host, open_host
from cocorrrec_export.profiling.machines.runs import Program
from cocorrrec_export.profiling.measure import Settings, Shape, measure_shapes
from cocorrrec_export.profiling.runner.package import ensure_package, host_abi
from cocorrrec_export.profiling.shapes import export_shapes
from cocorrrec_export.reproduction.device import random_model

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architectures.md"
PICTURE = ROOT / "docs" / "architectures.png"
TARGETS = ("executorch", "tflite")
LENGTHS = (10, 25, 50, 100, 200)
CANDIDATES = 100
VOCABULARY = 10_000
STREAMING = ("cocorrrec", "gru4rec", "mamba4rec")
PLAIN = "sasrec-plain"
SETTINGS = Settings(iterations=300, warmup=50)
TITLES = {
    "cocorrrec": "CoCorrRec (SCN)",
    "din": "DIN",
    "gru4rec": "GRU4Rec",
    "sasrec": "SASRec",
    "bert4rec": "BERT4Rec",
    "mamba4rec": "Mamba4Rec",
    PLAIN: "SASRec, every position, float32",
}


def model_folder(architecture: str, length: int, parent: Path) -> ModelFolder:
    """A random model on disk, whose tables of positions, if any, are long enough."""
    path = parent / f"{architecture}-{length}"
    if not path.exists():
        config = ModelConfig(vocab_size=VOCABULARY, architecture=architecture, sequence_length=length)
        path.mkdir()
        save_model(path, random_model(config), config, name=path.name)
    return open_model(path)


def measure_export(
    host: Host, target: str, folder: ModelFolder, length: int, candidates: int, entry_point: str, out: Path
) -> dict:
    recipe = next(x for x in shipped_recipes() if (x.kind, x.target, x.precision) == ("scn", target, "int8"))
    recipe = dataclasses.replace(recipe, candidates=candidates, entry_points=(entry_point,))
    own = Path(tempfile.mkdtemp(dir=out))
    shapes = export_shapes(folder, recipe, [(length, candidates)], (entry_point,), own, progress=lambda _: None)
    (row,) = measure_shapes(host, shapes, SETTINGS, lambda _: None)
    return row


class EveryPosition(torch.nn.Module):
    """SASRec with the state after every click, as it comes out of most toolkits; the last one is taken."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, candidates: Tensor) -> Tensor:
        model = self.model
        states = model.every_position(ids, model.item_embedding(ids))
        user = model.user_mlp(pick_rows(states, last_position(ids)))
        return torch.sigmoid(model.match(user, model.item_vectors(candidates)))


def measure_plain(host: Host, target: str, length: int, candidates: int, out: Path) -> dict:
    """One row, or an empty one where the toolkit cannot convert or run the model."""
    config = ModelConfig(vocab_size=VOCABULARY, architecture="sasrec", sequence_length=length)
    module = EveryPosition(random_model(config)).eval()
    example = (torch.ones(1, length, dtype=torch.int32), torch.ones(1, candidates, dtype=torch.int32))
    path = out / f"plain{length}-{candidates}.{'pte' if target == 'executorch' else 'tflite'}"
    contract = plain.contract(length, candidates)
    generator = np.random.default_rng(0)
    case = {spec.name: generator.integers(1, VOCABULARY, spec.shape, dtype=np.int32) for spec in contract.inputs}
    shape = Shape(length, candidates, Program(path, (contract,)), {"rank": case})
    try:
        plain.export_plain(target, module, example, path)
        (row,) = measure_shapes(host, [shape], SETTINGS, lambda _: None)
    except Exception as error:  # what a toolkit says of the plain model is the finding
        print(f"{target} plain SASRec, L={length}: {type(error).__name__}: {error}")
        return {}
    return row


def cases(architectures: list[str], lengths: list[int]) -> Iterator[tuple[int, str, str, int]]:
    """Length, architecture, entry point and candidates of all that is measured."""
    for length in lengths:
        for name in architectures:
            yield length, name, "rank", CANDIDATES
            if name in STREAMING and length == lengths[0]:
                yield length, name, "step", CANDIDATES
            if name == "sasrec":
                yield length, name, "rank", 1
        yield length, PLAIN, "rank", CANDIDATES
        yield length, PLAIN, "rank", 1


def run(
    architectures: list[str],
    lengths: list[int],
    targets: list[str],
    turns: int,
    rows: list[dict],
    keep: Callable[[], None],
) -> None:
    """Append to ``rows`` what is not in it ``turns`` times yet, and call ``keep`` after each."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for turn, target in itertools.product(range(turns), targets):
            with open_host(target, ensure_package(target, host_abi(), print), timeout_s=300) as host:
                for length, name, entry_point, candidates in cases(architectures, lengths):
                    if len(find_all(rows, target, name, entry_point, length, candidates)) > turn:
                        continue
                    if name == PLAIN:
                        row = measure_plain(host, target, length, candidates, out)
                    else:
                        model = model_folder(name, length, out)
                        row = measure_export(host, target, model, length, candidates, entry_point, out)
                    if row:
                        rows.append({"target": target, "architecture": name} | row)
                        keep()
                        print(f"{target} {name} {entry_point} L={length} C={candidates}: {row['p50_us']} us")


# ---------------------------------------------------------------------- the page


def find_all(rows: list[dict], *wanted: str | int) -> list[dict]:
    """The rows of a target, architecture, entry point, length and number of candidates."""
    keys = ("target", "architecture", "entry_point", "length", "candidates")
    return [row for row in rows if tuple(row[key] for key in keys) == wanted]


def find(rows: list[dict], *wanted: str | int) -> dict:
    """Of those of all turns, the one of the quietest moment: the smallest median."""
    return min(find_all(rows, *wanted), key=lambda row: row["p50_us"], default={})


def table(rows: list[dict], target: str, lengths: list[int], cell, title: str) -> list[str]:
    lines = [
        f"**{title}**",
        "",
        "| | " + " | ".join(f"L = {x}" for x in lengths) + " |",
        "|---" * (1 + len(lengths)) + "|",
    ]
    for name, label in TITLES.items():
        found = [find(rows, target, name, "rank", length, CANDIDATES) for length in lengths]
        if any(found):
            lines.append(f"| {label} | " + " | ".join(cell(row) if row else "-" for row in found) + " |")
    return [*lines, ""]


def blocks(results: dict) -> dict[str, list[str]]:
    """What the page has between its marks: one block per target."""
    machine = (
        f"{CANDIDATES} candidates, {VOCABULARY:,} items; the quietest of {results['turns']} turns; "
        f"{results['machine']}; " + ", ".join(f"{k} {v}" for k, v in results["versions"].items()) + "."
    )
    measured = results["targets"]
    made = {x: tables(results, x) if x in measured else pages.kept(PAGE, x) for x in TARGETS}
    return {"machine": [machine]} | made


def tables(results: dict, target: str) -> list[str]:
    rows, lengths = results["rows"], results["lengths"]
    lines = table(
        rows, target, lengths, lambda row: f"{row['p50_us']:.0f} / {row['p99_us']:.0f}", "Latency, p50 / p99 in us"
    )
    lines += table(
        rows,
        target,
        lengths,
        lambda row: f"{statistics.median(row['heap_over_idle_bytes']) / 2**20:.2f}",
        "Heap of loading and calling, MiB",
    )
    if target == "executorch":
        lines += table(rows, target, lengths, lambda row: f"{row['planned_bytes'] / 1024:.0f}", "Planned arena, KiB")
    lines += table(rows, target, lengths, lambda row: f"{row['program_bytes'] / 1e6:.2f}", "File, MB")
    return lines + comparison(rows, target, lengths)


def comparison(rows: list[dict], target: str, lengths: list[int]) -> list[str]:
    lines = [
        "**The SCN against SASRec**",
        "",
        "| L | `rank` / SASRec | / every position | a click / SASRec | / every position |",
        "|---|---|---|---|---|",
    ]
    step = find(rows, target, "cocorrrec", "step", lengths[0], CANDIDATES)
    for length in lengths:
        scn = find(rows, target, "cocorrrec", "rank", length, CANDIDATES)
        others = (
            (scn, find(rows, target, "sasrec", "rank", length, CANDIDATES)),
            (scn, find(rows, target, PLAIN, "rank", length, CANDIDATES)),
            (step, find(rows, target, "sasrec", "rank", length, 1)),
            (step, find(rows, target, PLAIN, "rank", length, 1)),
        )
        cells = (f"{mine['p50_us'] / other['p50_us']:.2f}" if mine and other else "-" for mine, other in others)
        lines.append(f"| {length} | " + " | ".join(cells) + " |")
    clicks = (
        f"{TITLES[name]} {row['p50_us']:.1f}"
        for name in STREAMING
        if (row := find(rows, target, name, "step", lengths[0], CANDIDATES))
    )
    return [*lines, "", "`step`, p50 in us, whatever the length: " + ", ".join(clicks) + ".", ""]


def plot(results: dict, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4 * len(results["targets"])), layout="constrained")
    panels = figure.subplots(len(results["targets"]), 2, squeeze=False)
    for (left, right), target in zip(panels, results["targets"], strict=True):
        for name, label in TITLES.items():
            own = [
                x for x in (find(results["rows"], target, name, "rank", n, CANDIDATES) for n in results["lengths"]) if x
            ]
            if not own:
                continue
            lengths, style = [row["length"] for row in own], ":" if name == PLAIN else "-"
            left.plot(lengths, [row["p50_us"] for row in own], style, marker="o", label=label)
            heap = [statistics.median(row["heap_over_idle_bytes"]) / 2**20 for row in own]
            right.plot(lengths, heap, style, marker="o")
        left.set(title=f"{target}: p50 of `rank`, us", xlabel="clicks", yscale="log")
        right.set(title=f"{target}: heap, MiB", xlabel="clicks", ylim=(0, None))
        left.grid(alpha=0.3)
        right.grid(alpha=0.3)
        left.legend(fontsize=7)
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES), choices=list(ARCHITECTURES))
    parser.add_argument("--lengths", nargs="+", type=int, default=list(LENGTHS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--turns", type=int, default=2, help="how often each is measured; the quietest is shown")
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("architectures.json"),
        help="all raw samples; a run continues from what is there",
    )
    arguments = parser.parse_args()
    rows = json.loads(arguments.json.read_text())["rows"] if arguments.json.is_file() else []
    results = {
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "versions": {x: importlib.metadata.version(x) for x in ("torch", "executorch", "ai-edge-litert")},
        "lengths": arguments.lengths,
        "targets": arguments.targets,
        "turns": arguments.turns,
        "rows": rows,
    }

    def keep() -> None:
        with publish_file(arguments.json) as staging:
            staging.write_text(json.dumps(results))

    run(arguments.architectures, arguments.lengths, arguments.targets, arguments.turns, rows, keep)
    with publish_file(PICTURE) as staging:
        plot(results, staging)
    pages.fill(PAGE, blocks(results))


if __name__ == "__main__":
    main()
