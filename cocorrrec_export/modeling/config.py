"""The sizes and options of a model: the only source of both."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from cocorrrec_export.errors import UsageError, nearest
from cocorrrec_export.plugins import architecture_names
from cocorrrec_export.toml import Range, check_ranges, check_types, from_table

Architecture = Literal["cocorrrec", "din", "gru4rec", "sasrec", "bert4rec", "mamba4rec"]
"""CoCorrRec, and the baselines of its paper: those of the package itself."""

CloudReader = Literal["attention", "gru", "recall", "both"]
"""Kinds of networks of a cloud that answers with a vector."""

TRANSFORMERS: tuple[str, ...] = ("sasrec", "bert4rec")
"""What attention over the clicks makes up."""


def reader_kinds(reader: CloudReader, networks: int) -> list[str]:
    """The kind of each of ``networks`` networks: ``"attention"``, ``"gru"`` or ``"recall"``."""
    kinds = ("gru", "attention") if reader == "both" else (reader,)
    return [kinds[index % len(kinds)] for index in range(networks)]


_BELOW_1 = math.nextafter(1.0, 0.0)
RANGES: dict[str, Range] = {
    "vocab_size": (2, (1 << 31) - 1),
    "hidden_size": (2, 1 << 14),
    "num_heads": (1, 1 << 10),
    "mini_batch": (1, 1 << 10),
    "sequence_length": (1, 1 << 14),
    "cloud_length": (1, 1 << 14),
    "cloud_networks": (1, 64),
    "dropout": (0.0, _BELOW_1),
    "cloud_dropout": (0.0, _BELOW_1),
    "init_std": (0.0, 10.0),
    "num_layers": (0, 1 << 10),
    "inner_size": (0, 1 << 16),
    "state_size": (1, 1 << 10),
    "conv_kernel": (2, 1 << 10),
    "expand": (1, 64),
    "layer_norm_eps": (0.0, 1.0),
}
"""Least and largest value of every number."""

PADDING_ID = 0
"""The item id that stands for 'no click'. Real items are 1 .. vocab_size - 1."""

_BLOCKS = {
    "attention": None,
    "inner_size": None,
    "embedding_norm": None,
    "scale_embedding": None,
    "output_bias": None,
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "cocorrrec": {"user_dropout": None},
    "gru4rec": {
        "user_dropout": None,
        "num_layers": 1,
        "inner_size": None,
        "click_projection": None,
        "head": "mlp",
        "layer_norm_eps": 1e-5,
        "gru_bias": None,
    },
    "sasrec": _BLOCKS
    | {
        "num_layers": 1,
        "hidden_act": "relu",
        "norm": "layer",
        "layer_norm_eps": 1e-5,
        "norm_position": "post",
        "position_table": "vocabulary",
        "padding": None,
        "click_projection": None,
        "head": "mlp",
    },
    "bert4rec": _BLOCKS
    | {
        "num_layers": 2,
        "hidden_act": "gelu_new",
        "norm": "deviation",
        "layer_norm_eps": 1e-6,
        "norm_position": "pre",
        "position_table": "history",
        "head": "none",
        "mask_token": None,
    },
    "mamba4rec": {
        "num_layers": 2,
        "layer_norm_eps": 1e-12,
        "state_size": None,
        "conv_kernel": None,
        "expand": None,
    },
}
"""The options of layers that an architecture has, and what they are as released where no default says it."""
_LAYER_OPTIONS = sorted({name for options in _OPTIONS.values() for name in options})


def check_architecture(name: str) -> None:
    """Raise for a name that is none.

    Raises:
        UsageError: with the nearest name, and all of them.
    """
    known = (*get_args(Architecture), *architecture_names())
    if name not in known:
        raise UsageError(f"unknown architecture '{name}' ({nearest(name, known)})")


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
    architecture: str = "cocorrrec"
    """One of :data:`Architecture`, or of an installed distribution."""
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
    cloud_reader: CloudReader = "attention"
    """Of what kind the networks of the cloud model of ``correction = "vector"`` are: two blocks of attention; a GRU
    whose output is added to the last click and normed, as the user state with ``readout = "residual"`` is; such a GRU
    that besides attends to the clicks that the phone no longer has (``recall``); or the first two in turn
    (``both``)."""
    cloud_networks: int = 1
    """Networks of the cloud model of ``correction = "vector"``, whose vectors are averaged."""
    cloud_dropout: float = 0.2
    """Share of features dropped in training of the cloud model of ``correction = "vector"``."""
    item_side: Literal["mlp", "dot"] = "mlp"
    """An item's vector: its row of the table through a tower (released), or the row itself (Eq. 12)."""
    readout: Literal["norm", "residual"] = "norm"
    """The user state: the norm of the last layer's output (released), or of its sum with the last click."""
    attention: Literal["both", "causal"] = "both"
    """Of sasrec and bert4rec: which clicks a click sees, all of them (released) or itself and those before it."""
    num_layers: int = 0
    """Blocks, or layers of gru4rec's GRU; 0: as released, 1 in sasrec and gru4rec, 2 in bert4rec and mamba4rec."""
    inner_size: int = 0
    """Features inside a feed-forward network of sasrec or bert4rec, or of gru4rec's GRU; 0: as released, 4 D and D."""
    hidden_act: Literal["own", "relu", "gelu", "gelu_new", "swish", "tanh", "sigmoid"] = "own"
    """Activation inside a feed-forward network; ``gelu_new`` is GELU by tanh. Released: relu in sasrec, gelu_new in
    bert4rec."""
    norm: Literal["own", "layer", "deviation"] = "own"
    """LayerNorm (sasrec), or bert4rec's own of the standard deviation with ddof 1."""
    layer_norm_eps: float = 0.0
    """Epsilon of the norms; 0: as released, 1e-5 in sasrec, 1e-6 in bert4rec, 1e-12 in mamba4rec."""
    norm_position: Literal["own", "post", "pre", "query"] = "own"
    """Norms of sums (sasrec), of what is read (bert4rec), or of the query and of the feed-forward network's input."""
    position_table: Literal["own", "vocabulary", "history", "from_end"] = "own"
    """Rows of positions: V (sasrec), one per click (bert4rec), or one per click counted from the last one back."""
    padding: Literal["masked", "visible", "zeroed"] = "masked"
    """Of sasrec: no click sees padding, or every click does, as computed, or as rows of zeros before each block."""
    click_projection: bool = True
    """Whether a layer with tanh comes before the first block of sasrec, or before the GRU of gru4rec."""
    embedding_norm: bool = False
    """Of sasrec and bert4rec: a norm of clicks plus positions."""
    scale_embedding: bool = False
    """Of sasrec and bert4rec: the clicks' rows times the root of D."""
    head: Literal["own", "mlp", "none", "linear", "norm", "mlm"] = "own"
    """From the last click's output to the user state, in sasrec, bert4rec and gru4rec: two layers (sasrec, gru4rec),
    nothing (bert4rec), one layer, a norm, or a layer with GELU and norm as over masked items."""
    output_bias: bool = False
    """Of sasrec and bert4rec: a number per item that is added to its score."""
    mask_token: bool = False
    """Of bert4rec: a row of its own takes the place behind the last click, the oldest click makes room for it, and the
    row's output is the user state."""
    gru_bias: bool = True
    """Of gru4rec: whether the GRU has biases."""
    state_size: int = 32
    """Of mamba4rec: N, states per channel."""
    conv_kernel: int = 4
    """Of mamba4rec: clicks under the convolution."""
    expand: int = 2
    """Of mamba4rec: channels of a mixer over D."""
    dropout: float = 0.0
    """Share of features dropped in training: of the embedded clicks, and inside and behind the layers."""
    user_dropout: bool = True
    """Of cocorrrec and gru4rec: whether the user state is dropped too."""
    init_std: float = 0.02
    inner_loss: Literal["layernorm_l2", "sigmoid"] = "layernorm_l2"
    objective: Literal["bce", "softmax", "sampled_softmax"] = "bce"
    """The training loss: binary cross-entropy with sampled negatives (released), or a softmax over the vocabulary
    (Eq. 12, 16) or over a sample of it."""
    remask_correction: bool = False
    """Mask the corrected attention again, so that later clicks cannot leak into earlier ones."""

    def __post_init__(self) -> None:
        check_types(self)
        check_architecture(self.architecture)
        if self.architecture == "cocorrrec":
            self._settle_correction()
        else:
            object.__setattr__(self, "gcn", False)
            object.__setattr__(self, "correction", "none")
            self._refuse("inner_loss", "remask_correction")
        check_ranges(self, RANGES)
        self._settle_options()
        self._check_heads()

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

    def _check_heads(self) -> None:
        if self.architecture == "cocorrrec" and self.hidden_size % (2 * self.num_heads):
            raise UsageError(
                f"hidden_size must be a multiple of twice num_heads (rotary embeddings pair the features of a head), "
                f"got hidden_size {self.hidden_size} and num_heads {self.num_heads}"
            )
        if self.architecture in TRANSFORMERS and self.hidden_size % self.num_heads:
            raise UsageError(
                f"hidden_size must be a multiple of num_heads, got hidden_size {self.hidden_size} and num_heads "
                f"{self.num_heads}"
            )

    def _settle_options(self) -> None:
        """Refuse options that an architecture does not have; set those that it has no choice of."""
        if self.architecture in architecture_names():
            return  # what its options mean, its own builder knows
        options = _OPTIONS.get(self.architecture, {})
        self._refuse(*(name for name in _LAYER_OPTIONS if name not in options))
        for name, released in options.items():
            if getattr(self, name) in ("own", 0) and released is not None:
                object.__setattr__(self, name, released)
        if self.inner_size == 0 and "inner_size" in options:
            object.__setattr__(self, "inner_size", self.hidden_size * (1 if self.architecture == "gru4rec" else 4))
        if self.head == "mlm" and self.architecture not in TRANSFORMERS:
            raise UsageError(f"head 'mlm' has no meaning in {self.architecture}: use 'mlp', 'linear', 'norm' or 'none'")
        if (
            self.head in ("none", "mlp", "norm")
            and self.architecture == "gru4rec"
            and self.inner_size != self.hidden_size
        ):
            raise UsageError(
                f"head '{self.head}' needs a GRU as wide as an item's row, got inner_size {self.inner_size} and "
                f"hidden_size {self.hidden_size}: use head 'linear'"
            )
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
