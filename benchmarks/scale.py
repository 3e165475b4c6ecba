"""What numbers of items, users and clicks cost: training, memory of exports, sizes of files and latency of ``rank``.

    python benchmarks/scale.py                  # writes docs/scale.md and its pictures
    python benchmarks/scale.py --quick --json   # fewer sizes, one JSON object on stdout

A whole run takes hours. Each figure is kept in ``--kept`` as soon as it is there and not measured again; ``--only``
measures some parts, so that steps and ``rank`` can have a quiet machine; the page gets a row for whatever is there.
Delete the file to start again.

Models have random weights, and so do the tables: sizes, times and memory depend on shapes alone. Exports are of the
on-device model as ``train`` makes it by default. Each export and each training runs in a process of its own; ``rank``
is measured by the native runners, one thread, programs in turns, the least median of the turns. Steps are of 205
histories with four negatives each; clicks follow Zipf's law.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pictures
import torch
from clicks import zipf_clicks
from resident import Enough

from cocorrrec_export.artifact.recipe import Recipe, shipped_recipe
from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.export.graphs import GraphSpec, scn_graphs
from cocorrrec_export.files import publish_file, total_bytes
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.profiling.machines.host import open_host
from cocorrrec_export.profiling.machines.runs import Call, pack
from cocorrrec_export.profiling.machines.worker import memory
from cocorrrec_export.profiling.runner.package import ensure_package, host_abi
from cocorrrec_export.targets import TARGETS
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.loop import Listener, TrainingData, fit
from cocorrrec_export.training.recipes import read_settings
from cocorrrec_export.training.run import RunConfig

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "scale.md"
PARTS = ("steps", "training", "exports", "rank")
PRECISIONS = ("fp32", "int8", "pq16", "pq8")
NATIVE = ("executorch", "tflite")
TITLES = {"executorch": "ExecuTorch", "tflite": "LiteRT"}
RECIPE = "recipe"
OPTIMIZERS = {"lazy_adamw": 20, "rowwise_adagrad": 20, "adamw": 5, RECIPE: 20}
"""Steps that are timed of each; those of the dense one are long. The last has all settings of the default recipe."""
BATCH, LENGTH, NEGATIVES = 205, 10, 4
BYTES_PER_ITEM = 4 * ModelConfig(vocab_size=2).hidden_size
SMALLEST = 16
"""A table of a few items brings every import, and what an exporter needs however small the model."""


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


def default_settings() -> RunConfig:
    """Those of the on-device model."""
    return read_settings(None, {"model.correction": "none"}, "best")


class Clock(Listener):
    """Times steps in milliseconds of the processor, of which others on the machine take none, and ends the training."""

    def __init__(self, steps: int) -> None:
        self._steps, self._at = steps, list[float]()

    def on_step(self, loss: float) -> None:  # noqa: ARG002
        self._at.append(time.process_time())
        if len(self._at) > self._steps:
            raise Enough

    @property
    def least(self) -> float:
        return 1e3 * float(np.diff(self._at).min())


def step_ms(vocab_size: int, name: str, steps: int) -> float:
    """The least of some training steps, with a table optimizer and the released objective, or by :data:`RECIPE`."""
    if name == RECIPE:
        settings = default_settings()
        model_options, config = settings.model, settings.training
    else:
        model_options = {}
        config = TrainConfig(weight_decay=0.01, negatives=NEGATIVES, batch_size=BATCH, table_optimizer=name)  # type: ignore[arg-type]
    model_config = ModelConfig(vocab_size=vocab_size, **model_options)
    model = build_model(model_config, generator=torch.Generator().manual_seed(0))
    clock = Clock(steps)
    with contextlib.suppress(Enough):
        fit(model, training_data(vocab_size, steps + 2), config, objective=model_config.objective, listener=clock)
    return clock.least


def recipe_of(target: str, precision: str) -> Recipe:
    """The shipped one, with ``rank`` alone."""
    recipe = shipped_recipe(f"{target}-{TARGETS[target].programs['scn'].backends[0]}-{precision}")
    return dataclasses.replace(recipe, entry_points=("rank",))


def graphs_of(vocab_size: int, target: str, precision: str) -> list[GraphSpec]:
    """Of random weights."""
    config = ModelConfig(vocab_size=vocab_size, **default_settings().model)
    model = build_model(config, generator=torch.Generator().manual_seed(0)).eval()
    return scn_graphs(model, config, recipe_of(target, precision))


def export_program(vocab_size: int, target: str, precision: str, path: Path) -> None:
    """Export random weights, without parity."""
    graphs = graphs_of(vocab_size, target, precision)
    find_exporter(target).export(graphs, recipe_of(target, precision), path, metadata={})


def weighed_export(vocab_size: int, target: str, precision: str) -> dict[str, float]:
    """What a process that exports a table of ``vocab_size`` says: ``peak_mb``, ``seconds`` and ``bytes``."""
    command = [sys.executable, __file__, "--weigh", str(vocab_size), target, precision]
    found: dict[str, float] = json.loads(_output(command))
    return found


def _output(command: list[str]) -> str:
    return subprocess.check_output(command, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def weigh(vocab_size: int, target: str, precision: str) -> None:
    """The child of :func:`weighed_export`."""
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder) / TARGETS[target].programs["scn"].name, time.process_time()
        export_program(vocab_size, target, precision, path)
        seconds, size = time.process_time() - start, total_bytes(path)
    # Not what getrusage says: a child's peak there is at least its parent's.
    peak = memory()["peak_kb"] * 1024 / 1e6
    print(json.dumps({"peak_mb": round(peak, 1), "seconds": round(seconds, 1), "bytes": size}))


@dataclass(frozen=True)
class Clicks:
    """A generated data set, as the options of ``clicks.py``, and how many steps a training on it takes."""

    clicks: int
    users: int
    heavy: int = 0
    steps: int = 100
    """0: those of an epoch, and its validation."""


def resident_mb(made: Clicks) -> dict[str, dict[str, float]]:
    """What ``resident.py`` finds, with a million items."""
    clicks, resident = (str(ROOT / "benchmarks" / f"{name}.py") for name in ("clicks", "resident"))
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "clicks.cut")
        sizes = ["--clicks", made.clicks, "--users", made.users, "--heavy", made.heavy, "--items", 1_000_000]
        _output([sys.executable, clicks, *map(str, sizes), "--out", data])
        said = _output([sys.executable, resident, "--data", data, "--steps", str(made.steps)])
    found: dict[str, dict[str, float]] = json.loads(said)
    return found


def program(vocab_size: int, target: str, precision: str, folder: Path) -> Path:
    """The program in ``folder``, exported if it is not there."""
    path = folder / f"{target}-{precision}-{vocab_size}{TARGETS[target].suffix}"
    if not path.exists():
        progress(f"exporting {target} {precision} of {vocab_size:,} items")
        export_program(vocab_size, target, precision, path)
    return path


def rank_us(
    vocab_size: int, made: dict[tuple[str, str], Path], *, turns: int, calls: int
) -> dict[str, dict[str, float]]:
    """Microseconds of ``rank``: of each program the least median of all turns."""
    contract, least = rank_contract(), dict[tuple[str, str], float]()
    rng = np.random.default_rng(0)
    packages = {target: ensure_package(target, host_abi(), progress) for target in NATIVE}
    for turn in range(turns):
        progress(f"rank, turn {turn + 1} of {turns}")
        for (target, precision), path in made.items():
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


def rank_contract() -> EntryPoint:
    """The same for every number of items."""
    (graph,) = graphs_of(SMALLEST, NATIVE[0], "fp32")
    return graph.contract


@dataclass(frozen=True)
class Sizes:
    """Of one run."""

    steps: tuple[int, ...] = (10_000, 100_000, 1_000_000, 4_000_000)
    """Numbers of items whose training steps are timed."""
    optimizers: tuple[str, ...] = tuple(OPTIMIZERS)
    trainings: tuple[Clicks, ...] = (
        Clicks(10_000_000, 200_000),
        Clicks(3_000_000, 1_000_000, heavy=100_000),
        Clicks(100_000_000, 2_000_000, steps=0),
    )
    exports: tuple[int, ...] = (9_067, 100_000, 1_000_000)
    """Numbers of items whose exports are weighed."""
    weighed: tuple[tuple[str, str], ...] = tuple(
        (target, precision) for target in TARGETS for precision in ("int8", "fp32")
    )
    ranked: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Numbers of items whose ``rank`` is timed; all but the first without the codes of product quantization."""
    turns: int = 5


