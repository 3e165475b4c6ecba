"""Leave-last-out: each user's last click is the test, the one before the validation, the earlier ones training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.data.interactions import MIN_USER_INTERACTIONS, Interactions
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.modeling.config import PADDING_ID


@dataclass(frozen=True)
class Examples:
    """Clicks to predict. No history is empty."""

    users: NDArray[np.int32]  # [M] index of the user
    histories: NDArray[np.int32]  # [M, L] the last L clicks before the target, oldest first, padded on the right
    targets: NDArray[np.int32]  # [M] internal id of the click

    def __len__(self) -> int:
        """M: number of examples."""
        return len(self.targets)


@dataclass(frozen=True)
class Split:
    """The three parts; validation and test have one example a user."""

    train: Examples
    validation: Examples
    test: Examples


def leave_last_out(interactions: Interactions, *, sequence_length: int) -> Split:
    """Split the clicks of each user by their order.

    The last click is the test target, the one before the validation target, and every earlier one, except the very
    first, a training target. A history is what the user clicked right before its target: for the test it ends with the
    validation click.

    Raises:
        UsageError: ``sequence_length`` below 1.
        CocorrrecError: a user with fewer than three clicks.
    """
    if sequence_length < 1:
        raise UsageError(f"sequence_length must be at least 1, got {sequence_length}")
    starts, ends = interactions.offsets[:-1], interactions.offsets[1:]
    few = np.flatnonzero(ends - starts < MIN_USER_INTERACTIONS)
    if few.size:
        raise CocorrrecError(
            f"user '{interactions.user_ids[few[0]]}' has {ends[few[0]] - starts[few[0]]} interactions, "
            f"a split needs {MIN_USER_INTERACTIONS}"
        )
    is_train = np.ones(len(interactions.items), dtype=bool)
    for held_out in (starts, ends - 2, ends - 1):
        is_train[held_out] = False
    return Split(
        train=_examples(interactions, np.flatnonzero(is_train), sequence_length),
        validation=_examples(interactions, ends - 2, sequence_length),
        test=_examples(interactions, ends - 1, sequence_length),
    )


def _examples(interactions: Interactions, positions: NDArray[np.int64], sequence_length: int) -> Examples:
    """The clicks at ``positions``, each with those right before it."""
    items, offsets = interactions.items, interactions.offsets
    users = np.searchsorted(offsets, positions, side="right") - 1
    lengths = np.minimum(positions - offsets[users], sequence_length)
    histories = np.full((len(positions), sequence_length), PADDING_ID, dtype=np.int32)
    for column in range(sequence_length):
        rows = np.flatnonzero(lengths > column)
        histories[rows, column] = items[positions[rows] - lengths[rows] + column]
    return Examples(users=users.astype(np.int32), histories=histories, targets=items[positions])
