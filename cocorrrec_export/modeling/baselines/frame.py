"""What the baselines are put together from."""

import math

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.layers import pick_rows
from cocorrrec_export.modeling.ranker import Ranker

MASKED = -1e9
"""Added to the logit of a padded click: finite, so that an empty history gives numbers."""


class Baseline(Ranker):
    """A model without a cloud half.

    Args:
        vocab_size: V, the padding row included.
        hidden_size: D.
        dropout: share of features dropped in training.
    """

    def __init__(self, *, vocab_size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.gcn = None
        self.item_embedding = nn.Embedding(vocab_size, hidden_size, padding_idx=PADDING_ID)
        self.dropout = nn.Dropout(dropout)


def padding_mask(ids: Tensor) -> Tensor:
    """``ids [B, L]`` to what is added to attention logits, ``[B, 1, 1, L]``."""
    return (ids == PADDING_ID).to(torch.float32)[:, None, None, :] * MASKED


def causal_mask(length: int, device: torch.device) -> Tensor:
    """What is added to attention logits so that a click does not see later ones, ``[L, L]``."""
    return torch.full((length, length), MASKED, device=device).triu(1)


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

    def forward(self, x: Tensor, mask: Tensor, last: Tensor | None = None) -> Tensor:
        """``x [B, L, D]`` to the same shape, or with ``last [B]`` to ``[B, 1, D]``: the query of that click alone."""
        size = x.shape[-1]
        weight, bias = self.in_proj.weight, self.in_proj.bias
        if last is None:
            query, key, value = self.in_proj(x).chunk(3, dim=-1)
        else:
            query = nn.functional.linear(pick_rows(x, last)[:, None], weight[:size], bias[:size])
            key, value = nn.functional.linear(x, weight[size:], bias[size:]).chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (query, key, value))
        logits = query @ key.transpose(-1, -2) / math.sqrt(size / self.num_heads) + mask  # [B, h, L or 1, L]
        mixed = self.dropout(logits.softmax(-1)) @ value
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))