QUICK = Sizes(
    steps=(10_000, 4_000_000),
    optimizers=("lazy_adamw",),
    trainings=(),
    exports=(9_067, 100_000),
    weighed=(("executorch", "int8"),),
    ranked=(10_000,),
    turns=2,
)


class Kept:
    """Figures by name, in a file if one is given, to which parts of a run may add at the same time."""

    def __init__(self, path: Path | None) -> None:
        self._path, self.found = path, dict[str, Any]()
        self._read()

    def _read(self) -> None:
        if self._path is not None and self._path.is_file():
            self.found |= json.loads(self._path.read_text())

    def measure(self, name: str, work: Callable[[], Any]) -> None:
        """Do ``work`` unless its result is there."""
        if name in self.found:
            return
        progress(name)
        result = work()
        self._read()
        self.found[name] = result
        if self._path is not None:
            with publish_file(self._path) as staging:
                staging.write_text(json.dumps(self.found, indent=1) + "\n")


def measures(sizes: Sizes, work: Path) -> dict[str, dict[str, Callable[[], Any]]]:
    """By part, the work behind each figure's name."""

    def steps(vocab_size: int, name: str) -> float:
        return round(step_ms(vocab_size, name, OPTIMIZERS[name]), 2)

    def ranked(vocab_size: int) -> dict[str, Any]:
        precisions = PRECISIONS if vocab_size == sizes.ranked[0] else PRECISIONS[:2]
        made = {(t, p): program(vocab_size, t, p, work) for t in NATIVE for p in precisions}
        found: dict[str, Any] = {"bytes": {p: total_bytes(made[NATIVE[0], p]) for p in precisions}, "us": {}}
        try:
            found["us"] = rank_us(vocab_size, made, turns=sizes.turns, calls=300)
        except CocorrrecError as error:  # no compiler here, and no runner installed
            progress(f"rank is not measured: {error}")
        return found

    bind = functools.partial
    targets = dict.fromkeys(target for target, _ in sizes.weighed)
    return {
        "steps": {f"step {name} {v}": bind(steps, v, name) for v in sizes.steps for name in sizes.optimizers},
        "training": {f"training {each.clicks} {each.users}": bind(resident_mb, each) for each in sizes.trainings},
        "exports": {f"imports {target}": bind(weighed_export, SMALLEST, target, "int8") for target in targets}
        | {f"export {t} {p} {v}": bind(weighed_export, v, t, p) for t, p in sizes.weighed for v in sizes.exports},
        "rank": {f"rank {v}": bind(ranked, v) for v in sizes.ranked},
    }


