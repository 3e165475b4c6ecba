"""Every target, precision and item side of the on-device model, side by side in one run, and what each costs.

Fidelity (NDCG@10 of the float32 model and of the file, top-10 overlap, cosine of the scores) is that of the held-out
users of the shipped model; latency, load and memory are those of fresh processes on one thread, called from Python.
Next to them: eager torch, and the same model exported the plain way. A click of the streaming form is next to
attention recomputed over the history. Fills in docs/targets.md, writes docs/targets.png and all raw samples as JSON.

    python benchmarks/targets.py --json targets.json
"""

import argparse
import dataclasses
import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pages
import plain
import torch

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.artifact.recipe import Recipe, shipped_recipes
from cocorrrec_export.contract import EntryPoint, new_stream
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.export import pipeline
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.export.graphs import scn_graphs
from cocorrrec_export.files import publish_file
from cocorrrec_export.resources import DEFAULT_MODEL
from cocorrrec_export.runtime.base import score_list
from cocorrrec_export.runtime.open import open_runtime
from cocorrrec_export.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
COUNTS = (20, 100, 500)
HISTORIES = (10, 100, 1000)
NATIVE = ("executorch", "tflite", "onnx")
"""Targets whose own runtime is on this machine; Core ML programs are computed with numpy, whose time says nothing."""


def measure(target: str, program: Path, contract: EntryPoint, vocab_size: int, calls: int) -> dict:
    sides = {side: [(x.name, x.dtype, x.shape) for x in getattr(contract, side)] for side in ("inputs", "outputs")}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "contract.json"
        file.write_text(json.dumps({"name": contract.name, "vocab_size": vocab_size, **sides}))
        command = [sys.executable, ROOT / "benchmarks" / "program.py", target, program, file, str(calls)]
        loads = [json.loads(subprocess.check_output([*command[:-1], "1"], text=True)) for _ in range(2)]
        result = json.loads(subprocess.check_output(command, text=True))
    result["load_ms"] = sorted([result["load_ms"], *(x["load_ms"] for x in loads)])[1]  # of 3 processes
    return result


def fidelity(artifact: Artifact, source: pipeline.Source) -> dict:
    """Of all held-out users, from the file through its runtime."""
    held_out, model = source.held_out, source.model
    runtime = open_runtime(artifact.target, artifact.program, artifact.entry_points)
    with torch.no_grad():
        expected = torch.sigmoid(model(held_out.histories, held_out.candidates, corrected=False)).numpy()
    ids, candidates = (x.to(torch.int32).numpy() for x in (held_out.histories, held_out.candidates))
    actual = np.stack([score_list(runtime, "rank", {"ids": ids[i : i + 1]}, candidates[i]) for i in range(len(ids))])
    top = [np.argsort(-x, axis=1, kind="stable")[:, :10] for x in (expected, actual)]
    overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*top, strict=True)])
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    ndcg = artifact.manifest["parity"]["ranking"]["metrics"]["ndcg@10"]
    return {"ndcg": ndcg, "top10": float(overlap), "cosine": float(((expected * actual).sum(1) / norms).min())}


def run_recipe(recipe: Recipe, source: pipeline.Source, folder: Path, calls: int) -> dict:
    start = time.perf_counter()
    artifact = pipeline.export(source, recipe, folder)
    row = {"target": recipe.target, "precision": recipe.precision, "item_side": recipe.item_side}
    row |= {"bytes": artifact.bytes, "export_s": time.perf_counter() - start, **fidelity(artifact, source)}
    if recipe.target not in NATIVE:
        return row
    vocab_size = source.folder.config.vocab_size
    rank = next(entry for entry in artifact.entry_points if entry.name == "rank")
    row["rank"] = {100: measure(recipe.target, artifact.program, rank, vocab_size, calls)}
    for count in COUNTS:
        if count not in row["rank"]:
            only = dataclasses.replace(recipe, entry_points=("rank",), candidates=count)
            graphs = scn_graphs(source.model, source.folder.config, only)
            program = folder / f"rank{count}{Path(TARGETS[recipe.target].programs['scn'].name).suffix}"
            find_exporter(recipe.target).export(graphs, recipe, program, metadata={})
            row["rank"][count] = measure(recipe.target, program, graphs[0].contract, vocab_size, calls)
    return row


