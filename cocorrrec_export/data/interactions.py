"""Interactions as arrays of internal ids, filtered and in chronological order."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cocorrrec_export.data.encoding import encode, number
from cocorrrec_export.data.files.csv import Columns
from cocorrrec_export.data.files.detection import AUTO, read_file
from cocorrrec_export.data.files.streaming import Progress
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.toml import check_types

MIN_USER_INTERACTIONS = 3
"""One to train on, one for validation, one for testing."""


@dataclass(frozen=True)
class Filters:
    """What is kept: the ratings that are high enough, then the items with enough interactions, then the users.

    Each once, in this order.
    """

    min_item_interactions: int = 1
    min_user_interactions: int = MIN_USER_INTERACTIONS
    min_rating: float = 0.0
    """0: ratings are not looked at, and need not be there."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.min_item_interactions < 1:
            raise UsageError(f"min_item_interactions must be at least 1, got {self.min_item_interactions}")
        if self.min_user_interactions < MIN_USER_INTERACTIONS:
            raise UsageError(
                f"min_user_interactions must be at least {MIN_USER_INTERACTIONS} (training, validation and test take "
                f"one each), got {self.min_user_interactions}"
            )
        if not 0 <= self.min_rating < math.inf:
            raise UsageError(f"min_rating must be a number from 0 on, got {self.min_rating}")


@dataclass(frozen=True)
class Interactions:
    """All interactions, by user. The internal id of an item is its place in ``item_ids`` plus 1; 0 is padding."""

    items: NDArray[np.int32]  # [N], grouped by user, oldest first
    offsets: NDArray[np.int64]  # [U + 1], where each user's interactions start
    item_ids: list[str]
    user_ids: list[str]

    @property
    def vocab_size(self) -> int:
        """V: the items and the padding row."""
        return len(self.item_ids) + 1

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.user_ids)

    @property
    def vocabulary_sha256(self) -> str:
        """Digest of the external ids in order: two data sets with the same one number their items alike."""
        return hashlib.sha256("\n".join(self.item_ids).encode()).hexdigest()


def load_interactions(
    path: Path,
    *,
    columns: Columns | None = None,
    filters: Filters | None = None,
    format: str = AUTO,
    progress: Progress | None = None,
) -> Interactions:
    """Read, filter and order the interactions of a file; ``format`` as in :func:`read_file`.

    Raises:
        UsageError: the file does not exist, or lacks a column.
        CocorrrecError: it is damaged, has a bad row, or nothing is left of it.
    """
    filters = filters or Filters()
    frame = read_file(path, format=format, columns=columns, rating=filters.min_rating > 0, progress=progress)
    try:
        return prepare(frame, filters=filters)
    except CocorrrecError as error:
        raise CocorrrecError(f"{path}: {error}") from None


def prepare(frame: pl.DataFrame, *, filters: Filters) -> Interactions:
    """Filter and order interactions; ids are numbered by their sorted external ids, so row order does not matter.

    Args:
        frame: columns ``user``, ``item`` (str or Categorical), ``time`` and, for a least rating, ``rating``; equal
            times keep the order of the rows.
        filters: what is kept.

    Raises:
        CocorrrecError: nothing is left.
    """
    (users, user_names), (items, item_names) = encode(frame["user"]), encode(frame["item"])
    frame = frame.with_columns(users.alias("user"), items.alias("item"))
    steps = [_count(frame, "in the file")]
    if filters.min_rating > 0:
        frame = frame.filter(pl.col("rating") >= filters.min_rating)
        steps.append(_count(frame, f"with ratings of at least {filters.min_rating:g}"))
    frame = frame.filter(pl.len().over("item") >= filters.min_item_interactions)
    steps.append(_count(frame, f"with items of at least {filters.min_item_interactions}"))
    frame = frame.filter(pl.len().over("user") >= filters.min_user_interactions)
    steps.append(_count(frame, f"then with users of at least {filters.min_user_interactions}"))
    if frame.is_empty():
        raise CocorrrecError("nothing is left after the filters: " + "; ".join(steps))
    users, user_ids = number(frame["user"], user_names, start=0)
    items, item_ids = number(frame["item"], item_names, start=1)
    frame = pl.DataFrame({"user": users, "item": items, "time": frame["time"]})
    frame = frame.sort("user", "time", maintain_order=True)
    counts = np.bincount(frame["user"].to_numpy(), minlength=len(user_ids))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return Interactions(frame["item"].to_numpy().astype(np.int32), offsets, item_ids, user_ids)


def _count(frame: pl.DataFrame, what: str) -> str:
    users, items = frame["user"].n_unique(), frame["item"].n_unique()
    return f"{what} {users} users, {items} items, {len(frame)} interactions"
