"""What the forms with attention share: which places hold a click, the product over them, rows of positions."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.forms.frame import OUT, Storage
from cocorrrec_export.modeling.baselines.frame import SelfAttention
from cocorrrec_export.modeling.config import PADDING_ID


class ClickMask(NamedTuple):
    """Which of L places are seen, ``[1 or L, L]`` each: 1 and 0, and what is added to logits."""

    keep: Tensor
    out: Tensor


def clicked(ids: Tensor) -> ClickMask:
    """Of ``ids [1, L]``."""
    keep = (ids != PADDING_ID).to(torch.float32)
    return ClickMask(keep, (1.0 - keep) * OUT)


def visible_clicks(clicked: Tensor, earlier: Tensor | None, *, padding: bool) -> ClickMask | None:
    """What each place sees, or None where that is all of them.

    Args:
        clicked: ``[1, L]``, 1 at a click.
        earlier: of a causal model, ``[L, L]``: 1 where the second place does not come after the first.
        padding: whether padding is seen, which then stands for places before the first click.
    """
    if not padding:
        keep = clicked if earlier is None else clicked * earlier
    elif earlier is None:
        return None
    else:
        keep = 1.0 - clicked * (1.0 - clicked.view(clicked.shape[1], 1) * earlier)
    return ClickMask(keep, (1.0 - keep) * OUT)


def attend(query: Tensor, key: Tensor, value: Tensor, clicks: ClickMask | None) -> Tensor:
    """Attention of ``query [h, r, f]``, scaled, to ``key [h, L, f]`` and ``value [h, L, n]``: ``[h, r, n]``.

    Where nothing is seen, as in an empty history, every place counts the same, as in the plain models.
    """
    logits = torch.bmm(query, key.transpose(1, 2))
    if clicks is not None:
        logits = logits * clicks.keep.unsqueeze(0) + clicks.out.unsqueeze(0)
    return torch.bmm(torch.softmax(logits, dim=-1), value)


def position_rows(table: nn.Embedding, length: int) -> Tensor:
    """The first ``length`` rows of a table of positions.

    A history that is longer than the model was trained for is exported to be measured alone: its further rows are zero.
    """
    rows = table.weight[:length]
    return nn.functional.pad(rows, (0, 0, 0, length - len(rows)))


class DeviceAttention(nn.Module):
    """Self-attention of every click, or of the last one alone; the scale is in the query's weights."""

    def __init__(self, attention: SelfAttention, *, storage: Storage) -> None:
        super().__init__()
        self.heads, size = attention.num_heads, attention.out_proj.in_features
        scale = torch.ones(3 * size)
        scale[:size] = 1.0 / math.sqrt(size / self.heads)
        self.sizes = (size, 2 * size)
        weight, bias = attention.in_proj.weight * scale[:, None], attention.in_proj.bias * scale
        self.query_proj = storage.projection(weight[:size], bias[:size])
        self.click_proj = storage.projection(weight[size:], bias[size:])
        self.out_proj = storage.projection(attention.out_proj.weight, attention.out_proj.bias)

    def split_heads(self, x: Tensor) -> Tensor:
        """``[r, D]`` to ``[h, r, f]``."""
        return x.view(x.shape[0], self.heads, x.shape[1] // self.heads).transpose(0, 1)

    def forward(self, x: Tensor, asking: Tensor, clicks: ClickMask | None) -> Tensor:
        """The clicks ``x [L, D]``, read by those ``asking [r, D]``: ``[r, D]``."""
        rows, size = asking.shape
        both = self.click_proj(x)
        key, value = self.split_heads(both[:, :size]), self.split_heads(both[:, size:])
        mixed = attend(self.split_heads(self.query_proj(asking)), key, value, clicks)
        out: Tensor = self.out_proj(mixed.transpose(0, 1).reshape(rows, size))
        return out
