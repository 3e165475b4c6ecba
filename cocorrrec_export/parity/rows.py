"""Every row of the item table, through the file: a gate that looks at some of them lets a wrong one pass."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cocorrrec_export.contract import ParityLimits
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.runtime.base import Runtime, score_list

FEW_ITEMS, MANY_USERS, FEW_USERS = 20_000, 8, 2
"""Users that every item is scored for: fewer where there are many items, since it takes V / C calls for each."""
OUTLIER = 10.0
"""A row this many times as far off as the median row is another: rounding alone makes up to 4 in a shipped model."""
ROUNDING = 1e-4
"""Share of the largest value below which a difference is float32's."""


@dataclass(frozen=True)
class RowParity:
    """The worst row by one entry point."""

    entry_point: str
    item: int
    max_abs: float
    """Its largest difference, of a score or of an uploaded feature."""
    limit: float

    def problem(self) -> str | None:
        """What is beyond the limit; None where nothing is."""
        if self.max_abs <= self.limit:  # NaN is not
            return None
        return (
            f"row {self.item} of the item table: {self.entry_point} differs by {self.max_abs:.3g}, "
            f"limit {self.limit:.3g}"
        )


@torch.no_grad()
def row_parity(
    runtime: Runtime, model: Ranker, histories: NDArray[np.int32], limits: ParityLimits, *, probability: bool = False
) -> list[RowParity]:
    """Every item as a candidate, and where the file has ``encode`` as a click.

    Args:
        runtime: the loaded file.
        model: the plain float32 model.
        histories: ``[n, L]``, at least one.
        limits: of the recipe.
        probability: whether the file's scores are sigmoids of the model's.
    """
    items = np.arange(1, model.item_embedding.num_embeddings, dtype=np.int32)
    found = []
    if "rank" in runtime.entry_points:
        users = histories[: MANY_USERS if len(items) <= FEW_ITEMS else FEW_USERS]
        found.append(_as_candidates(runtime, model, users, items, limits, probability=probability))
    if "encode" in runtime.entry_points and isinstance(model, CoCorrRec):
        found.append(_as_clicks(runtime, model, items, limits))
    return found


def _as_candidates(
    runtime: Runtime,
    model: Ranker,
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    limits: ParityLimits,
    *,
    probability: bool,
) -> RowParity:
    scale = 1.0
    worst, vectors = np.zeros(len(items)), model.item_vectors(torch.from_numpy(items).long()[None])
    for ids in users:
        expected = model.match(model.user_state(torch.from_numpy(ids)[None].long(), corrected=False), vectors)[0]
        expected = torch.sigmoid(expected) if probability else expected
        actual = score_list(runtime, "rank", {"ids": ids[None]}, items)
        worst = np.maximum(worst, np.abs(actual - expected.numpy()))
        scale = max(scale, float(expected.abs().max()))
    return _worst("rank", items, worst, limits.max_abs, scale)


def _as_clicks(runtime: Runtime, model: CoCorrRec, items: NDArray[np.int32], limits: ParityLimits) -> RowParity:
    length = int(runtime.entry_points["encode"].inputs[0].shape[1])
    padded = np.full(-(-len(items) // length) * length, items[-1], dtype=np.int32)
    padded[: len(items)] = items
    actual = np.concatenate([runtime.run("encode", {"ids": ids[None]})["H"][0] for ids in padded.reshape(-1, length)])
    expected = model.scn.encode(torch.from_numpy(items).long()[None])[0].numpy()
    worst = np.abs(actual[: len(items)] - expected).max(axis=1)
    scale = float(np.abs(expected).max())
    return _worst("encode", items, worst, limits.max_rel * scale, scale)


def _worst(
    entry_point: str, items: NDArray[np.int32], worst: NDArray[np.float64], limit: float, scale: float
) -> RowParity:
    """The worst row; its limit is the recipe's, or less: that of a row among such rows."""
    limit = min(limit, max(ROUNDING * scale, OUTLIER * float(np.median(worst))))
    place = int(np.argmax(np.where(np.isfinite(worst), worst, np.inf)))
    return RowParity(entry_point, int(items[place]), float(worst[place]), limit)
