"""BERT4Rec (Sun et al., CIKM 2019), as the paper's released implementation has it: no masked items, read at the end."""

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.frame import Baseline, SelfAttention, causal_mask, padding_mask
from cocorrrec_export.modeling.layers import pick_rows
from cocorrrec_export.modeling.ranker import last_position

LAYERS = 2


class DeviationNorm(nn.Module):
    """``w (x - mean) / (std + eps) + b`` over the last dimension, std with ddof 1: BERT4Rec's own LayerNorm."""

    def __init__(self, size: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``x [..., size]`` to the same shape."""
        centred = x - x.mean(-1, keepdim=True)
        # From the squares: torch's std has no gradient at rows whose values are all alike.
        deviation = (centred.square().sum(-1, keepdim=True) / (x.shape[-1] - 1) + 1e-12).sqrt()
        return self.weight * centred / (deviation + self.eps) + self.bias


class BERTBlock(nn.Module):
    """Attention over all clicks and a feed-forward network, each behind a norm and added to its input."""

    def __init__(self, *, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = DeviationNorm(hidden_size)
        self.attention = SelfAttention(hidden_size=hidden_size, num_heads=num_heads, dropout=dropout, fused=False)
        self.ffn_norm = DeviationNorm(hidden_size)
        self.ffn = nn.Sequential(
            nn.Linear(hidden_size, 4 * hidden_size), nn.GELU("tanh"), nn.Linear(4 * hidden_size, hidden_size)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, last: Tensor | None = None) -> Tensor:
        """``x [B, L, D]`` to the same shape, or with ``last [B]`` to ``[B, 1, D]``."""
        mixed = self.attention(self.attention_norm(x), mask, last)
        x = (x if last is None else pick_rows(x, last)[:, None]) + self.dropout(mixed)
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


def read_blocks(blocks: nn.ModuleList, x: Tensor, ids: Tensor, *, causal: bool, last: Tensor | None) -> Tensor:
    """The blocks' output at every click of ``ids [B, L]``, or at ``last [B]`` alone.

    Args:
        blocks: of :class:`BERTBlock`.
        x: ``[B, L, D]``.
        ids: 0 = padding, which no click sees.
        causal: whether a click sees itself and those before it alone.
        last: the last click of each history.

    Returns:
        ``[B, L, D]``, or with ``last`` ``[B, D]``.
    """
    padding = padding_mask(ids)
    mask = padding + causal_mask(ids.shape[1], ids.device) if causal else padding
    for block in blocks[:-1]:
        x = block(x, mask)
    # The last click sees all clicks, causal or not.
    return blocks[-1](x, mask) if last is None else blocks[-1](x, padding, last).squeeze(1)


class BERT4Rec(Baseline):
    """Two blocks over the clicks and their positions; the score is the product with the item's own row.

    Args:
        vocab_size: V.
        hidden_size: D.
        num_heads: h.
        sequence_length: L, rows of the table of positions.
        causal: whether a click sees itself and those before it alone, so that every position can be trained on.
        dropout: share of features dropped in training.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        num_heads: int,
        sequence_length: int,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(vocab_size=vocab_size, hidden_size=hidden_size, dropout=dropout)
        self.causal = causal
        self.position_embedding = nn.Embedding(sequence_length, hidden_size)
        self.blocks = nn.ModuleList(
            BERTBlock(hidden_size=hidden_size, num_heads=num_heads, dropout=dropout) for _ in range(LAYERS)
        )

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The user state ``[B, D]``; the last block computes the last click's alone."""
        return self._encode(ids, clicks, last_position(ids))

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The last block's outputs, ``[B, L, D]``."""
        return self._encode(ids, clicks, None)

    def states(self, ids: Tensor, clicks: Tensor) -> Tensor:
        """The user after each click, ``[B, L, D]``."""
        return self._encode(ids, clicks, None) if self.causal else super().states(ids, clicks)

    def _encode(self, ids: Tensor, clicks: Tensor, last: Tensor | None) -> Tensor:
        x = self.dropout(clicks + self.position_embedding.weight[: ids.shape[1]])
        return read_blocks(self.blocks, x, ids, causal=self.causal, last=last)
