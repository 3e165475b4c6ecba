"""What is trained: every model, each with every learning rate, then with every seed."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cocorrrec_export.data.sources import DataSource
from cocorrrec_export.errors import UsageError, nearest
from cocorrrec_export.toml import read_toml
from cocorrrec_export.training.recipes import read_settings
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

BEST_ROWS: dict[str, dict[str, Any]] = {
    "CoCorrRec": {"model.architecture": "cocorrrec"},
    "DIN": {"model.architecture": "din"},
    "GRU4Rec": {"model.architecture": "gru4rec"},
    "SASRec": {"model.architecture": "sasrec"},
    "BERT4Rec": {"model.architecture": "bert4rec"},
    "BERT4Rec, 50 clicks": {"model.architecture": "bert4rec", "model.sequence_length": 50},
    "Mamba4Rec": {"model.architecture": "mamba4rec"},
}
"""The rows of the comparison by the recipe ``best``: all read ten clicks, but for the reference of quality."""

RECIPE_ROWS = {"paper": ROWS, "best": BEST_ROWS}


def names_of(recipe: str) -> dict[str, str]:
    """What each row of a recipe is called on the command line and in folders, and the row."""
    return {
        name.lower().replace(" w/o ", "-no-").removesuffix(" clicks").replace(", ", "-"): name
        for name in RECIPE_ROWS[recipe]
    }


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
    recipe: str = "paper"

    @property
    def name(self) -> str:
        """What its folder is called."""
        row = next(name for name, row in names_of(self.recipe).items() if row == self.row)
        suffix = "" if self.mini_batch is None else f"-b{self.mini_batch}"
        return f"{row}{suffix}-lr{self.learning_rate:g}-seed{self.seed}"

    def overrides(self) -> dict[str, Any]:
        """What it changes in the config, by dotted key."""
        chosen = {"training.learning_rate": self.learning_rate, "training.seed": self.seed}
        changes = RECIPE_ROWS[self.recipe][self.row] | chosen
        if self.mini_batch is not None:
            changes |= {"model.mini_batch": self.mini_batch, "model.sequence_length": MINI_BATCH_LENGTH}
        return changes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is trained, and how."""

    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    """What each row's is chosen from; none: that of its settings."""
    mini_batches: tuple[int, ...]
    config: RunConfig
    """Settings that all runs share."""
    recipe: str = "paper"
    configs: dict[str, RunConfig] = field(default_factory=dict)
    """By row, in place of ``config``: the recipe ``best`` has settings for each architecture."""

    def settings(self, run: Run) -> RunConfig:
        """What ``run`` is trained with."""
        return with_run(self._config_of(run.row), run)

    def with_data(self, data: DataSource) -> "Plan":
        """The same, read from ``data``."""
        configs = {row: replace(config, data=data) for row, config in self.configs.items()}
        return replace(self, config=replace(self.config, data=data), configs=configs)

    def choice_runs(self, row: str) -> list[Run]:
        """Those that the learning rate of ``row`` is chosen from."""
        rates = self.learning_rates or (self._config_of(row).training.learning_rate,)
        return [self._run(row, rate, self.seeds[0]) for rate in rates]

    def seed_runs(self, row: str, learning_rate: float) -> list[Run]:
        """Those that the figures of ``row`` are of; the first is one of :meth:`choice_runs`."""
        return [self._run(row, learning_rate, seed) for seed in self.seeds]

    def mini_batch_runs(self, learning_rate: float) -> list[Run]:
        """Those of Figure 6."""
        base = self._run(MINI_BATCH_ROW, learning_rate, self.seeds[0])
        return [replace(base, mini_batch=size) for size in self.mini_batches]

    def _config_of(self, row: str) -> RunConfig:
        return self.configs.get(row, self.config)

    def _run(self, row: str, learning_rate: float, seed: int) -> Run:
        return Run(row=row, learning_rate=learning_rate, seed=seed, recipe=self.recipe)


def with_run(config: RunConfig, run: Run) -> RunConfig:
    """``config`` with what ``run`` changes in it."""
    return RunConfig.from_tables(config.as_tables(), run.overrides(), where=run.name)


def parse_rows(text: str, recipe: str = "paper") -> tuple[str, ...]:
    """Rows of a recipe from names with commas between them.

    Raises:
        UsageError: an unknown name, or one given twice.
    """
    names, rows = names_of(recipe), []
    for part in text.split(","):
        name = part.strip().lower()
        if name not in names:
            raise UsageError(f"unknown model '{name}' ({nearest(name, names)})")
        rows.append(names[name])
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
    _check_decided(path, config.model)
    return config


def read_configs(path: Path | None, overrides: dict[str, Any]) -> dict[str, RunConfig]:
    """The same of the recipe ``best``, by row: its settings for the row's architecture, replaced in the same way.

    Raises:
        UsageError: as there.
    """
    model = read_toml(path).get("model", {}) if path is not None else {}
    _check_decided(path, model if isinstance(model, dict) else {})
    return {row: read_settings(path, overrides | changes, "best") for row, changes in BEST_ROWS.items()}


def _check_decided(path: Path | None, model: dict[str, Any]) -> None:
    decided = [key for key in ("architecture", "gcn") if key in model]
    if decided:
        raise UsageError(f"{path}, [model]: {' and '.join(decided)} follow from the model of each run; remove them")
