"""DIN as an export graph, equal to the plain model, which tests hold it to."""

import math

import torch
from torch import Tensor, nn

from cocorrrec_export.forms.attention import ClickMask, attend, clicked
from cocorrrec_export.forms.frame import DeviceRanker, ItemRows, Storage
from cocorrrec_export.modeling.baselines.din import DIN


class DeviceDIN(DeviceRanker):
    """Keys and values of the clicks once; each candidate then attends to them.

    Matrices without anything between them are one. The query projection goes over to the keys, since q . k is
    v^T (Wq^T Wk) x; the half of the classifier's first layer that reads what was found goes over to the values. So a
    candidate costs no product with either.
    """

    def __init__(self, model: DIN, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, (model.item_proj, nn.Tanh()), sequence_length=sequence_length, storage=storage)
        first, *rest = model.classifier
        assert isinstance(first, nn.Linear)
        for_item, for_interest = first.weight.split(self.hidden, dim=1)
        keys = model.query_proj.weight.T @ model.key_proj.weight / math.sqrt(self.hidden)
        self.click_proj = storage.projection(model.click_proj.weight, model.click_proj.bias)
        self.interest_proj = storage.projection(torch.cat((keys, for_interest @ model.value_proj.weight)))
        self.target_proj = storage.projection(for_item, first.bias)
        self.classifier = storage.layers(rest)

    def read(self, ids: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, ClickMask]:
        """Keys ``[L, D]``, values ``[L, 2 D]``, and where there are clicks."""
        x = self.interest_proj(torch.tanh(self.click_proj(rows)))
        return x[:, : self.hidden], x[:, self.hidden :], clicked(ids)

    def score_rows(self, user: tuple[Tensor, Tensor, ClickMask], rows: ItemRows) -> Tensor:
        """Logits ``[1, C]`` of the candidates' rows ``[C, D]``."""
        key, value, clicks = user
        vectors = self.item_mlp(rows.values)
        interest = attend(vectors.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), clicks)
        count = vectors.shape[0]
        logits: Tensor = self.classifier(self.target_proj(vectors) + interest.view(count, 2 * self.hidden))
        return logits.view(1, count)