def for_scripts(found: dict[str, Any], sizes: Sizes) -> dict[str, Any]:
    """The default optimizer, the exports of the first target and precision, and ``rank`` of the first size."""
    (target, precision), ranked = sizes.weighed[0], found[f"rank {sizes.ranked[0]}"]
    return {
        "step_ms": {v: found[f"step lazy_adamw {v}"] for v in sizes.steps},
        "export_peak_mb": {v: found[f"export {target} {precision} {v}"]["peak_mb"] for v in sizes.exports},
        "import_peak_mb": found[f"imports {target}"]["peak_mb"],
        "table_mb": {v: round(v * BYTES_PER_ITEM / 1e6, 2) for v in sizes.exports},
        "program_bytes": ranked["bytes"],
        "rank_us": ranked["us"],
    }


def blocks(found: dict[str, Any], sizes: Sizes) -> dict[str, list[str]]:
    """What is between the marks of docs/scale.md: a row for whatever was measured."""
    tables = {"steps": _steps, "training": _trainings, "exports": _exports, "rank": _ranks}
    return {name: table(found, sizes) for name, table in tables.items()}


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)] if rows else []


def _steps(found: dict[str, Any], sizes: Sizes) -> list[str]:
    titles = ["default recipe, ms" if name == RECIPE else f"`{name}`, ms" for name in sizes.optimizers]
    head = ["items", *titles, f"`{sizes.optimizers[0]}`, examples/s"]
    rows = []
    for v in sizes.steps:
        if any(f"step {name} {v}" not in found for name in sizes.optimizers):
            continue
        times = [found[f"step {name} {v}"] for name in sizes.optimizers]
        rows.append([f"{v:,}", *(f"{ms:.1f}" for ms in times), f"{1e3 * BATCH / times[0]:,.0f}"])
    made = f"{platform.machine()}, torch {torch.__version__}; {BATCH} histories a step with {NEGATIVES} negatives each."
    return [made, "", *_table(head, rows)] if rows else []


