"""The sizes and options of a model: the only source of both."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from cocorrrec_export.errors import UsageError, nearest
from cocorrrec_export.toml import check_types, from_table

Architecture = Literal["cocorrrec", "din", "gru4rec", "sasrec", "bert4rec", "mamba4rec"]
"""CoCorrRec, and the baselines of its paper."""

PADDING_ID = 0
"""The item id that stands for 'no click'. Real items are 1 .. vocab_size - 1."""


def check_architecture(name: str) -> None:
    """Raise for a name that is none.

    Raises:
        UsageError: with the nearest name, and all of them.
    """
    if name not in get_args(Architecture):
        raise UsageError(f"unknown architecture '{name}' ({nearest(name, get_args(Architecture))})")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and options of a model.

    The defaults are those of the released implementation of CoCorrRec (IJCAI 2025), which produced the published
    tables. ``inner_loss="sigmoid"`` (Algorithm 1), ``objective="softmax"`` (Eq. 12, 16) and ``mini_batch`` (Fig. 6)
    are what the paper's text has instead.

    Raises:
        UsageError: sizes that do not fit together, with the values that were given.
    """

    vocab_size: int
    """V: rows of the item table, the padding row 0 included."""
    architecture: Architecture = "cocorrrec"
    hidden_size: int = 64
    """D: width of an item embedding and of the user state."""
    num_heads: int = 4
    """h: heads of the TTT layer; each has D / h features."""
    mini_batch: int = 10
    """K: clicks per inner mini-batch (b in the paper)."""
    sequence_length: int = 10
    """L: clicks that the phone keeps and ranks with."""
    gcn: bool = True
    """Whether the model has its cloud half; always false in a baseline."""
    dropout: float = 0.0
    """Share of features dropped in training, on the embedded clicks and on the user state."""
    init_std: float = 0.02
    inner_loss: Literal["layernorm_l2", "sigmoid"] = "layernorm_l2"
    objective: Literal["bce", "softmax"] = "bce"
    remask_correction: bool = False
    """Mask the corrected attention again, so that later clicks cannot leak into earlier ones."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.architecture != "cocorrrec":
            object.__setattr__(self, "gcn", False)
            self._refuse("inner_loss", "remask_correction")
            if self.architecture == "din" and self.objective == "softmax":
                raise UsageError(
                    "objective 'softmax' needs one state for each user, and in din each candidate reads the clicks "
                    "anew: use 'bce'"
                )
        for name, low in (
            ("vocab_size", 2),
            ("hidden_size", 2),
            ("num_heads", 1),
            ("mini_batch", 1),
            ("sequence_length", 1),
        ):
            if getattr(self, name) < low:
                raise UsageError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.hidden_size % (2 * self.num_heads):
            raise UsageError(
                f"hidden_size must be a multiple of twice num_heads (rotary embeddings pair the features of a head), "
                f"got hidden_size {self.hidden_size} and num_heads {self.num_heads}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"dropout must be in [0, 1), got {self.dropout}")

    def _refuse(self, *names: str) -> None:
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise UsageError(f"{name} is an option of cocorrrec and has no meaning in {self.architecture}")

    @property
    def head_dim(self) -> int:
        """f: features of one head."""
        return self.hidden_size // self.num_heads

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: str) -> Self:
        """Build a config from parsed TOML; ``where`` names the file and table in errors.

        Raises:
            UsageError: every unknown or missing key at once, or a value of the wrong type or range.
        """
        return from_table(cls, values, where=where)