def run_plain(source: pipeline.Source, folder: Path, calls: int) -> list[dict]:
    module = plain.PlainRank(source.model.scn).eval()
    length, vocab_size = source.folder.config.sequence_length, source.folder.config.vocab_size
    example = (torch.ones(1, length, dtype=torch.int32), torch.ones(1, 100, dtype=torch.int32))
    rows = []
    for target in (*NATIVE, "coreml"):
        program = folder / f"plain{TARGETS[target].suffix}"
        try:
            plain.export_plain(target, module, example, program)
            row = {"bytes": sum(x.stat().st_size for x in folder.glob(f"{program.name}*"))}
            if target in NATIVE:
                contract = plain.contract(length, 100)
                row["rank"] = {100: measure(target, program, contract, vocab_size, calls)}
        except Exception as error:  # whatever a toolkit says of the plain model is the finding
            row = {"error": f"{type(error).__name__} {(str(error).splitlines() or [''])[0][:100]}".strip()}
        rows.append({"target": target} | row)
    return rows


@torch.no_grad()
def run_eager(source: pipeline.Source, calls: int) -> list[float]:
    torch.set_num_threads(1)
    module = plain.PlainRank(source.model.scn).eval()
    ids = torch.randint(1, source.folder.config.vocab_size, (1, source.folder.config.sequence_length))
    candidates = torch.randint(1, source.folder.config.vocab_size, (1, 100))
    samples = []
    for call in range(calls + 50):
        start = time.perf_counter()
        module(ids, candidates)
        if call >= 50:
            samples.append(1e3 * (time.perf_counter() - start))
    return samples


def run_streaming(source: pipeline.Source, folder: Path, calls: int) -> dict:
    """A click at the end of histories of several lengths: the file's ``step``, and attention over all clicks."""
    recipe = next(x for x in shipped_recipes() if (x.target, x.precision) == ("tflite", "int8"))
    artifact = pipeline.export(source, recipe, folder)
    runtime = open_runtime("tflite", artifact.program, artifact.entry_points)
    step = next(entry for entry in artifact.entry_points if entry.name == "step")
    state = new_stream(step)
    clicks = np.random.default_rng(0).integers(1, source.folder.config.vocab_size, max(HISTORIES) + 1)
    stepped = {}
    for index, item in enumerate(clicks):
        inputs = {"item": np.array([item], np.int32)} | state
        if index in HISTORIES:
            samples = []
            for _ in range(calls):
                start = time.perf_counter()
                runtime.run("step", inputs)
                samples.append(1e3 * (time.perf_counter() - start))
            stepped[index] = samples
        outputs = runtime.run("step", inputs)
        state = {name: outputs[f"{name}_next"] for name in state}
    attended = {}
    for length in HISTORIES:
        module = plain.Attention(source.model.scn.item_embedding.weight.detach(), length).eval()
        program = folder / f"attention{length}.tflite"
        with plain.quiet():
            import litert_torch

            class Named(torch.nn.Module):
                def __init__(self, inner: torch.nn.Module) -> None:
                    super().__init__()
                    self.inner = inner

                def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
                    return {"user": self.inner(ids)}

            example = {"ids": torch.ones(1, length, dtype=torch.int32)}
            litert_torch.signature("click", Named(module), sample_kwargs=example).convert().export(str(program))
        contract = EntryPoint(
            "click",
            (plain.TensorSpec("ids", "int32", (1, length)),),
            (plain.TensorSpec("user", "float32", (1, module.places.shape[1])),),
        )
        attended[length] = measure("tflite", program, contract, source.folder.config.vocab_size, calls)["latency_ms"]
    return {"step": stepped, "attention": attended}


# ---------------------------------------------------------------------- the page


def p(samples: list[float], share: float) -> float:
    return float(np.percentile(samples, share))


def blocks(results: dict) -> dict[str, list[str]]:
    """What the page has between its marks."""
    eager = p(results["eager_ms"], 50)
    return {
        "machine": [
            f"`{results['model']}`, {results['users']} held-out users; {results['machine']}; "
            + ", ".join(f"{k} {v}" for k, v in results["versions"].items())
            + f". Eager torch ranks 100 candidates in {eager:.3f} ms (p50)."
        ],
        "precisions": precisions(results, eager),
        "plain": plain_way(results),
        "streaming": streaming(results),
    }


