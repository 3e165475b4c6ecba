"""A daily update: last week's model, the same continued on this week's clicks, and one trained again, side by side.

    python benchmarks/updates.py --data clicks.csv            # prints a table
    python benchmarks/updates.py --data clicks.csv --json     # one JSON object on stdout

The last clicks, by time, are the new week (``--share``). The old model is trained on the clicks before it; the
continued and the retrained one on all clicks. All three are measured on the users who clicked in the new week: their
last click is the target, and no model was trained on it. Items that the old model does not know have rows as at the
start of the continued one.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from cocorrrec_export.data.evaluation_set import EarlierClicks, EvaluationSet
from cocorrrec_export.data.held_out import held_out_set
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.sources import DataSource, load_source
from cocorrrec_export.metrics import FULL_METRICS
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.store import ModelFolder, load_model
from cocorrrec_export.training.continuation import read_continued_settings
from cocorrrec_export.training.loop import Listener
from cocorrrec_export.training.recipes import read_settings
from cocorrrec_export.training.run import train
from cocorrrec_export.training.scoring import measure_ways
from cocorrrec_export.training.start import Start

SHOWN = ("uauc", "ndcg@10", "hr@10", "full:ndcg@10", "full:hr@10")


class Epochs(Listener):
    """Counts epochs of both halves, and says each on stderr."""

    def __init__(self, what: str) -> None:
        self.what, self.count = what, 0

    def on_epoch_end(self, record: dict[str, float], *, best: bool) -> None:  # noqa: ARG002
        self.count += 1
        print(f"{self.what}: epoch {self.count}, loss {record['loss']:.4f}", file=sys.stderr, flush=True)


def write_weeks(data: Interactions, folder: Path, share: float) -> tuple[Path, Path, int]:
    """The clicks before the new week, all clicks, and the time at which the week starts."""
    assert data.times is not None and data.dated, "the update is by time: the clicks need dates"
    user = np.repeat(np.arange(data.num_users), np.diff(data.offsets))
    table = pl.DataFrame(
        {
            "user": [data.user_ids[each] for each in user],
            "item": [data.item_ids[each - 1] for each in data.items],
            "timestamp": data.times // 1_000_000_000,
        }
    )
    start = int(np.quantile(table["timestamp"].to_numpy(), 1.0 - share))
    old, new = folder / "old.csv", folder / "new.csv"
    table.filter(pl.col("timestamp") < start).write_csv(old)
    table.write_csv(new)
    return old, new, start


def users_of(held_out: EvaluationSet, data: Interactions, start: int) -> EvaluationSet:
    """Those whose target is of the new week."""
    assert data.times is not None and held_out.earlier is not None
    last = data.times[data.offsets[1:] - 1] // 1_000_000_000 >= start
    chosen, earlier = torch.from_numpy(last), held_out.earlier
    return EvaluationSet(
        held_out.histories[chosen],
        held_out.candidates[chosen],
        EarlierClicks(earlier.items, earlier.starts[last], earlier.stops[last]),
    )


def measured(model: Ranker, held_out: EvaluationSet) -> dict[str, dict[str, float]]:
    """Both protocols, by way."""
    found = {}
    for way, each in measure_ways(model, held_out).items():
        assert each.full is not None
        found[way] = each.sampled.means() | {f"full:{k}": v for k, v in each.full.means(FULL_METRICS).items()}
    return found


def started(folder: ModelFolder, data: Interactions) -> Ranker:
    """The old model with rows for the new items, as a continued one starts."""
    config = dataclasses.replace(folder.config, vocab_size=data.vocab_size)
    model = build_model(config, generator=torch.Generator().manual_seed(int(folder.training["seed"])))
    Start.of(folder, data).apply(model)
    return model.eval()


def main() -> None:
    """Train three models and print what they are worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="interactions with dates")
    parser.add_argument("--share", type=float, default=0.05, help="share of the clicks that is the new week")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="maximum number of epochs; default: the recipe's")
    parser.add_argument("--continued-epochs", type=int, help="the same of the continued one; default: --epochs")
    parser.add_argument("--architecture", default="cocorrrec", help="cocorrrec or a baseline")
    parser.add_argument("--correction", help="of cocorrrec: vector, kernel or none")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = run(arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['kept']} items kept, {result['new']} new, {result['users']} users of the new week")
    for name, row in result["models"].items():
        for way, figures in row["metrics"].items():
            shown = "  ".join(f"{key} {figures[key]:.4f}" for key in SHOWN)
            print(f"{name} ({way}, {row['epochs']} epochs, {row['seconds']:.0f} s): {shown}")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {
        "training.seed": arguments.seed,
        "training.epochs": arguments.epochs,
        "model.architecture": arguments.architecture,
        "model.correction": arguments.correction,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        old, new, start = write_weeks(load_source(arguments.data, DataSource()), folder, arguments.share)
        settings = read_settings(None, overrides, "best")
        rows: dict[str, Any] = {}
        source, rows["old"] = timed(old, settings, folder / "old", "old")
        again, rows["retrained"] = timed(new, settings, folder / "again", "retrained")
        fewer = {"training.epochs": arguments.continued_epochs} if arguments.continued_epochs else {}
        settings = read_continued_settings(source, new, None, overrides | fewer, None)
        continued, rows["continued"] = timed(new, settings, folder / "continued", "continued", source)
        data = load_source(new, settings.data)
        held_out = users_of(held_out_set(continued, new), data, start)
        models = {"old": started(source, data), "continued": load_model(continued), "retrained": load_model(again)}
        facts = continued.training["continued"]
    return {
        "kept": facts["items_kept"],
        "new": facts["items_new"],
        "users": len(held_out),
        "models": {name: rows[name] | {"metrics": measured(model, held_out)} for name, model in models.items()},
    }


def timed(
    data: Path, settings: Any, out: Path, what: str, source: ModelFolder | None = None
) -> tuple[ModelFolder, dict[str, float]]:
    begin, epochs = time.perf_counter(), Epochs(what)
    folder = train(data, settings, out, name=what, device="cpu", source=source, listener=epochs)
    return folder, {"epochs": epochs.count, "seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    main()
