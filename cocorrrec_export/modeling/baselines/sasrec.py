"""SASRec (Kang and McAuley, ICDM 2018), as the paper's released implementation has it, with padding masked."""

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.frame import Baseline, SelfAttention, causal_mask, padding_mask
from cocorrrec_export.modeling.layers import pick_rows, tanh_layers
from cocorrrec_export.modeling.ranker import last_position


class SASRec(Baseline):
    """One transformer layer (norms after its halves) over the clicks, read at the last one.

    With one layer and the last click's output alone, a causal mask changes nothing. The released implementation masks
    nothing at all, so that it also attends to padding; here padding is masked.

    Args:
        vocab_size: V. The released implementation sizes the table of positions by it too; rows beyond the longest
            history are never read, and no export holds them.
        hidden_size: D.
        num_heads: h.
        sequence_length: L, the most clicks.
        item_layers: whether an item's row goes through two layers; else the row is its vector.
        residual: whether the last click's row is added to the user state.
        dropout: share of features dropped in training.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        num_heads: int,
        sequence_length: int,
        item_layers: bool = True,
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(vocab_size=vocab_size, hidden_size=hidden_size, dropout=dropout)
        self.position_embedding = nn.Embedding(max(vocab_size, sequence_length), hidden_size)
        self.click_proj = nn.Linear(hidden_size, hidden_size)
        self.attention = SelfAttention(hidden_size=hidden_size, num_heads=num_heads, dropout=dropout, fused=True)
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.ffn = nn.Sequential(
            nn.Linear(hidden_size, 4 * hidden_size), nn.ReLU(), nn.Linear(4 * hidden_size, hidden_size)
        )
        self.ffn_norm = nn.LayerNorm(hidden_size)
        self.user_mlp = tanh_layers(hidden_size, 2)
        self.item_mlp = tanh_layers(hidden_size, 2 if item_layers else 0)
        self.residual = residual

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The user state ``[B, D]``; what only other positions need is not computed."""
        last = last_position(ids)
        x = self._block(ids, clicks, padding_mask(ids), last).squeeze(1)
        return self.dropout(self._read_out(x, pick_rows(clicks, last)))

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The layer's outputs, ``[B, L, D]``."""
        return self._block(ids, clicks, padding_mask(ids), None)

    def states(self, ids: Tensor, clicks: Tensor) -> Tensor:
        """The user after each click, ``[B, L, D]``: each sees itself and those before it."""
        mask = padding_mask(ids) + causal_mask(ids.shape[1], ids.device)
        return self.dropout(self._read_out(self._block(ids, clicks, mask, None), clicks))

    def _read_out(self, x: Tensor, clicks: Tensor) -> Tensor:
        user: Tensor = self.user_mlp(x)
        return user + clicks if self.residual else user

    def _block(self, ids: Tensor, clicks: Tensor, mask: Tensor, last: Tensor | None) -> Tensor:
        positions = self.position_embedding(torch.arange(ids.shape[1], device=ids.device))
        x = self.click_proj(self.dropout(clicks + positions)).tanh()
        mixed = self.attention(x, mask, last)
        own = x if last is None else pick_rows(x, last)[:, None]
        x = self.attention_norm(own + self.dropout(mixed))
        return self.ffn_norm(x + self.dropout(self.ffn(x)))

    def item_side(self, rows: Tensor) -> Tensor:
        """Two layers, or none."""
        return self.item_mlp(rows)
