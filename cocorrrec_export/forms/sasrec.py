"""SASRec as an export graph, equal to the plain model, which tests hold it to; only the last click is read out."""

import torch
from torch import Tensor

from cocorrrec_export.forms.attention import DeviceAttention, clicked, position_rows
from cocorrrec_export.forms.frame import DeviceLayerNorm, DeviceRanker, Storage, constant, pick
from cocorrrec_export.modeling.baselines.sasrec import SASRec


class DeviceSASRec(DeviceRanker):
    """Keys and values of every click, and the last click's query; only the positions that are read are kept."""

    def __init__(self, model: SASRec, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, list(model.item_mlp), sequence_length=sequence_length, storage=storage)
        constant(self, "positions", position_rows(model.position_embedding, sequence_length))  # [L, D]
        self.click_proj = storage.projection(model.click_proj.weight, model.click_proj.bias)
        self.attention = DeviceAttention(model.attention, storage=storage)
        self.attention_norm = DeviceLayerNorm(model.attention_norm)
        self.ffn = storage.layers(list(model.ffn))
        self.ffn_norm = DeviceLayerNorm(model.ffn_norm)
        self.residual = model.residual
        self.user_mlp = storage.layers(list(model.user_mlp))

    positions: Tensor

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]``."""
        x = torch.tanh(self.click_proj(rows + self.positions))
        here = self.one_hot(self.last_click(ids), ids.shape[1])
        last = pick(here, x)
        y = self.attention_norm(last + self.attention(x, last, clicked(ids)))
        user: Tensor = self.user_mlp(self.ffn_norm(y + self.ffn(y)))
        return user + pick(here, rows) if self.residual else user
