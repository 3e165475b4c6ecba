"""Windows of consecutive training clicks, of which each predicts the next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.splits import HELD_OUT


@dataclass(frozen=True)
class Windows:
    """One row per window; 0 is padding, on the right."""

    users: NDArray[np.int32]  # [M]
    histories: NDArray[np.int32]  # [M, L]
    targets: NDArray[np.int32]  # [M, L] the click after each of the history's

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.users)


def training_windows(interactions: Interactions, *, length: int, rng: np.random.Generator) -> Windows:
    """Cut every user's training clicks into windows of at most ``length``, the first at a random offset.

    Each training click but a user's first is the target of exactly one place. The offset varies which clicks a target
    has before it, and so how much of the past it is predicted from.

    Args:
        interactions: the last two clicks of each user are not read.
        length: L.
        rng: source of the offsets.
    """
    inputs = np.maximum(np.diff(interactions.offsets) - HELD_OUT - 1, 0)  # [U] clicks with a target after them
    offset = np.where(inputs > length, rng.integers(0, length, size=len(inputs)), 0)  # clicks of the first window
    count = np.where(inputs > 0, (offset > 0) + -(-(inputs - offset) // length), 0)
    user = np.repeat(np.arange(len(inputs)), count)  # [M]
    index = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)  # of the window among its user's
    start = np.maximum((index - (offset[user] > 0)) * length + offset[user], 0)
    stop = np.where((index == 0) & (offset[user] > 0), offset[user], np.minimum(start + length, inputs[user]))
    column = np.arange(length)
    is_click = column < (stop - start)[:, None]  # [M, L]
    source = np.where(is_click, interactions.offsets[user][:, None] + start[:, None] + column, 0)
    histories, targets = (np.where(is_click, interactions.items[source + ahead], 0) for ahead in (0, 1))
    return Windows(user.astype(np.int32), histories.astype(np.int32), targets.astype(np.int32))


def training_counts(interactions: Interactions) -> NDArray[np.int64]:
    """How often each item is clicked in the training part, ``[V]``."""
    place = np.arange(len(interactions.items)) - np.repeat(interactions.offsets[:-1], np.diff(interactions.offsets))
    is_training = place < np.repeat(np.diff(interactions.offsets) - HELD_OUT, np.diff(interactions.offsets))
    return np.bincount(interactions.items[is_training], minlength=interactions.vocab_size)
