"""Leave-last-out: each user's last item for testing, the one before for choosing the epoch, the rest for training."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.data.interactions import Block, Interactions

HELD_OUT = 2
"""Clicks of each user, the last ones, that are not trained on: one for validation, one for testing."""
_BLOCK = 65_536
"""Rows that are cut at once where all are asked for."""


class Rows(NamedTuple):
    """Some rows of a data set; 0 is padding, on the right."""

    users: NDArray[np.int32]  # [M] index of the user
    histories: NDArray[np.int32]  # [M, L]; never empty
    targets: NDArray[np.int32]  # [M], or [M, L] the click after each of the history's


@dataclass(frozen=True)
class Examples:
    """One row a target item, the clicks right before it as its history.

    A row is cut from the interactions when it is read: what is kept here grows with the users, not with the clicks.
    """

    interactions: Interactions
    who: NDArray[np.int32]  # [U] users
    first: NDArray[np.int64]  # [U] place of each one's first target among all clicks
    starts: NDArray[np.int64]  # [U + 1] rows before each one's
    length: int
    """L, clicks in a history."""

    def __len__(self) -> int:
        """Number of targets."""
        return int(self.starts[-1])

    def cut(self, rows: NDArray[np.integer]) -> Rows:
        """The rows ``[M]``, which may repeat."""
        at = np.searchsorted(self.starts, rows, side="right") - 1
        user, target = self.who[at], self.first[at] + rows - self.starts[at]
        items = self.interactions.items
        clicks = np.minimum(target - self.interactions.offsets[user], self.length)  # [M]
        column = np.arange(self.length)
        is_click = column < clicks[:, None]  # [M, L]
        source = (target - clicks)[:, None] + column
        histories = np.where(is_click, items[np.where(is_click, source, 0)], 0)
        return Rows(user, histories.astype(np.int32), items[target])

    def all(self) -> Rows:
        """Every row."""
        count = len(self)
        found = Rows(np.empty(count, np.int32), np.empty((count, self.length), np.int32), np.empty(count, np.int32))
        for start in range(0, count, _BLOCK):
            part = slice(start, min(start + _BLOCK, count))
            for whole, values in zip(found, self.cut(np.arange(part.start, part.stop)), strict=True):
                whole[part] = values
        return found

    def only(self, kept: NDArray[np.bool_]) -> "Examples":
        """Those of some of the users ``who``."""
        counts = np.diff(self.starts)[kept]
        return Examples(self.interactions, self.who[kept], self.first[kept], _starts(counts), self.length)


@dataclass(frozen=True)
class Split:
    """The three parts; every user has one row in validation and one in test."""

    train: Examples
    validation: Examples
    test: Examples


def leave_last_out(interactions: Interactions, *, sequence_length: int) -> Split:
    """Split the interactions.

    Args:
        interactions: at least three a user.
        sequence_length: L, clicks in a history.

    Raises:
        ValueError: a user with fewer than three.
    """
    counts = np.diff(interactions.offsets)
    if (counts < 3).any():
        raise ValueError(f"every user needs 3 interactions, user {int(counts.argmin())} has {int(counts.min())}")
    who, stop = np.arange(len(counts), dtype=np.int32), interactions.offsets[1:]
    one = np.arange(len(counts) + 1)
    return Split(
        train=training_examples(interactions, sequence_length=sequence_length),
        validation=Examples(interactions, who, stop - 2, one, sequence_length),
        test=Examples(interactions, who, stop - 1, one, sequence_length),
    )


def training_examples(interactions: Interactions, *, sequence_length: int, held_out: int = HELD_OUT) -> Examples:
    """Every click as a target but each user's first, which has none before it, and the last ``held_out``."""
    counts = np.diff(interactions.offsets)
    who = np.arange(len(counts), dtype=np.int32)
    return Examples(interactions, who, interactions.offsets[:-1] + 1, _starts(counts - held_out - 1), sequence_length)


def is_training(block: Block, held_out: int = HELD_OUT) -> NDArray[np.bool_]:
    """Which clicks of a block ``[n]`` are not among the last ``held_out`` of their user."""
    last = np.cumsum(np.bincount(block.user)) - 1
    mask = np.ones(len(block.user), dtype=bool)
    for back in range(held_out):
        mask[last - back] = False
    return mask


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
