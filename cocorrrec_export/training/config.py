"""How a model is trained: the ``[training]`` table of a config file."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from cocorrrec_export.errors import UsageError
from cocorrrec_export.metrics import BOTH, EXPECTED, EXPECTED_METRICS, FULL, FULL_METRICS, METRICS, cutoff
from cocorrrec_export.toml import Range, check_ranges, check_types, from_table

RANGES: dict[str, Range] = {
    "seed": (0, (1 << 63) - 1),
    "epochs": (1, 100_000),
    "patience": (0, 100_000),
    "ahead": (1, 100_000),
    "batch_size": (1, 1 << 22),
    "negatives": (1, 10_000),
    "sampled_items": (1, 1 << 20),
    "learning_rate": (math.ulp(0.0), 100.0),
    "weight_decay": (0.0, 100.0),
    "table_learning_rate": (0.0, 100.0),
    "warmup": (0.0, 100_000.0),
    "average": (0.0, math.nextafter(1.0, 0.0)),
    "alone_weight": (0.0, 1000.0),
    "evaluation_users": (0, (1 << 31) - 1),
    "evaluation_negatives": (1, 1 << 20),
    "evaluation_seed": (0, (1 << 63) - 1),
}
"""Least and largest value of every number."""


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
    positions: Literal["last", "all"] = "last"
    """What is predicted: one click per history, from all before it (released), or the next one after every click of a
    window of consecutive clicks, which needs a model that reads no later click into an earlier position."""
    ahead: int = 1
    """With ``positions = "all"``: a click predicts one of the next so many clicks, the nearer the likelier, drawn again
    in each epoch."""
    batch_size: int = 205
    """Predicted clicks per step, about as many with ``positions = "all"``."""
    negatives: int = 4
    """Sampled items per predicted click, with the model's ``objective = "bce"``."""
    sampled_items: int = 512
    """Items drawn per step, with the model's ``objective = "sampled_softmax"``."""
    learning_rate: float = 0.005
    weight_decay: float = 0.0
    table_optimizer: Literal["lazy_adamw", "adamw", "rowwise_adagrad"] = "lazy_adamw"
    """Of the item table; AdamW has the rest. ``lazy_adamw`` updates the rows of the batch alone and gives what
    ``adamw`` does, which writes the whole table at every step; ``rowwise_adagrad`` keeps four bytes of state a row."""
    table_learning_rate: float = 0.0
    """Of the item table; 0 takes ``learning_rate``."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes from its start to 0 over all epochs."""
    warmup: float = 0.0
    """Epochs, or a share of one, over which the learning rate rises to its start."""
    average: float = 0.0
    """Decay per step of a running average of the weights, which is what is evaluated and kept; 0: the weights."""
    alone_weight: float = 0.0
    """Weight of a second loss, of the same histories read without the correction: what a phone offline ranks with."""
    refit: bool = False
    """When validation has chosen the epoch, train again from the start, for as many epochs, with each user's validation
    click too: what ships knows the newest clicks but the test's. In ``[cloud]`` so are the cloud's networks alone."""
    monitor: str = "ndcg@10"
    """Validation metric that picks the epoch: among sampled negatives, behind ``expected:`` its mean over all draws of
    them, behind ``full:`` in the whole catalog, or behind ``both:`` the geometric mean of one of the first two and
    that."""
    evaluation_users: int = 100_000
    """Most users that a model is measured on, drawn where there are more, since each is ranked in the whole catalog; 0:
    all."""
    evaluation_negatives: int = 100
    evaluation_seed: int = 0
    """Seed of the drawn users and of the validation and test negatives: the same for every ``seed``, so that runs can
    be compared."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ranges(self, RANGES)
        if not (0 <= self.warmup <= self.epochs and 0 <= self.average < 1):
            raise UsageError(
                f"warmup must be 0 to epochs and average at least 0 and below 1, got {self.warmup} and {self.average}"
            )
        names = (
            *METRICS,
            *(EXPECTED + name for name in EXPECTED_METRICS),
            *(FULL + name for name in FULL_METRICS),
            *(BOTH + name for name in METRICS),
            *(BOTH + EXPECTED + name for name in EXPECTED_METRICS),
        )
        if self.monitor not in names:
            raise UsageError(f"monitor must be one of {', '.join(names)}, got {self.monitor!r}")
        sampled = not self.monitor.startswith(FULL)
        if sampled and cutoff(self.monitor) > self.evaluation_negatives:
            raise UsageError(
                f"monitor {self.monitor!r} is 1 for every model with {self.evaluation_negatives + 1} candidates "
                f"(evaluation_negatives {self.evaluation_negatives}): raise evaluation_negatives above "
                f"{cutoff(self.monitor) - 1}, or choose the epoch by another monitor, such as uauc"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: str) -> Self:
        """Build a config from parsed TOML; ``where`` names the file and table in errors."""
        return from_table(cls, values, where=where)
