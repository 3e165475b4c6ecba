"""How a model is trained: the ``[training]`` table of a config file."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from cocorrrec_export.errors import UsageError
from cocorrrec_export.metrics import METRICS
from cocorrrec_export.toml import check_types, from_table


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run.

    Raises:
        UsageError: a value out of range.
    """

    seed: int = 1
    epochs: int = 10
    patience: int = 2
    """Epochs without a better validation metric before training stops; 0 trains all epochs."""
    batch_size: int = 205
    """Histories a step; each is scored against 1 positive and ``negatives`` sampled items."""
    negatives: int = 4
    learning_rate: float = 0.005
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes from its start to 0 over all epochs."""
    alone_weight: float = 0.0
    """Weight of a second loss, of the same histories read without the correction: what a phone offline ranks with."""
    monitor: str = "ndcg@10"
    """Validation metric that picks the epoch."""
    evaluation_negatives: int = 100
    evaluation_seed: int = 0
    """Seed of the validation and test negatives: the same for every ``seed``, so that runs can be compared."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, low in (("seed", 0), ("epochs", 1), ("patience", 0), ("batch_size", 1), ("negatives", 1)):
            if getattr(self, name) < low:
                raise UsageError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.evaluation_negatives < 1:
            raise UsageError(f"evaluation_negatives must be at least 1, got {self.evaluation_negatives}")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise UsageError(
                f"learning_rate must be above 0 and weight_decay not below, "
                f"got {self.learning_rate} and {self.weight_decay}"
            )
        if self.alone_weight < 0:
            raise UsageError(f"alone_weight must not be below 0, got {self.alone_weight}")
        if self.monitor not in METRICS:
            raise UsageError(f"monitor must be one of {', '.join(METRICS)}, got {self.monitor!r}")

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: str) -> Self:
        """Build a config from parsed TOML; ``where`` names the file and table in errors."""
        return from_table(cls, values, where=where)
