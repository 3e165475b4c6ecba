"""What the baselines are put together from."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.layers import tanh_layers
from cocorrrec_export.modeling.ranker import Ranker

MASKED = -1e9
"""Added to the logit of a padded click: finite, so that an empty history gives numbers."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu_new": lambda: nn.GELU("tanh"),
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
"""By the name in a config."""


def make_activation(name: str) -> nn.Module:
    """The activation of a config's ``hidden_act``."""
    return ACTIVATIONS[name]()


def make_head(head: str, *, inputs: int, outputs: int, norm: Callable[[], nn.Module]) -> nn.Sequential:
    """The layers from a network's output to the user state.

    Args:
        head: as in a config.
        inputs: features of the output.
        outputs: D.
        norm: makes one of D features.
    """
    if head == "mlp":
        return tanh_layers(outputs, 2)
    if head == "linear":
        return nn.Sequential(nn.Linear(inputs, outputs))
    if head == "norm":
        return nn.Sequential(norm())
    if head == "mlm":
        return nn.Sequential(nn.Linear(inputs, outputs), nn.GELU(), norm())
    return nn.Sequential()


class Baseline(Ranker):
    """A model without a cloud half.

    Args:
        vocab_size: V, the padding row included.
        hidden_size: D.
        output_bias: whether each item's score has a number of its own added.
        dropout: share of features dropped in training.
    """

    def __init__(self, *, vocab_size: int, hidden_size: int, dropout: float, output_bias: bool = False) -> None:
        super().__init__()
        self.gcn = None
        self.item_embedding = nn.Embedding(vocab_size, hidden_size, padding_idx=PADDING_ID)
        self.item_bias = nn.Parameter(torch.zeros(vocab_size)) if output_bias else None
        self.dropout = nn.Dropout(dropout)

    def item_tensors(self) -> list[str]:
        """The table and, where the model has one, the bias per item."""
        return super().item_tensors() + (["item_bias"] if self.item_bias is not None else [])

    def candidate_vectors(self, rows: Tensor, items: Tensor | None) -> Tensor:
        """With a bias per item, it is the last feature."""
        vectors = self.item_side(rows)
        if self.item_bias is None:
            return vectors
        bias = self.item_bias if items is None else self.item_bias[items]
        return torch.cat((vectors, bias.unsqueeze(-1)), dim=-1)

    def match(self, user: Any, vectors: Tensor) -> Tensor:
        """Logits ``[B, C]`` of items with ``vectors [B, C, ...]``."""
        if self.item_bias is None:
            return super().match(user, vectors)
        return super().match(user, vectors[..., :-1]) + vectors[..., -1]

    def match_all(self, user: Any, vectors: Tensor) -> Tensor:
        """Logits ``[B, C]`` of the same items for every user: ``vectors [C, ...]``."""
        if self.item_bias is None:
            return super().match_all(user, vectors)
        return super().match_all(user, vectors[..., :-1]) + vectors[..., -1]


class SelfAttention(nn.Module):
    """Multi-head attention over the clicks.

    Args:
        hidden_size: D.
        num_heads: h.
        dropout: share of attention weights dropped in training.
        fused: whether the released implementation ran the layer as one operation, which its FLOP count does not see.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, dropout: float, fused: bool) -> None:
        super().__init__()
        self.num_heads, self.fused = num_heads, fused
        self.in_proj = nn.Linear(hidden_size, 3 * hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, asking: Tensor | None = None) -> Tensor:
        """``x [B, L, D]``, read by each of its rows, or by ``asking [B, r, D]``: ``[B, L or r, D]``.

        ``mask`` is added to the logits ``[B, h, L or r, L]``.
        """
        size = x.shape[-1]
        weight, bias = self.in_proj.weight, self.in_proj.bias
        if asking is None:
            query, key, value = self.in_proj(x).chunk(3, dim=-1)
        else:
            query = nn.functional.linear(asking, weight[:size], bias[:size])
            key, value = nn.functional.linear(x, weight[size:], bias[size:]).chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (query, key, value))
        logits = query @ key.transpose(-1, -2) / math.sqrt(size / self.num_heads) + mask
        mixed = self.dropout(logits.softmax(-1)) @ value
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))
