"""Resident memory of what ``cocorr-export train`` does on a prepared data set, for some steps, or of making one.

    python benchmarks/clicks.py --clicks 100000000 --users 2000000 --items 1000000 --out clicks.cut
    python benchmarks/resident.py --data clicks.cut --steps 100
    python benchmarks/resident.py --data clicks.cut --steps 0      # an epoch and its validation
    python benchmarks/resident.py --data folder --prepare clicks.cut

Prints one JSON object: the peak in MB when the data were read, when the first epoch starts, after the first
checkpoint, after the steps, with ``--steps 0`` after the validation too, and how long each took. Pages of mapped files
count as resident, but the system may drop them at any time: ``anonymous`` and its peak are without them. The settings
are the command's own; the run is stopped then, and its folder thrown away.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from cocorrrec_export.data.sources import DataSource, make_cut
from cocorrrec_export.data.statistics import Statistics, statistics
from cocorrrec_export.profiling.machines.worker import memory
from cocorrrec_export.training import checkpoint
from cocorrrec_export.training.loop import Listener
from cocorrrec_export.training.recipes import read_settings
from cocorrrec_export.training.run import train

_SIZES = ("peak", "peak_anonymous", "resident", "anonymous", "mapped")


class Enough(Exception):
    """What was asked for is done."""


class Weigher(Listener):
    """Weighs this process while the run continues, and ends it after some steps, or with 0 of them after an epoch."""

    def __init__(self, steps: int) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self._steps, self._done, self._start = steps, 0, time.monotonic()
        self._of_epoch = 0
        self._peak_anonymous_kb = 0  # which the system does not keep
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self._peak_anonymous_kb = max(self._peak_anonymous_kb, memory()["anonymous_kb"])
            time.sleep(0.1)

    def weigh(self, when: str) -> None:
        sizes = memory() | {"peak_anonymous_kb": self._peak_anonymous_kb}
        seconds = round(time.monotonic() - self._start, 1)
        self.found[when] = {"seconds": seconds} | {key: round(sizes[f"{key}_kb"] * 1024 / 1e6, 1) for key in _SIZES}
        print(f"{when}: {self.found[when]}", file=sys.stderr, flush=True)

    def on_data(self, statistics: Statistics, examples: int) -> None:  # noqa: ARG002
        self.found["data"] = {"users": statistics.users, "clicks": statistics.interactions, "items": statistics.items}
        self.weigh("read")

    def on_epoch_start(self, epoch: int, steps: int, done: int) -> None:  # noqa: ARG002
        self.found["data"]["steps_of_an_epoch"] = steps
        self._of_epoch = steps
        self.weigh("started")

    def on_step(self, loss: float) -> None:
        self._done += 1
        if self._done == 2:  # the first checkpoint was written
            self.weigh("checkpoint")
            checkpoint.SECONDS_BETWEEN_CHECKPOINTS = 3600.0
        if self._done in (self._steps, self._of_epoch):
            self.weigh(f"{self._done} steps")
            self.found["data"]["loss"] = round(loss, 4)
        if self._done == self._steps:
            raise Enough

    def on_epoch_end(self, record: dict[str, float], *, best: bool) -> None:  # noqa: ARG002
        self.weigh("validated")
        raise Enough


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100, help="0: an epoch's, and its validation")
    parser.add_argument("--prepare", type=Path, help="make this prepared data set instead of training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint.SECONDS_BETWEEN_CHECKPOINTS = 0.0  # the first one at once
    weigher = Weigher(options.steps)
    if options.prepare:
        made = make_cut(options.data, DataSource(), options.prepare)
        weigher.found["data"] = dataclasses.asdict(statistics(made))
        weigher.weigh("prepared")
        print(json.dumps(weigher.found, indent=2))
        return
    with tempfile.TemporaryDirectory() as folder:
        settings, out = read_settings(None, {}, "best"), Path(folder) / "model"
        with contextlib.suppress(Enough):
            train(options.data, settings, out, name="resident", listener=weigher)
    print(json.dumps(weigher.found, indent=2))


if __name__ == "__main__":
    main()