def precisions(results: dict, eager: float) -> list[str]:
    fp32 = {(r["target"], r["item_side"]): r["bytes"] for r in results["rows"] if r["precision"] == "fp32"}
    lines = [
        "| target | precision | item side | MB | of fp32 | NDCG@10 model / file | top-10 | least cosine | "
        "p50 / p99 ms, C = 100 | times eager | p50 at C = 20 / 500 | load ms | memory MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        size = f"{row['bytes'] / 1e6:.3f} | {row['bytes'] / fp32[row['target'], 'computed']:.1%}"
        ranks = f"{row['ndcg']['eager']:.4f} / {row['ndcg']['artifact']:.4f} | {row['top10']:.4f} | {row['cosine']:.5f}"
        head = f"| {row['target']} | {row['precision']} | {row['item_side']} | {size} | {ranks} "
        lines.append(head + costs(row.get("rank"), eager))
    return lines


def plain_way(results: dict) -> list[str]:
    lines = [
        "| target | MB | p50 / p99 ms, C = 100 | times slower than ours | load ms | memory MB |",
        "|---|---|---|---|---|---|",
    ]
    ours = {r["target"]: r for r in results["rows"] if (r["precision"], r["item_side"]) == ("fp32", "computed")}
    for row in results["plain"]:
        if "error" in row:
            lines.append(f"| {row['target']} | fails: {row['error']} | - | - | - | - |")
        elif "rank" not in row:
            lines.append(f"| {row['target']} | {row['bytes'] / 1e6:.3f} | - | - | - | - |")
        else:
            cost = row["rank"][100]
            mine = p(ours[row["target"]]["rank"][100]["latency_ms"], 50)
            middle, late = (p(cost["latency_ms"], share) for share in (50, 99))
            lines.append(
                f"| {row['target']} | {row['bytes'] / 1e6:.3f} | {middle:.3f} / {late:.3f} | {middle / mine:.1f} | "
                f"{cost['load_ms']:.1f} | {cost['memory_bytes'] / 1e6:.1f} |"
            )
    return lines


def streaming(results: dict) -> list[str]:
    lines = ["| clicks before | `step` p50 ms | attention p50 ms | times |", "|---|---|---|---|"]
    for length in HISTORIES:
        step, attention = (p(results["streaming"][name][length], 50) for name in ("step", "attention"))
        lines.append(f"| {length:,} | {step:.4f} | {attention:.4f} | {attention / step:.1f} |")
    return lines


def costs(rank: dict | None, eager: float) -> str:
    if rank is None:
        return "| - | - | - | - | - |"
    middle, late = (p(rank[100]["latency_ms"], share) for share in (50, 99))
    others = " / ".join(f"{p(rank[count]['latency_ms'], 50):.3f}" for count in COUNTS if count != 100)
    load, memory = rank[100]["load_ms"], rank[100]["memory_bytes"] / 1e6
    return f"| {middle:.3f} / {late:.3f} | {eager / middle:.1f} | {others} | {load:.1f} | {memory:.1f} |"


def plot(results: dict, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    size, speed = figure.subplots(1, 2)
    colors = {"executorch": "C0", "tflite": "C1", "onnx": "C2", "coreml": "C3"}
    for target, color in colors.items():
        for side, line in (("computed", "-"), ("folded", "--")):
            rows = [r for r in results["rows"] if (r["target"], r["item_side"]) == (target, side)]
            label = f"{target}, {side}"
            names = [r["precision"] for r in rows]
            size.plot(names, [r["bytes"] / 1e6 for r in rows], line, marker=".", color=color, label=label)
            if target in NATIVE:
                latency = [p(r["rank"][100]["latency_ms"], 50) for r in rows]
                speed.plot(names, latency, line, marker=".", color=color, label=label)
    size.set_ylabel("MB")
    size.set_title("file")
    speed.set_ylabel("ms, p50")
    speed.set_title("rank, 100 candidates, one thread")
    speed.set_ylim(bottom=0)
    size.set_ylim(bottom=0)
    size.legend(fontsize="small")
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--json", type=Path, help="file for all raw samples")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the page and the plot")
    options = parser.parse_args()
    source = pipeline.open_source(options.model, None)
    order = ("fp32", "fp16", "int8", "int4")
    recipes = sorted(
        (x for x in shipped_recipes() if x.kind == "scn"), key=lambda x: (x.target, order.index(x.precision))
    )
    results: dict = {
        "model": source.folder.name,
        "users": len(source.held_out),
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("torch", "executorch", "ai-edge-litert", "onnxruntime", "coremltools")
        },
        "eager_ms": run_eager(source, options.calls),
        "rows": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for recipe in recipes:
            for side in ("computed", "folded"):
                here = Path(tempfile.mkdtemp(dir=folder))
                row = dataclasses.replace(recipe, item_side=side)
                print(f"{recipe.name}, {side}", file=sys.stderr, flush=True)
                try:
                    results["rows"].append(run_recipe(row, source, here, options.calls))
                except CocorrrecError as error:
                    sys.exit(f"error: {recipe.name}, {side}: {error}")
        print("the plain way", file=sys.stderr, flush=True)
        results["plain"] = run_plain(source, Path(folder), options.calls)
        print("streaming", file=sys.stderr, flush=True)
        results["streaming"] = run_streaming(source, Path(folder), options.calls)
    if options.json:
        options.json.write_text(json.dumps(results))
    with publish_file(options.docs / "targets.png") as staging:
        plot(results, staging)
    pages.fill(options.docs / "targets.md", blocks(results))


if __name__ == "__main__":
    main()
