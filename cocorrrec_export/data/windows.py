"""Windows of consecutive training clicks, of which each predicts the next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.splits import HELD_OUT, Rows, is_training


@dataclass(frozen=True)
class Windows:
    """One row per window, cut when it is read: what is kept here grows with the users, not with the clicks."""

    interactions: Interactions
    inputs: NDArray[np.int64]  # [U] clicks with a target after them
    offset: NDArray[np.int64]  # [U] clicks of the first window, 0 where it is as long as the others
    starts: NDArray[np.int64]  # [U + 1] windows before each user's
    length: int
    """L, clicks of a window at the most."""

    def __len__(self) -> int:
        """Number of windows."""
        return int(self.starts[-1])

    def cut(self, rows: NDArray[np.integer], *, ahead: int = 1, rng: np.random.Generator | None = None) -> Rows:
        """The windows ``[M]``, which may repeat; ``targets [M, L]``.

        Args:
            rows: which windows.
            ahead: a click's target is one of so many training clicks after it, or of as many as there are: of n, the
                one at distance k with a chance of log(1 + 1 / k) / log(n + 1), so that near ones are likelier.
            rng: draws which one; not read where ``ahead`` is 1.
        """
        user = np.searchsorted(self.starts, rows, side="right") - 1
        index, offset, inputs = rows - self.starts[user], self.offset[user], self.inputs[user]
        start = np.maximum((index - (offset > 0)) * self.length + offset, 0)
        stop = np.where((index == 0) & (offset > 0), offset, np.minimum(start + self.length, inputs))
        column = np.arange(self.length)
        is_click = column < (stop - start)[:, None]  # [M, L]
        source = np.where(is_click, (self.interactions.offsets[user] + start)[:, None] + column, 0)
        further = np.ones(source.shape, np.int64)
        if ahead > 1:
            assert rng is not None
            room = (self.interactions.offsets[user] + inputs)[:, None] - source  # training clicks after each
            reach = np.where(is_click, np.minimum(room, ahead), 1)
            further = np.minimum((reach + 1.0) ** rng.random(source.shape), reach).astype(np.int64)
        items = self.interactions.items
        histories, targets = (np.where(is_click, items[at], 0) for at in (source, source + further))
        return Rows(user.astype(np.int32), histories.astype(np.int32), targets.astype(np.int32))

    def all(self) -> Rows:
        """Every window."""
        return self.cut(np.arange(len(self)))


def training_windows(
    interactions: Interactions, *, length: int, rng: np.random.Generator, held_out: int = HELD_OUT
) -> Windows:
    """Cut every user's training clicks into windows of at most ``length``, the first at a random offset.

    Each training click but a user's first is the target of exactly one place. The offset varies which clicks a target
    has before it, and so how much of the past it is predicted from.

    Args:
        interactions: the last clicks of each user are not read.
        length: L.
        rng: source of the offsets.
        held_out: how many.
    """
    inputs = np.maximum(np.diff(interactions.offsets) - held_out - 1, 0)
    offset = np.where(inputs > length, rng.integers(0, length, size=len(inputs)), 0)
    count = np.where(inputs > 0, (offset > 0) + -(-(inputs - offset) // length), 0)
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(count)))
    return Windows(interactions, inputs, offset, starts, length)


def training_counts(interactions: Interactions, held_out: int = HELD_OUT) -> NDArray[np.int64]:
    """How often each item is clicked in the training part, all but the last clicks of each user, ``[V]``."""
    found = np.zeros(interactions.vocab_size, dtype=np.int64)
    for block in interactions.blocks():
        found += np.bincount(interactions.items[block.clicks][is_training(block, held_out)], minlength=len(found))
    return found
