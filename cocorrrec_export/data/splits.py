"""Leave-last-out: each user's last item for testing, the one before for choosing the epoch, the rest for training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.data.interactions import Interactions

HELD_OUT = 2
"""Clicks of each user, the last ones, that are not trained on: one for validation, one for testing."""


@dataclass(frozen=True)
class Examples:
    """One row a target item."""

    users: NDArray[np.int32]  # [M] index of the user
    histories: NDArray[np.int32]  # [M, L] the clicks right before the target, right-padded with 0; never empty
    targets: NDArray[np.int32]  # [M]

    def __len__(self) -> int:
        """Number of targets."""
        return len(self.targets)

    def only(self, chosen: NDArray[np.bool_]) -> "Examples":
        """Those of some rows."""
        return Examples(self.users[chosen], self.histories[chosen], self.targets[chosen])


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
    user = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    position = np.arange(len(user)) - interactions.offsets[user]  # of each interaction among its user's
    left = counts[user] - position  # 1 for the last
    return Split(
        train=_examples(interactions, user, position, (position > 0) & (left > HELD_OUT), sequence_length),
        validation=_examples(interactions, user, position, left == 2, sequence_length),
        test=_examples(interactions, user, position, left == 1, sequence_length),
    )


def _examples(
    interactions: Interactions,
    user: NDArray[np.int32],
    position: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    length: int,
) -> Examples:
    target = np.flatnonzero(chosen)
    clicks = np.minimum(position[target], length)  # [M]
    column = np.arange(length)
    source = target[:, None] - clicks[:, None] + column  # [M, L]
    is_click = column < clicks[:, None]
    histories = np.where(is_click, interactions.items[np.where(is_click, source, 0)], 0)
    return Examples(user[target], histories.astype(np.int32), interactions.items[target])
