"""The best items of a whole catalog, for one user, as an export graph.

The catalog is scored in blocks, so that no copy of a quantized table in float32 exists: a block's rows are looked up,
scored and forgotten. Letters as in :mod:`cocorrrec_export.forms.frame`; V rows of the table, K items to recommend.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cocorrrec_export.forms.frame import OUT, DeviceRanker, constant, leading, leading_columns
from cocorrrec_export.forms.weights import CodedTable

BLOCK, MOST_BLOCKS = 4096, 64
"""Items of a block, and how many blocks there are at most: those of a larger catalog are larger."""
LEAST = -3e38
"""Below every logit."""


class Catalog(nn.Module):
    """The K best of all items but those of the history.

    Args:
        device: the export graph that scores.
        count: K.
    """

    def __init__(self, device: DeviceRanker, *, count: int) -> None:
        super().__init__()
        self.count, self.items = count, device.items
        size = math.ceil(self.items / min(MOST_BLOCKS, math.ceil(self.items / BLOCK)))
        constant(self, "block", torch.arange(1, size + 1, dtype=torch.int32))

    block: Tensor

    def logits(self, device: DeviceRanker, ids: Tensor, user: Tensor) -> Tensor:
        """Logits ``[1, V - 1]`` of the items 1 .. V - 1."""
        # Always 0, but known no earlier than the history: else converters look the table up, and store it again.
        start = (ids[:, :1] == -1).to(torch.int32).view(1)
        size = self.block.shape[0]
        score = self._scorer(device, device.counterpart(user))
        scored: list[Tensor] = []
        for first in range(0, self.items, size):
            if scored:
                # Nor earlier than the block before: else backends look all blocks up first, and so hold them all.
                start = (scored[-1][:, :1] < LEAST).to(torch.int32).view(1)
            scored.append(score(leading(self.block, min(size, self.items - first)) + (start + first)))
        return torch.cat(scored, dim=1)

    def _scorer(self, device: DeviceRanker, counterpart: Tensor) -> Callable[[Tensor], Tensor]:
        """What makes logits ``[1, n]`` of items ``[n]``."""
        source = device.source
        if not (isinstance(source, CodedTable) and device.sums_codes):
            return lambda items: device.score_with(counterpart, device.candidate_rows(items.unsqueeze(0)))
        features = source.rotation.shape[0]
        products = source.products(leading_columns(counterpart, features))
        if counterpart.shape[1] == features:
            return lambda items: source.sums(products, items)
        return lambda items: source.sums(products, items) + counterpart[:, features:]

    def forward(self, device: DeviceRanker, ids: Tensor, user: Tensor) -> tuple[Tensor, Tensor]:
        """``ids [1, L]`` and their user to items ``[1, K]`` int32 and logits ``[1, K]``, the best first."""
        length = ids.shape[1]
        count = self.count + length  # of these, at most L are of the history
        logits, places = torch.topk(self.logits(device, ids, user), count)
        items = places.to(torch.int32).view(count) + 1
        clicked = (items.view(count, 1) == ids.view(1, length)).to(torch.float32).sum(dim=1).clamp(min=0, max=1)
        best, chosen = torch.topk(logits + clicked.unsqueeze(0) * OUT, self.count)
        return items.index_select(0, chosen.view(self.count)).unsqueeze(0), best
