"""From a table of clicks to arrays of internal ids."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cocorrrec_export.data.readers import Columns, read_interactions
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.tables import check_types

MIN_USER_INTERACTIONS = 3
"""A user needs one click to train from, one to validate and one to test."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which interactions are kept: first the items, then, among what is left, the users; once each.

    Raises:
        UsageError: fewer than one interaction an item or :data:`MIN_USER_INTERACTIONS` a user.
    """

    min_item_interactions: int = 1
    min_user_interactions: int = MIN_USER_INTERACTIONS

    def __post_init__(self) -> None:
        check_types(self)
        for name, low in (("min_item_interactions", 1), ("min_user_interactions", MIN_USER_INTERACTIONS)):
            if getattr(self, name) < low:
                raise UsageError(f"{name} must be at least {low}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Interactions:
    """All clicks, user by user."""

    items: NDArray[np.int32]
    """``[N]`` internal ids 1 .. V - 1, grouped by user, oldest first; of equal times in the order of the file."""
    offsets: NDArray[np.int64]
    """``[U + 1]``: the clicks of user ``u`` are ``items[offsets[u]:offsets[u + 1]]``, at least three."""
    item_ids: list[str]
    """``[V - 1]`` external id of internal id ``i + 1``: by number if all are whole numbers, else by code point."""
    user_ids: list[str]
    """``[U]`` in the same order."""

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.user_ids)

    @property
    def vocab_size(self) -> int:
        """V: the padding id 0 included."""
        return len(self.item_ids) + 1

    @property
    def vocabulary_sha256(self) -> str:
        """Digest of the external item ids in internal order: equal for data that means the same by each id."""
        return hashlib.sha256("\n".join(self.item_ids).encode()).hexdigest()


def load_interactions(
    path: Path,
    *,
    columns: Columns | None = None,
    filters: Filters | None = None,
    vocabulary: Sequence[str] | None = None,
) -> Interactions:
    """:func:`read_interactions`, then :func:`prepare`; each error begins with ``path``."""
    frame = read_interactions(path, columns=columns)
    try:
        return prepare(frame, filters=filters or Filters(), vocabulary=vocabulary)
    except CocorrrecError as error:
        raise type(error)(f"{path}: {error}") from None


def prepare(frame: pl.DataFrame, *, filters: Filters, vocabulary: Sequence[str] | None = None) -> Interactions:
    """Filter, order and number interactions.

    Args:
        frame: columns ``user``, ``item`` (str) and ``time`` (a number), as from a reader.
        filters: what is kept.
        vocabulary: external item ids of an existing model, in its order; default: the items that are kept.

    Raises:
        CocorrrecError: nothing is left, an item outside of ``vocabulary``, or an id in it twice.
    """
    items_kept = frame.filter(pl.len().over("item") >= filters.min_item_interactions)
    kept = items_kept.filter(pl.len().over("user") >= filters.min_user_interactions)
    if not kept.height:
        raise CocorrrecError(
            f"no interaction is left: {_count(frame)} in the file; {_count(items_kept)} after items with fewer than "
            f"{filters.min_item_interactions} interactions; none after users with fewer than "
            f"{filters.min_user_interactions}"
        )
    if vocabulary is None:
        item_ids = _ordered(kept["item"])
    else:
        item_ids = list(vocabulary)
        _check_vocabulary(kept["item"], item_ids)
    user_ids = _ordered(kept["user"])
    numbered = kept.select(
        _number("user", user_ids),
        _number("item", item_ids) + 1,
        "time",
    ).sort("user", "time", maintain_order=True)
    counts = np.bincount(numbered["user"].to_numpy(), minlength=len(user_ids))
    return Interactions(
        items=numbered["item"].to_numpy(writable=True),
        offsets=np.concatenate([[0], counts.cumsum()]).astype(np.int64),
        item_ids=item_ids,
        user_ids=user_ids,
    )


def _count(frame: pl.DataFrame) -> str:
    return f"{frame.height} of {frame['user'].n_unique()} users with {frame['item'].n_unique()} items"


def _number(column: str, ids: list[str]) -> pl.Expr:
    """Position of each value in ``ids``."""
    return pl.col(column).cast(pl.Enum(ids)).to_physical().cast(pl.Int32)


def _ordered(ids: pl.Series) -> list[str]:
    """The distinct ids: by number if all are whole numbers, else by code point; never by their order in the file."""
    text = ids.unique()
    if not text.str.contains("^[0-9]+$").all():
        return text.sort().to_list()
    # Numbers of any size: without leading zeros the longer is the larger. "07" comes before "7".
    digits = text.str.strip_chars_start("0")
    table = pl.DataFrame({"length": digits.str.len_bytes(), "digits": digits, "text": text})
    return table.sort("length", "digits", "text")["text"].to_list()


def _check_vocabulary(items: pl.Series, vocabulary: list[str]) -> None:
    known = pl.Series(vocabulary, dtype=pl.String)
    if known.n_unique() < len(known):
        twice = known.filter(known.is_duplicated())[0]
        raise CocorrrecError(f"the model's vocabulary has item '{twice}' more than once")
    unknown = items.filter(~items.is_in(known.implode()))
    if unknown.len():
        raise CocorrrecError(
            f"{unknown.n_unique()} of {items.n_unique()} items are not among the {len(known)} that the model knows; "
            f"the first one is '{unknown[0]}'"
        )
