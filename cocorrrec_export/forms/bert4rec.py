"""BERT4Rec as an export graph, equal to the plain model, which tests hold it to; only the last click is read out."""

import torch
from torch import Tensor, nn

from cocorrrec_export.forms.attention import ClickMask, DeviceAttention, clicked, position_rows
from cocorrrec_export.forms.frame import OUT, DeviceRanker, Mean, Storage, constant, pick
from cocorrrec_export.modeling.baselines.bert4rec import BERT4Rec, BERTBlock, DeviationNorm


class DeviceDeviationNorm(nn.Module):
    """:class:`DeviationNorm` with means as products."""

    def __init__(self, norm: DeviationNorm) -> None:
        super().__init__()
        size = norm.weight.shape[0]
        constant(self, "weight", norm.weight)
        constant(self, "bias", norm.bias)
        self.mean = Mean(size)
        self.variance = Mean(size, divisor=size - 1, plus=1e-12)
        self.eps = norm.eps

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """``[n, size]`` to the same shape."""
        centred = x - self.mean(x)
        return self.weight * (centred / (torch.sqrt(self.variance(centred * centred)) + self.eps)) + self.bias


class DeviceBERTBlock(nn.Module):
    """A block of every click, or of the last one alone."""

    def __init__(self, block: BERTBlock, *, storage: Storage) -> None:
        super().__init__()
        self.attention_norm = DeviceDeviationNorm(block.attention_norm)
        self.attention = DeviceAttention(block.attention, storage=storage)
        self.ffn_norm = DeviceDeviationNorm(block.ffn_norm)
        self.ffn = storage.layers(list(block.ffn))

    def forward(self, x: Tensor, clicks: ClickMask, here: Tensor | None, unseen: Tensor | None) -> Tensor:
        """``x [L, D]`` to the same shape, or at the one-hot row ``here [1, L]`` alone to ``[1, D]``.

        ``unseen [L, L]`` is added to the logits of what a click does not see, in a causal model.
        """
        read = asking = self.attention_norm(x)
        if here is not None:
            x, asking = pick(here, x), pick(here, read)
        x = x + self.attention(read, asking, clicks, unseen)
        out: Tensor = x + self.ffn(self.ffn_norm(x))
        return out


class DeviceBERT4Rec(DeviceRanker):
    """Every block over all clicks, but the last, which is read at the last click."""

    def __init__(self, model: BERT4Rec, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, (), sequence_length=sequence_length, storage=storage)
        constant(self, "positions", position_rows(model.position_embedding, sequence_length))  # [L, D]
        unseen = torch.full((sequence_length, sequence_length), OUT).triu(1) if model.causal else None
        self.register_buffer("unseen", unseen)
        blocks = [block for block in model.blocks if isinstance(block, BERTBlock)]
        self.blocks = nn.ModuleList(DeviceBERTBlock(block, storage=storage) for block in blocks)

    positions: Tensor
    unseen: Tensor | None

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]``."""
        clicks, here = clicked(ids), self.one_hot(self.last_click(ids), ids.shape[1])
        x = rows + self.positions
        for index, block in enumerate(self.blocks):
            last = index + 1 == len(self.blocks)
            # The last click sees all clicks, causal or not.
            x = block(x, clicks, here if last else None, None if last else self.unseen)
        return x