def _trainings(found: dict[str, Any], sizes: Sizes) -> list[str]:
    head = ["clicks", "users", "steps, of an epoch's", "peak, MB", "peak of anonymous, MB", "resident at the end, MB"]
    head.append("s to the first step")
    rows = []
    for each in sizes.trainings:
        run = found.get(f"training {each.clicks} {each.users}")
        if run is None:
            continue
        last = [row for row in run.values() if "peak" in row][-1]
        users = f"{each.users:,}" + (f" and one of {each.heavy:,} clicks" if each.heavy else "")
        sizes_mb = [f"{last['peak']:,.0f}", f"{last['peak_anonymous']:,.0f}", f"{last['resident']:,.0f}"]
        whole = f"{run['data']['steps_of_an_epoch']:,.0f}"
        steps = f"{each.steps:,} of {whole}" if each.steps else f"all {whole}"
        took = f"{run['started']['seconds']:.0f}"
        rows.append([f"{run['data']['clicks']:,.0f}", users, steps, *sizes_mb, took])
    return _table(head, rows)


def _exports(found: dict[str, Any], sizes: Sizes) -> list[str]:
    head = ["target", "precision", "items", "table, MB", "file, MB", "importers, MB", "peak, MB", "in tables", "s"]
    rows = []
    for target, precision in sizes.weighed:
        for v in sizes.exports:
            if f"export {target} {precision} {v}" not in found or f"imports {target}" not in found:
                continue
            base = found[f"imports {target}"]["peak_mb"]
            run, table = found[f"export {target} {precision} {v}"], v * BYTES_PER_ITEM / 1e6
            above = f"{(run['peak_mb'] - base) / table:.1f}"
            sizes_mb = [f"{table:.1f}", f"{run['bytes'] / 1e6:.1f}", f"{base:.0f}", f"{run['peak_mb']:.0f}", above]
            rows.append([target, precision, f"{v:,}", *sizes_mb, f"{run['seconds']:.0f}"])
    return _table(head, rows)


def _ranks(found: dict[str, Any], sizes: Sizes) -> list[str]:
    head = ["items", "precision", "ExecuTorch file, MB", *(f"{TITLES[target]}, us" for target in NATIVE)]
    rows = []
    for v in sizes.ranked:
        run = found.get(f"rank {v}", {"bytes": {}})
        for precision, size in run["bytes"].items():
            times = [f"{run['us'][target][precision]:.1f}" if run["us"] else "" for target in NATIVE]
            rows.append([f"{v:,}", precision, f"{size / 1e6:.2f}", *times])
    return _table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer sizes and turns; nothing is kept")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of writing docs/scale.md")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure these parts")
    parser.add_argument("--kept", type=Path, default=PAGE.with_suffix(".json"), help="file of what was measured")
    parser.add_argument("--work", type=Path, help="folder that keeps exported programs, for a run in several parts")
    parser.add_argument("--weigh", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.weigh is not None:
        weigh(int(arguments.weigh[0]), *arguments.weigh[1:])
        return
    torch.set_num_threads(1)
    sizes = QUICK if arguments.quick else Sizes()
    kept = Kept(None if arguments.quick else arguments.kept)
    if arguments.work is not None:
        arguments.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = measures(sizes, arguments.work or Path(temporary))
        for part in arguments.only:
            for name, each in work[part].items():
                kept.measure(name, each)
    missing = [name for part in work.values() for name in part if name not in kept.found]
    if missing:
        progress(f"not measured yet: {', '.join(missing)}")
    if arguments.json:
        if not missing:
            print(json.dumps(for_scripts(kept.found, sizes)))
        return
    pages.fill(PAGE, blocks(kept.found, sizes))
    pictures.draw(PAGE.parent / "pictures", PAGE.parent, ("scale",))


if __name__ == "__main__":
    main()
