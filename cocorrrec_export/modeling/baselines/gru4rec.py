"""GRU4Rec (Hidasi et al., ICLR 2016), as the paper's released implementation has it."""

from typing import NamedTuple

from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.frame import Baseline
from cocorrrec_export.modeling.layers import pick_rows, tanh_layers
from cocorrrec_export.modeling.ranker import last_position


class GRUState(NamedTuple):
    """All that the next click needs to know."""

    hidden: Tensor  # [B, D]


class GRU4Rec(Baseline):
    """A layer on each click, a GRU over them, two layers on its last state; two layers on the item.

    Args:
        vocab_size: V.
        hidden_size: D.
        item_layers: whether an item's row goes through two layers; else the row is its vector.
        residual: whether the last click's row is added to the user state.
        dropout: share of features dropped in training, on the embedded clicks and on the user state.
    """

    streams = True

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        item_layers: bool = True,
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(vocab_size=vocab_size, hidden_size=hidden_size, dropout=dropout)
        self.click_proj = nn.Linear(hidden_size, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.user_mlp = tanh_layers(hidden_size, 2)
        self.item_mlp = tanh_layers(hidden_size, 2 if item_layers else 0)
        self.residual = residual

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:
        """The user state ``[B, D]``."""
        last = last_position(ids)
        x = pick_rows(self.every_position(ids, clicks, corrected=corrected), last)
        return self.dropout(self.read_out(x, pick_rows(clicks, last)))

    def states(self, ids: Tensor, clicks: Tensor) -> Tensor:
        """The user after each click, ``[B, L, D]``."""
        return self.dropout(self.read_out(self.every_position(ids, clicks), clicks))

    def read_out(self, x: Tensor, clicks: Tensor) -> Tensor:
        """The GRU's outputs and the clicks' rows, both ``[..., D]``, to user states."""
        user: Tensor = self.user_mlp(x)
        return user + clicks if self.residual else user

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The GRU's outputs, ``[B, L, D]``."""
        outputs: Tensor = self.gru(self.click_proj(self.dropout(clicks)).tanh())[0]
        return outputs

    def item_side(self, rows: Tensor) -> Tensor:
        """Two layers, or none."""
        return self.item_mlp(rows)

    def start_stream(self, batch: int) -> GRUState:
        """The state before the first click: zeros."""
        return GRUState(self.item_embedding.weight.new_zeros(batch, self.gru.hidden_size))

    def step(self, items: Tensor, state: GRUState) -> tuple[GRUState, Tensor]:
        """Read one click ``items [B]``: the next state and the user state ``[B, D]``."""
        clicks = self.item_embedding(items)
        hidden = self.gru(self.click_proj(clicks).tanh()[:, None], state.hidden[None])[1][0]
        return GRUState(hidden), self.read_out(hidden, clicks)
