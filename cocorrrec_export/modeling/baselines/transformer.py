"""Attention over the clicks: SASRec (Kang and McAuley, ICDM 2018) and BERT4Rec (Sun et al., CIKM 2019).

Which of the two a model is, and whose version of it, is a matter of options: the defaults of a config are those of the
paper's released implementation, with padding masked. Letters: B batch, L clicks, D features, V items.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.frame import MASKED, Baseline, SelfAttention, make_activation, make_head
from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.layers import pick_rows, tanh_layers
from cocorrrec_export.modeling.ranker import last_position


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


NORMS: dict[str, Callable[..., nn.Module]] = {"layer": nn.LayerNorm, "deviation": DeviationNorm}
"""By the name in a config; each takes a size and ``eps``."""


class TransformerBlock(nn.Module):
    """Attention over all clicks and a feed-forward network, each added to its input.

    Args:
        hidden_size: D.
        num_heads: h.
        inner_size: features inside the feed-forward network.
        hidden_act: its activation, as in a config.
        norm: key of :data:`NORMS`.
        layer_norm_eps: their epsilon.
        norm_position: ``post`` norms the sums; ``pre`` what attention and the feed-forward network read; ``query`` the
            query, to which the attention is then added, and the feed-forward network's input likewise.
        dropout: share of features dropped in training.
        fused: as in :class:`SelfAttention`.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        inner_size: int,
        hidden_act: str,
        norm: str,
        layer_norm_eps: float,
        norm_position: str,
        dropout: float,
        fused: bool,
    ) -> None:
        super().__init__()
        self.norm_position = norm_position
        self.attention = SelfAttention(hidden_size=hidden_size, num_heads=num_heads, dropout=dropout, fused=fused)
        self.attention_norm = NORMS[norm](hidden_size, eps=layer_norm_eps)
        self.ffn = nn.Sequential(
            nn.Linear(hidden_size, inner_size), make_activation(hidden_act), nn.Linear(inner_size, hidden_size)
        )
        self.ffn_norm = NORMS[norm](hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, last: Tensor | None = None) -> Tensor:
        """``x [B, L, D]`` to the same shape, or with ``last [B]`` to ``[B, 1, D]``; ``mask`` is added to logits."""
        own = x if last is None else pick_rows(x, last)[:, None]
        if self.norm_position == "post":
            x = self.attention_norm(own + self.dropout(self.attention(x, mask, None if last is None else own)))
            return self.ffn_norm(x + self.dropout(self.ffn(x)))
        if self.norm_position == "pre":
            read = self.attention_norm(x)
            asking = None if last is None else pick_rows(read, last)[:, None]
            x = own + self.dropout(self.attention(read, mask, asking))
            return x + self.dropout(self.ffn(self.ffn_norm(x)))
        asking = self.attention_norm(own)
        x = self.ffn_norm(asking + self.dropout(self.attention(x, mask, asking)))
        return x + self.dropout(self.ffn(x))


def bert_blocks(*, hidden_size: int, num_heads: int, num_layers: int, dropout: float) -> nn.ModuleList:
    """Blocks as in the released BERT4Rec."""
    return nn.ModuleList(
        TransformerBlock(
            hidden_size=hidden_size,
            num_heads=num_heads,
            inner_size=4 * hidden_size,
            hidden_act="gelu_new",
            norm="deviation",
            layer_norm_eps=1e-6,
            norm_position="pre",
            dropout=dropout,
            fused=False,
        )
        for _ in range(num_layers)
    )


def attention_mask(clicked: Tensor, *, causal: bool, visible: bool) -> Tensor:
    """What is added to attention logits, ``[B, 1, 1 or L, L]``, from which places hold a click, ``clicked [B, L]``.

    Args:
        clicked: bool.
        causal: whether a click sees itself and those before it alone.
        visible: whether padding is seen. It stands for places before the first click, so that a causal model's padding
            sees padding alone.
    """
    if visible and not causal:
        return torch.zeros((), device=clicked.device)
    keys = clicked[:, None, None, :]
    if not causal:
        return ~keys * MASKED
    later = torch.ones(clicked.shape[1], clicked.shape[1], dtype=torch.bool, device=clicked.device).triu(1)
    blocked = keys & (later | ~clicked[:, None, :, None]) if visible else ~keys | later
    return blocked * MASKED


def read_blocks(
    blocks: nn.ModuleList,
    x: Tensor,
    clicked: Tensor,
    *,
    causal: bool,
    last: Tensor | None,
    padding: str = "masked",
) -> Tensor:
    """The blocks' output at every click, or at ``last [B]`` alone.

    Args:
        blocks: of :class:`TransformerBlock`.
        x: ``[B, L, D]``.
        clicked: ``[B, L]`` bool, the places that hold a click.
        causal: whether a click sees itself and those before it alone.
        last: the last click of each history.
        padding: as in a config.

    Returns:
        ``[B, L, D]``, or with ``last`` ``[B, D]``.
    """
    visible = padding != "masked"
    mask = attention_mask(clicked, causal=causal, visible=visible)
    for block in blocks[:-1]:
        x = block(_zeroed(x, clicked, padding), mask)
    x = _zeroed(x, clicked, padding)
    if last is None:
        return blocks[-1](x, mask)
    # The last click sees all clicks, causal or not.
    return blocks[-1](x, attention_mask(clicked, causal=False, visible=visible), last).squeeze(1)


def _zeroed(x: Tensor, clicked: Tensor, padding: str) -> Tensor:
    return x * clicked.unsqueeze(-1) if padding == "zeroed" else x


