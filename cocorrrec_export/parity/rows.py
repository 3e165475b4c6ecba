"""Every row of the item table, through the file: a gate that looks at some of them lets a wrong one pass."""

from collections.abc import Callable
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
NAMING_USERS = 3
"""Users of one item each that tell wrong rows from wrong users: of a wrong row's item, one of them at most is wrong."""

Values = Callable[[NDArray[np.int32]], NDArray[np.float32]]
"""Of a history ``[L]`` the score of every item ``[V - 1]``."""


@dataclass(frozen=True)
class RowParity:
    """The worst row by one entry point."""

    entry_point: str
    item: int
    max_abs: float
    """Its largest difference, of a score or of an uploaded feature."""
    limit: float
    against: str = "the float32 model"

    def problem(self) -> str | None:
        """What is beyond the limit; None where nothing is."""
        if self.max_abs <= self.limit:  # NaN is not
            return None
        return (
            f"row {self.item} of the item table: {self.entry_point} differs from {self.against} by {self.max_abs:.3g}, "
            f"limit {self.limit:.3g}"
        )


@torch.no_grad()
def row_parity(
    runtime: Runtime,
    model: Ranker,
    histories: NDArray[np.int32],
    limits: ParityLimits,
    *,
    graph: Runtime | None = None,
    probability: bool = False,
) -> list[RowParity]:
    """Every item as a candidate, and where the file has ``encode`` as a click.

    Args:
        runtime: the loaded file.
        model: the plain float32 model.
        histories: ``[n, L]``, at least one.
        limits: of the recipe.
        graph: what the file was converted from, with weights as it stores them: a row that is not the graph's shows
            however coarse they are. None compares with the model alone.
        probability: whether the file's scores are sigmoids of the model's.
    """
    items = _items(model)
    found = []
    if "rank" in runtime.entry_points:
        users = histories[: MANY_USERS if len(items) <= FEW_ITEMS else FEW_USERS]
        actual = _of_users(_file_scores(runtime, items), users)
        expected = _of_users(_model_scores(model, items, probability=probability), users)
        found.append(_worst("rank", items, actual, expected, limits.max_abs))
        if graph is not None:
            stored = _of_users(_file_scores(graph, items), users)
            found.append(_worst("rank", items, actual, stored, np.inf, against="the export graph"))
    if "encode" in runtime.entry_points and isinstance(model, CoCorrRec):
        clicks, features = _features(runtime, items), _model_features(model, items)
        found.append(_worst("encode", items, clicks, features, limits.max_rel * float(np.abs(features).max())))
    return found


@torch.no_grad()
def wrong_rows(
    runtime: Runtime, model: Ranker, *, length: int, graph: Runtime | None = None, probability: bool = False
) -> list[int]:
    """Rows of the item table that are others, the worst first: for the message of a file that failed.

    A wrong row makes the user wrong too whose history it is in, and with the user every score. So rows are told by
    users of one item each, and by the uploaded features, which are of one click alone.

    Args:
        runtime: the loaded file.
        model: the plain float32 model.
        length: L.
        graph: as in :func:`row_parity`.
        probability: whether the file's scores are sigmoids of the model's.
    """
    items = _items(model)
    wrong = np.zeros(len(items))
    if "rank" in runtime.entry_points:
        users = np.repeat(items[:NAMING_USERS, None], length, axis=1)
        reference = (
            _model_scores(model, items, probability=probability) if graph is None else _file_scores(graph, items)
        )
        actual, expected = _of_users(_file_scores(runtime, items), users), _of_users(reference, users)
        middle = np.median(np.abs(actual - expected), axis=0)
        wrong = middle / _outlier(middle, expected)
    if "encode" in runtime.entry_points and isinstance(model, CoCorrRec):
        features = _model_features(model, items)
        worst = np.abs(_features(runtime, items) - features).max(axis=0)
        wrong = np.maximum(wrong, worst / _outlier(worst, features))
    order = np.argsort(-np.where(np.isfinite(wrong), wrong, np.inf), kind="stable")
    return [int(items[place]) for place in order if not wrong[place] <= 1.0]


def _items(model: Ranker) -> NDArray[np.int32]:
    return np.arange(1, model.item_embedding.num_embeddings, dtype=np.int32)


def _of_users(scores: Values, users: NDArray[np.int32]) -> NDArray[np.float64]:
    return np.stack([scores(ids).astype(np.float64) for ids in users])  # [n, V - 1]


def _file_scores(runtime: Runtime, items: NDArray[np.int32]) -> Values:
    return lambda ids: score_list(runtime, "rank", {"ids": ids[None]}, items)


def _model_scores(model: Ranker, items: NDArray[np.int32], *, probability: bool) -> Values:
    vectors = model.item_vectors(torch.from_numpy(items).long()[None])

    def scores(ids: NDArray[np.int32]) -> NDArray[np.float32]:
        logits = model.match(model.user_state(torch.from_numpy(ids)[None].long(), corrected=False), vectors)[0]
        values: NDArray[np.float32] = (torch.sigmoid(logits) if probability else logits).numpy()
        return values

    return scores


def _features(runtime: Runtime, items: NDArray[np.int32]) -> NDArray[np.float64]:
    """What the file uploads of each click, ``[D, V - 1]``."""
    length = int(runtime.entry_points["encode"].inputs[0].shape[1])
    padded = np.full(-(-len(items) // length) * length, items[-1], dtype=np.int32)
    padded[: len(items)] = items
    rows = np.concatenate([runtime.run("encode", {"ids": ids[None]})["H"][0] for ids in padded.reshape(-1, length)])
    return rows[: len(items)].astype(np.float64).T


def _model_features(model: CoCorrRec, items: NDArray[np.int32]) -> NDArray[np.float64]:
    return model.scn.encode(torch.from_numpy(items).long()[None])[0].numpy().astype(np.float64).T


def _worst(
    entry_point: str,
    items: NDArray[np.int32],
    actual: NDArray[np.float64],
    expected: NDArray[np.float64],
    limit: float,
    against: str = RowParity.against,
) -> RowParity:
    """The worst row of values ``[n, V - 1]``; its limit is ``limit``, or less: that of a row among such rows."""
    worst = np.abs(actual - expected).max(axis=0)
    place = int(np.argmax(np.where(np.isfinite(worst), worst, np.inf)))
    limit = min(limit, _outlier(worst, expected))
    return RowParity(entry_point, int(items[place]), float(worst[place]), limit, against)


def _outlier(differences: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """What a row that is stored as the others are stays below."""
    scale = max(1.0, float(np.abs(expected).max()))
    return max(ROUNDING * scale, OUTLIER * float(np.median(differences)))
