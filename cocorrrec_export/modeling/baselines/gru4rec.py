"""GRU4Rec (Hidasi et al., ICLR 2016); the defaults of a config are the paper's released implementation."""

from typing import NamedTuple

from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.frame import Baseline, make_head
from cocorrrec_export.modeling.layers import pick_rows, tanh_layers
from cocorrrec_export.modeling.ranker import last_position


class GRUState(NamedTuple):
    """All that the next click needs to know."""

    hidden: Tensor  # [B, layers S], layer by layer


class GRU4Rec(Baseline):
    """A layer on each click, a GRU over them, two layers on its last state; two layers on the item.

    Args:
        vocab_size: V.
        hidden_size: D.
        gru_size: S, features of the GRU's state.
        num_layers: of the GRU.
        bias: whether the GRU has biases.
        click_projection: whether there is a layer on each click.
        head: from the GRU's output to the user state, as in a config.
        layer_norm_eps: epsilon of a head that norms.
        item_layers: whether an item's row goes through two layers; else the row is its vector.
        residual: whether the last click's row is added to the user state.
        dropout: share of the embedded clicks' features dropped in training.
        user_dropout: whether as many of the user state's are dropped too.
    """

    streams = True

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        gru_size: int,
        num_layers: int = 1,
        bias: bool = True,
        click_projection: bool = True,
        head: str = "mlp",
        layer_norm_eps: float = 1e-5,
        item_layers: bool = True,
        residual: bool = False,
        dropout: float = 0.0,
        user_dropout: bool = True,
    ) -> None:
        super().__init__(vocab_size=vocab_size, hidden_size=hidden_size, dropout=dropout)
        self.click_proj = nn.Linear(hidden_size, hidden_size) if click_projection else None
        self.gru = nn.GRU(hidden_size, gru_size, num_layers=num_layers, bias=bias, batch_first=True)
        self.user_mlp = make_head(
            head,
            inputs=gru_size,
            outputs=hidden_size,
            norm=lambda: nn.LayerNorm(hidden_size, eps=layer_norm_eps),
        )
        self.item_mlp = tanh_layers(hidden_size, 2 if item_layers else 0)
        self.residual = residual
        self.user_dropout = nn.Dropout(dropout if user_dropout else 0.0)

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:
        """The user state ``[B, D]``."""
        last = last_position(ids)
        x = pick_rows(self.every_position(ids, clicks, corrected=corrected), last)
        return self.user_dropout(self.read_out(x, pick_rows(clicks, last)))

    def states(self, ids: Tensor, clicks: Tensor) -> Tensor:
        """The user after each click, ``[B, L, D]``."""
        return self.user_dropout(self.read_out(self.every_position(ids, clicks), clicks))

    def read_out(self, x: Tensor, clicks: Tensor) -> Tensor:
        """The GRU's outputs ``[..., S]`` and the clicks' rows ``[..., D]`` to user states ``[..., D]``."""
        user: Tensor = self.user_mlp(x)
        return user + clicks if self.residual else user

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The GRU's outputs, ``[B, L, S]``."""
        outputs: Tensor = self.gru(self.project(self.dropout(clicks)))[0]
        return outputs

    def project(self, clicks: Tensor) -> Tensor:
        """What the GRU reads of the clicks' rows, both ``[..., D]``."""
        return clicks if self.click_proj is None else self.click_proj(clicks).tanh()

    def item_side(self, rows: Tensor) -> Tensor:
        """Two layers, or none."""
        return self.item_mlp(rows)

    def start_stream(self, batch: int) -> GRUState:
        """The state before the first click: zeros."""
        return GRUState(self.item_embedding.weight.new_zeros(batch, self.gru.num_layers * self.gru.hidden_size))

    def step(self, items: Tensor, state: GRUState) -> tuple[GRUState, Tensor]:
        """Read one click ``items [B]``: the next state and the user state ``[B, D]``."""
        clicks = self.item_embedding(items)
        before = state.hidden.view(len(items), self.gru.num_layers, -1).transpose(0, 1).contiguous()
        hidden = self.gru(self.project(clicks)[:, None], before)[1]  # [layers, B, S]
        return GRUState(hidden.transpose(0, 1).flatten(1)), self.read_out(hidden[-1], clicks)
