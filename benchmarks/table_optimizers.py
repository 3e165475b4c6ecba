"""What the item table's optimizer costs in quality: models that differ in it alone, measured on the same users.

    python benchmarks/table_optimizers.py --data clicks.csv --like MODEL --epochs 10 --work runs

Trains the on-device model by the recipe ``best`` with each optimizer and seed, and prints test NDCG@10 with the paired
difference from dense AdamW. Both have the same start, order of clicks, sampled items and dropout for a seed. What is in
``--work`` already is not trained again, and a training that was interrupted continues.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.data.held_out import held_out_set, source_of
from cocorrrec_export.modeling.store import ModelFolder, find_model, load_model, open_model
from cocorrrec_export.training.loop import Listener
from cocorrrec_export.training.recipes import read_settings
from cocorrrec_export.training.run import CHECKPOINT, RunConfig, train
from cocorrrec_export.training.scoring import measure

BASE = "adamw"
METRICS = {"sampled": "ndcg@10", "full": "ndcg@10"}


class Epochs(Listener):
    """Says each epoch on stderr."""

    def __init__(self, what: str) -> None:
        self._what = what

    def on_epoch_end(self, record: dict[str, float], *, best: bool) -> None:  # noqa: ARG002
        epoch, loss, found = int(record["epoch"]), record["loss"], record["ndcg@10"]
        print(f"{self._what}: epoch {epoch}, loss {loss:.4f}, ndcg@10 {found:.4f}", file=sys.stderr, flush=True)


def settings(optimizer: str, seed: int, epochs: int, like: ModelFolder) -> RunConfig:
    """Of one run; clicks are read and filtered as ``like`` was."""
    given = {
        "model.correction": "none",
        "training.seed": seed,
        "training.epochs": epochs,
        "training.patience": 0,
        "training.table_optimizer": optimizer,
    }
    tables = source_of(like).as_table()
    return read_settings(None, given | {f"data.{key}": value for key, value in tables.items()}, "best")


def per_user(data: Path, config: RunConfig, out: Path) -> dict[str, NDArray[np.float64]]:
    """Test metrics ``[U]`` by protocol, of a model that is trained unless it is there."""
    if not (out / "model.toml").is_file():
        resume = (out / CHECKPOINT).is_file()
        train(data, config, out, name=out.name, device="cpu", resume=resume, listener=Epochs(out.name))
    folder = open_model(out)
    found = measure(load_model(folder), held_out_set(folder, data), corrected=False)
    assert found.full is not None
    return {way: getattr(found, way).per_user()[name] for way, name in METRICS.items()}


def compared(mine: NDArray[np.float64], base: NDArray[np.float64]) -> dict[str, float]:
    """``[S, U]`` of seeds and users: the mean, its spread over seeds, and the paired difference with its error."""
    seeds, differences = mine.mean(1), (mine - base).mean(0)
    return {
        "mean": float(seeds.mean()),
        "spread": float(seeds.std(ddof=1)) if len(seeds) > 1 else 0.0,
        "difference": float(differences.mean()),
        "error": float(differences.std(ddof=1) / len(differences) ** 0.5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--like", required=True, help="a model: clicks are read and filtered as its own were")
    parser.add_argument("--optimizers", default=f"lazy_adamw,{BASE}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--work", type=Path, required=True, help="folder for the models")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    like, names = open_model(find_model(options.like)), list(dict.fromkeys([*options.optimizers.split(","), BASE]))
    seeds = range(1, options.seeds + 1)
    found = {
        name: [
            per_user(options.data, settings(name, seed, options.epochs, like), options.work / f"{name}-{seed}")
            for seed in seeds
        ]
        for name in names
    }
    stacked = {name: {way: np.stack([each[way] for each in runs]) for way in METRICS} for name, runs in found.items()}
    result = {
        name: {way: compared(values, stacked[BASE][way]) for way, values in ways.items()}
        for name, ways in stacked.items()
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, ways in result.items():
        for way, row in ways.items():
            said = f"{row['mean']:.4f}, spread of {options.seeds} seeds {row['spread']:.4f}"
            print(f"{name}, {way} {METRICS[way]} {said}, {row['difference']:+.4f} ± {row['error']:.4f} from {BASE}")


if __name__ == "__main__":
    main()
