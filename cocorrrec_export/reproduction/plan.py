"""What is trained: every model, each with every learning rate, then with every seed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cocorrrec_export.errors import UsageError, nearest
from cocorrrec_export.training.run import RunConfig

ROWS: dict[str, dict[str, Any]] = {
    "CoCorrRec": {"model.architecture": "cocorrrec", "model.gcn": True},
    "CoCorrRec w/o GCN": {"model.architecture": "cocorrrec", "model.gcn": False},
    "DIN": {"model.architecture": "din"},
    "GRU4Rec": {"model.architecture": "gru4rec"},
    "SASRec": {"model.architecture": "sasrec"},
    "BERT4Rec": {"model.architecture": "bert4rec"},
    "Mamba4Rec": {"model.architecture": "mamba4rec"},
}
"""The rows of the paper's Table 1, and what makes each of them in a config."""

NAMES = {name.lower().replace(" w/o ", "-no-"): name for name in ROWS}
"""What each row is called on the command line and in folders."""

MINI_BATCH_ROW = "CoCorrRec w/o GCN"
MINI_BATCH_LENGTH = 20
"""Of the paper's Figure 6: b, at L = 20."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"dropout": 0.2},
    "training": {"epochs": 20, "patience": 3, "weight_decay": 0.01, "alone_weight": 1.0},
}
"""Tables of a config: what the user's does not say, the same for every model."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model to train and measure."""

    row: str
    learning_rate: float
    seed: int
    mini_batch: int | None = None
    """Of Figure 6, at its sequence length; else the config's own."""

    @property
    def name(self) -> str:
        """What its folder is called."""
        row = next(name for name, row in NAMES.items() if row == self.row)
        suffix = "" if self.mini_batch is None else f"-b{self.mini_batch}"
        return f"{row}{suffix}-lr{self.learning_rate:g}-seed{self.seed}"

    def overrides(self) -> dict[str, Any]:
        """What it changes in the config, by dotted key."""
        changes = ROWS[self.row] | {"training.learning_rate": self.learning_rate, "training.seed": self.seed}
        if self.mini_batch is not None:
            changes |= {"model.mini_batch": self.mini_batch, "model.sequence_length": MINI_BATCH_LENGTH}
        return changes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is trained, and how."""

    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    mini_batches: tuple[int, ...]
    config: RunConfig

    def choice_runs(self, row: str) -> list[Run]:
        """Those that the learning rate of ``row`` is chosen from."""
        return [Run(row=row, learning_rate=rate, seed=self.seeds[0]) for rate in self.learning_rates]

    def seed_runs(self, row: str, learning_rate: float) -> list[Run]:
        """Those that the figures of ``row`` are of; the first is one of :meth:`choice_runs`."""
        return [Run(row=row, learning_rate=learning_rate, seed=seed) for seed in self.seeds]

    def mini_batch_runs(self, learning_rate: float) -> list[Run]:
        """Those of Figure 6."""
        base = Run(row=MINI_BATCH_ROW, learning_rate=learning_rate, seed=self.seeds[0])
        return [replace(base, mini_batch=size) for size in self.mini_batches]


def parse_rows(text: str) -> tuple[str, ...]:
    """Rows from names with commas between them.

    Raises:
        UsageError: an unknown name, or one given twice.
    """
    rows = []
    for part in text.split(","):
        name = part.strip().lower()
        if name not in NAMES:
            raise UsageError(f"unknown model '{name}' ({nearest(name, NAMES)})")
        rows.append(NAMES[name])
    if len(set(rows)) < len(rows):
        raise UsageError(f"--models takes each model once, got '{text}'")
    return tuple(rows)


def read_config(path: Path | None, overrides: dict[str, Any]) -> RunConfig:
    """The settings that all models share: :data:`DEFAULTS`, replaced by what ``path`` says, that by ``overrides``.

    ``overrides`` are by dotted key.

    Raises:
        UsageError: as in training, or a setting that each run decides.
    """
    config = RunConfig.read(path, overrides, defaults=DEFAULTS)
    decided = [key for key in ("architecture", "gcn") if key in config.model]
    if decided:
        raise UsageError(f"{path}, [model]: {' and '.join(decided)} follow from the model of each run; remove them")
    return config
