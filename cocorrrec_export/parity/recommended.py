"""Lists of ``recommend`` against those of the float32 model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cocorrrec_export.contract import HISTORY
from cocorrrec_export.runtime.base import Arrays


@dataclass(frozen=True)
class Recommended:
    """How the lists of all cases agree, on average."""

    overlap: float
    """Share of a list's items that are in the reference's list."""
    order: float
    """Share of the places that hold the reference's item."""
    wrong: tuple[str, ...]
    """Lists that no rounding excuses: an item twice, or of the history, or padding."""

    def problems(self, *, overlap: float, order: float) -> list[str]:
        """What is below the limits."""
        found = list(self.wrong[:1])
        if len(self.wrong) > 1:
            found.append(f"{len(self.wrong) - 1} more lists of recommend are wrong")
        if self.overlap < overlap:
            found.append(f"recommend: overlap with the reference's items {self.overlap:.4f}, limit {overlap:g}")
        if self.order < order:
            found.append(f"recommend: share of places with the reference's item {self.order:.4f}, limit {order:g}")
        return found


def compare_list(expected: Arrays, actual: Arrays, *, tie: float) -> tuple[float, float]:
    """Overlap and order of one list, as in :class:`Recommended`.

    Items whose reference scores are within ``tie`` of each other have no order, and at the last place any of them
    will do; of an item that the reference does not list, the score that came with it is taken.

    Args:
        expected: ``items [1, K]`` and ``scores [1, K]`` of the float32 model, the best first.
        actual: those of the file.
        tie: difference of scores.
    """
    items, scores = expected["items"][0], expected["scores"][0].astype(np.float64)
    score_of = dict(zip(items.tolist(), scores.tolist(), strict=True))
    listed = actual["items"][0].tolist()
    own = [score_of.get(x, float(s)) for x, s in zip(listed, actual["scores"][0], strict=True)]
    ties_last = [abs(score - scores[-1]) <= tie for score in own]
    known = [x in score_of or last for x, last in zip(listed, ties_last, strict=True)]
    placed = [good and abs(x - want) <= tie for good, x, want in zip(known, own, scores, strict=True)]
    return float(np.mean(known)), float(np.mean(placed))


def wrong_list(name: str, inputs: Arrays, actual: Arrays) -> str | None:
    """What is wrong with a list, whatever the scores; None where nothing is."""
    items = actual["items"][0].tolist()
    if len(set(items)) != len(items):
        return f"{name} lists an item twice"
    forbidden = sorted({0, *inputs[HISTORY][0].tolist()} & set(items))
    if forbidden:
        return f"{name} lists {forbidden[0]}, which is " + ("padding" if forbidden[0] == 0 else "of the history")
    return None


def summarize(agreements: Sequence[tuple[float, float]], wrong: Sequence[str]) -> Recommended | None:
    """All lists together; None where there are none."""
    if not agreements:
        return None
    overlap, order = np.mean(agreements, axis=0)
    return Recommended(float(overlap), float(order), tuple(wrong))