class Transformer(Baseline):
    """Blocks of attention over the clicks and their positions, read at the last one.

    Args:
        vocab_size: V.
        hidden_size: D.
        sequence_length: L, the most clicks.
        block: arguments of :class:`TransformerBlock`, but D and the share of dropout.
        num_layers: how many blocks.
        causal: whether a click sees itself and those before it alone. With one block, read at the last click, that
            changes nothing.
        padding: as in a config.
        position_table: as in a config.
        click_projection: whether a layer with tanh comes before the blocks.
        embedding_norm: whether clicks plus positions are normed.
        scale_embedding: whether the clicks' rows are multiplied by the root of D.
        head: from the last block's output to the user state, as in a config.
        mask_token: whether a row of its own is read behind the last click.
        item_layers: whether an item's row goes through two layers; else the row is its vector.
        residual: whether the last click's row is added to the user state.
        output_bias: whether each item's score has a number of its own added.
        dropout: share of features dropped in training.
    """

    # The only block had no number.
    renamed: ClassVar = {f"{name}.": f"blocks.0.{name}." for name in ("attention", "attention_norm", "ffn", "ffn_norm")}

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        sequence_length: int,
        block: dict[str, Any],
        num_layers: int,
        causal: bool = False,
        padding: str = "masked",
        position_table: str = "history",
        click_projection: bool = False,
        embedding_norm: bool = False,
        scale_embedding: bool = False,
        head: str = "none",
        mask_token: bool = False,
        item_layers: bool = False,
        residual: bool = False,
        output_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(vocab_size=vocab_size, hidden_size=hidden_size, output_bias=output_bias, dropout=dropout)
        self.causal, self.padding, self.residual = causal, padding, residual
        self.from_end = position_table == "from_end"
        # Released for sasrec: rows beyond the longest history are never read, and no export holds them.
        rows = max(vocab_size, sequence_length) if position_table == "vocabulary" else sequence_length
        norm, eps = block["norm"], block["layer_norm_eps"]
        self.position_embedding = nn.Embedding(rows, hidden_size)
        self.click_proj = nn.Linear(hidden_size, hidden_size) if click_projection else None
        self.embedding_norm = NORMS[norm](hidden_size, eps=eps) if embedding_norm else None
        self.scale = math.sqrt(hidden_size) if scale_embedding else 1.0
        self.mask_embedding = nn.Parameter(torch.zeros(hidden_size)) if mask_token else None
        self.blocks = nn.ModuleList(
            TransformerBlock(hidden_size=hidden_size, dropout=dropout, **block) for _ in range(num_layers)
        )
        self.user_mlp = make_head(
            head,
            inputs=hidden_size,
            outputs=hidden_size,
            norm=lambda: NORMS[norm](hidden_size, eps=eps),
        )
        self.item_mlp = tanh_layers(hidden_size, 2 if item_layers else 0)

    def initialize(self, *, std: float, generator: torch.Generator | None) -> None:
        """The mask's row starts like an item's."""
        if self.mask_embedding is not None:
            self.mask_embedding.normal_(0.0, std, generator=generator)

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The user state ``[B, D]``; what only other positions need is not computed."""
        last = last_position(ids)
        x = self._encode(ids, clicks, last, causal=self.causal)
        user = self._read_out(x, pick_rows(clicks, last))
        return self.dropout(user) if len(self.user_mlp) else user

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The last block's outputs, ``[B, L, D]``."""
        return self._encode(ids, clicks, None, causal=self.causal)

    def states(self, ids: Tensor, clicks: Tensor) -> Tensor:
        """The user after each click, ``[B, L, D]``: each sees itself and those before it."""
        if self.mask_embedding is not None or not (self.causal or len(self.blocks) == 1):
            return super().states(ids, clicks)
        user = self._read_out(self._encode(ids, clicks, None, causal=True), clicks)
        return self.dropout(user) if len(self.user_mlp) else user

    def item_side(self, rows: Tensor) -> Tensor:
        """Two layers, or none."""
        return self.item_mlp(rows)

    def _read_out(self, x: Tensor, clicks: Tensor) -> Tensor:
        user: Tensor = self.user_mlp(x)
        return user + clicks if self.residual else user

    def _encode(self, ids: Tensor, clicks: Tensor, last: Tensor | None, *, causal: bool) -> Tensor:
        clicked = ids != PADDING_ID
        if self.mask_embedding is not None:
            clicks, clicked = self._behind_the_last(ids, clicks, clicked, self.mask_embedding)
        x = clicks * self.scale + self._positions(clicked)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = self.dropout(x)
        if self.click_proj is not None:
            x = self.click_proj(x).tanh()
        return read_blocks(self.blocks, x, clicked, causal=causal, last=last, padding=self.padding)

    def _positions(self, clicked: Tensor) -> Tensor:
        length, table = clicked.shape[1], self.position_embedding.weight
        if not self.from_end:
            return table[:length]
        places = torch.arange(length, device=clicked.device) + len(table) - clicked.sum(1, keepdim=True)
        return table[places.clamp_max(len(table) - 1)] * clicked.unsqueeze(-1)

    @staticmethod
    def _behind_the_last(ids: Tensor, clicks: Tensor, clicked: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """All clicks but the oldest, and the token behind them, where the last click was."""
        is_last = torch.arange(ids.shape[1], device=ids.device) == last_position(ids).unsqueeze(1)
        moved = torch.cat((clicks[:, 1:], torch.zeros_like(clicks[:, :1])), dim=1)
        return torch.where(is_last.unsqueeze(-1), token, moved), clicked | is_last
