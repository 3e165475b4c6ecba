"""Counts of operations as numbers over the sequence length; :mod:`cocorrrec_export.modeling.flops` takes them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LENGTHS = (10, 15, 20, 25)
FIXED_MINI_BATCH = 10
FIXED_LENGTHS = (10, 15, 20, 25, 50, 100, 200)
"""Where the mini-batch stays, longer histories are worth a look: their cost grows by whole mini-batches."""
PAPER_BATCH = 1024


@dataclass(frozen=True)
class Flops:
    """FLOPs per token in both conventions."""

    paper: int
    all: int

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.paper + other.paper, self.all + other.all)

    def __sub__(self, other: "Flops") -> "Flops":
        return Flops(self.paper - other.paper, self.all - other.all)


def slope_per_token(count: Callable[[int], int]) -> int:
    """Least-squares slope of ``count(length)`` over :data:`LENGTHS`."""
    counts = np.array([count(length) for length in LENGTHS], dtype=np.float64)
    return round(float(np.polyfit(LENGTHS, counts, 1)[0]))


@dataclass(frozen=True)
class FlopCurve:
    """Operations of one call for one user, over the sequence length."""

    name: str
    """``scn``, ``scn+gcn``, ``forward`` of a baseline (every position read out, as in the paper), or an entry point."""
    mini_batch: int | None
    """The inner mini-batch; None: as long as the sequence, or the architecture has none."""
    lengths: tuple[int, ...]
    counts: tuple[Flops, ...]
    """``paper`` is over a batch of 1,024, as everywhere."""

    @property
    def per_token(self) -> Flops:
        """Least-squares slopes over :data:`LENGTHS`."""
        return Flops(
            paper=slope_per_token(lambda length: self.at(length).paper),
            all=slope_per_token(lambda length: self.at(length).all),
        )

    def at(self, length: int) -> Flops:
        """The count at one of the lengths."""
        return self.counts[self.lengths.index(length)]
