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
    tables. ``inner_loss="sigmoid"`` (Algorithm 1), ``objective="softmax"`` (Eq. 12, 16), ``item_side="dot"`` (Eq. 12)
    and ``mini_batch`` (Fig. 6) are what the paper's text has instead. ``readout="residual"``,
    ``objective="sampled_softmax"`` and ``correction="vector"`` are in neither: they rank better (docs/training.md).

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
    """Whether the model has a cloud model; false with ``correction = "none"`` and in a baseline."""
    correction: Literal["kernel", "vector", "none"] = "kernel"
    """What the cloud answers: the two kernels of the paper (Eq. 13 to 15), or one vector that is added to the user
    state; ``"none"`` without a cloud model."""
    cloud_length: int = 50
    """L_cloud: clicks that the cloud model of ``correction = "vector"`` reads."""
    cloud_networks: int = 1
    """Networks of the cloud model of ``correction = "vector"``, whose vectors are averaged."""
    cloud_dropout: float = 0.2
    """Share of features dropped in training of the cloud model of ``correction = "vector"``."""
    item_side: Literal["mlp", "dot"] = "mlp"
    """An item's vector: its row of the table through a tower (released), or the row itself (Eq. 12)."""
    readout: Literal["norm", "residual"] = "norm"
    """The user state: the norm of the last layer's output (released), or of its sum with the last click."""
    attention: Literal["both", "causal"] = "both"
    """Of bert4rec: which clicks a click sees, all of them (released) or itself and those before it."""
    dropout: float = 0.0
    """Share of features dropped in training, on the embedded clicks and on the user state."""
    init_std: float = 0.02
    inner_loss: Literal["layernorm_l2", "sigmoid"] = "layernorm_l2"
    objective: Literal["bce", "softmax", "sampled_softmax"] = "bce"
    """The training loss: binary cross-entropy with sampled negatives (released), or a softmax over the vocabulary
    (Eq. 12, 16) or over a sample of it."""
    remask_correction: bool = False
    """Mask the corrected attention again, so that later clicks cannot leak into earlier ones."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.architecture == "cocorrrec":
            self._settle_correction()
        else:
            object.__setattr__(self, "gcn", False)
            object.__setattr__(self, "correction", "none")
            self._refuse("inner_loss", "remask_correction")
        self._settle_options()
        for name, low in (
            ("vocab_size", 2),
            ("hidden_size", 2),
            ("num_heads", 1),
            ("mini_batch", 1),
            ("sequence_length", 1),
            ("cloud_length", 1),
            ("cloud_networks", 1),
        ):
            if getattr(self, name) < low:
                raise UsageError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.hidden_size % (2 * self.num_heads):
            raise UsageError(
                f"hidden_size must be a multiple of twice num_heads (rotary embeddings pair the features of a head), "
                f"got hidden_size {self.hidden_size} and num_heads {self.num_heads}"
            )
        for name in ("dropout", "cloud_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UsageError(f"{name} must be in [0, 1), got {getattr(self, name)}")

    def _settle_correction(self) -> None:
        """``gcn = false`` and ``correction = "none"`` say the same: make both fields agree."""
        if self.correction == "vector" and not self.gcn:
            raise UsageError(
                "correction 'vector' needs the cloud model that gcn = false leaves out: remove one of them"
            )
        if not self.gcn or self.correction == "none":
            object.__setattr__(self, "gcn", False)
            object.__setattr__(self, "correction", "none")
        if self.correction == "vector":
            self._refuse("remask_correction")
            if self.cloud_length < self.sequence_length:
                raise UsageError(
                    f"cloud_length must not be below sequence_length: the cloud reads the clicks that the phone has, "
                    f"and older ones; got {self.cloud_length} and {self.sequence_length}"
                )

    def _settle_options(self) -> None:
        """Refuse options that an architecture does not have; set those that it has no choice of."""
        if self.architecture != "bert4rec":
            self._refuse("attention")
        if self.architecture in ("bert4rec", "mamba4rec"):  # both score with the item's own row by their definition
            object.__setattr__(self, "item_side", "dot")
        if self.architecture in ("bert4rec", "mamba4rec", "din"):
            self._refuse("readout")
        if self.architecture == "din":
            self._refuse("item_side")
            if self.objective == "softmax":
                raise UsageError(
                    "objective 'softmax' needs one state per user, and in din each candidate reads the clicks again: "
                    "use 'sampled_softmax' or 'bce'"
                )

    def _refuse(self, *names: str) -> None:
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise UsageError(f"{name} {getattr(self, name)!r} has no meaning in {self._what()}")

    def _what(self) -> str:
        return self.architecture + (" with correction 'vector'" if self.correction == "vector" else "")

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
