"""Interactions as arrays of internal ids, filtered and in chronological order."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cocorrrec_export.data import large
from cocorrrec_export.data.encoding import encode, number, numbering
from cocorrrec_export.data.files.columns import Columns, parse_keep
from cocorrrec_export.data.files.detection import AUTO, read_file
from cocorrrec_export.data.files.reading import Reading
from cocorrrec_export.data.files.streaming import OnBytes
from cocorrrec_export.data.large import Clicks, by_users
from cocorrrec_export.data.mapping import release
from cocorrrec_export.errors import CocorrrecError, UsageError, listed
from cocorrrec_export.toml import check_types

MIN_USER_INTERACTIONS = 3
"""One to train on, one for validation, one for testing."""
_BLOCK = 1 << 22
"""Clicks that are looked at in one go."""


@dataclass(frozen=True)
class Filters:
    """What is kept, in this order, each once.

    Events, ratings that are high enough, no repeats, users and items that are not too large, items with enough
    interactions, users with enough; then both to the fixed point (``k_core``), and the last clicks of each user.
    """

    min_item_interactions: int = 1
    min_user_interactions: int = MIN_USER_INTERACTIONS
    min_rating: float = 0.0
    """0: ratings are not looked at, and need not be there."""
    keep: str = ""
    """Events, as ``event=view,addtocart``."""
    drop_repeats: Literal["none", "consecutive", "all"] = "none"
    """Clicks on the item that the user clicked right before, or on any that the user had before."""
    max_item_interactions: int = 0
    """0: no limit."""
    max_user_interactions: int = 0
    """0: no limit."""
    k_core: int = 0
    """Interactions that every user and every item has when no more is dropped; 0: not asked for."""
    last: int = 0
    """Clicks that are kept of each user, the last ones; 0: all."""

    def __post_init__(self) -> None:
        check_types(self)
        parse_keep(self.keep)
        for name in ("max_item_interactions", "max_user_interactions", "k_core", "last"):
            low = MIN_USER_INTERACTIONS if name in ("max_user_interactions", "last") else 1
            value = getattr(self, name)
            if value and not low <= value < 1 << 31:
                raise UsageError(f"{name} must be at least {low} and below 2^31, or 0 for none, got {value}")
        if self.min_item_interactions < 1:
            raise UsageError(f"min_item_interactions must be at least 1, got {self.min_item_interactions}")
        if self.min_user_interactions < MIN_USER_INTERACTIONS:
            raise UsageError(
                f"min_user_interactions must be at least {MIN_USER_INTERACTIONS} (training, validation and test take "
                f"one each), got {self.min_user_interactions}"
            )
        if not 0 <= self.min_rating < math.inf:
            raise UsageError(f"min_rating must be a number from 0 on, got {self.min_rating}")


def vocabulary_digest(item_ids: Sequence[str]) -> str:
    """Digest of external ids in the order of the internal ones."""
    return hashlib.sha256("\n".join(item_ids).encode()).hexdigest()


class Block(NamedTuple):
    """Some users that follow one another."""

    users: slice
    clicks: slice
    """Theirs."""
    user: NDArray[np.int64]  # [n] of each click, counted from the first of them


@dataclass(frozen=True)
class Interactions:
    """All interactions, by user. The internal id of an item is its place in ``item_ids`` plus 1; 0 is padding."""

    items: NDArray[np.int32]  # [N], grouped by user, oldest first
    offsets: NDArray[np.int64]  # [U + 1], where each user's interactions start
    item_ids: list[str]
    user_ids: list[str]
    times: NDArray[np.int64] | None = None
    """[N] nanoseconds since 1970, or, where they are not dates, places in an order; None: the order of the file."""
    rows: NDArray[np.int32] | None = None  # [N] of the file, counted from 1 after its header
    dated: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was found, guessed and counted when the file was read."""

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
        return vocabulary_digest(self.item_ids)

    @property
    def sha256(self) -> str:
        """Digest of all clicks, by user, item and time: the same for every format of one data set.

        Users count by their order alone, since a prepared data set may not have their ids.
        """
        digest = hashlib.sha256(self.vocabulary_sha256.encode())
        for values in (self.offsets, self.items, *(() if self.times is None else (self.times,))):
            digest.update(np.ascontiguousarray(values).data)
            release(values)
        return digest.hexdigest()

    def blocks(self) -> Iterator[Block]:
        """All users, in parts of a few million clicks: what is computed of each click need not fit in memory."""
        first = 0
        while first < self.num_users:
            last = int(np.searchsorted(self.offsets, self.offsets[first] + _BLOCK, side="right")) - 1
            last = max(first + 1, last)
            counts = np.diff(self.offsets[first : last + 1])
            clicks = slice(int(self.offsets[first]), int(self.offsets[last]))
            yield Block(slice(first, last), clicks, np.repeat(np.arange(last - first), counts))
            first = last

    def in_order_of(self, item_ids: Sequence[str]) -> "Interactions":
        """The same with items numbered by their places in ``item_ids``, those of a model that was trained elsewhere.

        Clicks on items that are not among them are left out, and then users with too few clicks.

        Raises:
            CocorrrecError: nothing is left.
        """
        places = {item: place for place, item in enumerate(item_ids, start=1)}
        numbers = np.array([0, *(places.get(item, 0) for item in self.item_ids)], dtype=np.int32)[self.items]
        known = numbers > 0
        user = np.repeat(np.arange(self.num_users), np.diff(self.offsets))
        counts = np.bincount(user[known], minlength=self.num_users)
        kept = counts >= MIN_USER_INTERACTIONS
        if not kept.any():
            raise CocorrrecError(
                f"no user has {MIN_USER_INTERACTIONS} clicks on items that the model knows: its first are "
                f"{listed(item_ids, count=3)}, the data's {listed(self.item_ids, count=3)}"
            )
        rows = known & kept[user]
        return replace(
            self,
            items=numbers[rows],
            offsets=np.concatenate(([0], np.cumsum(counts[kept]))).astype(np.int64),
            item_ids=list(item_ids),
            user_ids=[self.user_ids[index] for index in np.flatnonzero(kept)],
            times=None if self.times is None else self.times[rows],
            rows=None if self.rows is None else self.rows[rows],
        )


def load_interactions(
    path: Path,
    *,
    columns: Columns | None = None,
    reading: Reading | None = None,
    filters: Filters | None = None,
    format: str = AUTO,
    progress: OnBytes | None = None,
) -> Interactions:
    """Read, filter and order the interactions of a file; ``format`` as in :func:`read_file`.

    Raises:
        UsageError: the file does not exist, lacks a column, or it is not clear what orders the clicks.
        CocorrrecError: it is damaged, has a bad row, or nothing is left of it.
    """
    filters, reading, notes = filters or Filters(), reading or Reading(), list[str]()
    frame = read_file(
        path,
        format=format,
        columns=columns,
        reading=reading,
        rating=filters.min_rating > 0,
        keep=filters.keep,
        progress=progress,
        notes=notes,
    )
    try:
        return prepare(frame, filters=filters, ties=reading.ties, notes=notes)
    except CocorrrecError as error:
        raise CocorrrecError(f"{path}: {error}") from None


def prepare(
    frame: pl.DataFrame, *, filters: Filters, ties: str = "shuffle", notes: list[str] | None = None
) -> Interactions:
    """Filter and order interactions; ids are numbered by their sorted external ids, so row order does not matter.

    Args:
        frame: columns ``user``, ``item`` (str or Categorical), ``time``, ``row`` if it is known and, for a least
            rating, ``rating``.
        filters: what is kept.
        ties: order of one user's clicks at one time: ``shuffle``, the same for the same file, or ``file``.
        notes: what was said of the file already; what the filters did is added.

    Raises:
        CocorrrecError: nothing is left.
    """
    notes = [] if notes is None else notes
    (users, user_names), (items, item_names) = encode(frame["user"]), encode(frame["item"])
    frame = frame.with_columns(users.alias("user"), items.alias("item"))
    if "row" not in frame.columns:
        frame = frame.with_columns(row=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32))
    if len(frame) >= large.FROM:
        return _prepare_large(frame, (user_names, item_names), filters, ties, notes)
    steps = [_count(frame, "in the file")]
    if filters.min_rating > 0:
        frame = frame.filter(pl.col("rating") >= filters.min_rating)
        steps.append(_count(frame, f"with ratings of at least {filters.min_rating:g}"))
    ordered = _order(frame, ties)
    frame = _drop_repeats(ordered, filters.drop_repeats)
    notes.extend(_said_of_repeats(len(ordered) - len(frame), len(ordered), filters.drop_repeats))
    frame = _filter_counts(frame, filters, steps)
    if frame.is_empty():
        raise CocorrrecError("nothing is left after the filters: " + "; ".join(steps))
    return _finish(frame, user_names, item_names, notes)


def _order(frame: pl.DataFrame, ties: str) -> pl.DataFrame:
    """By user and time; what ties is shuffled, but for repeats of one item, which stay together."""
    frame = frame.sort("user", "time", maintain_order=True)
    same = (frame["user"] == frame["user"].shift()) & (frame["time"] == frame["time"].shift())
    if ties == "file" or frame["time"].dtype == pl.UInt32 or not same.any():
        return frame
    # The order of the rows may be that of the items, and would tell the target.
    key = pl.Series("key", np.random.default_rng(0).permutation(len(frame)).astype(np.int32))
    frame = frame.with_columns(key).with_columns(pl.col("key").first().over("user", "time", "item"))
    return frame.sort("user", "time", "key", maintain_order=True).drop("key")


def _drop_repeats(frame: pl.DataFrame, which: str) -> pl.DataFrame:
    if which == "none":
        return frame
    if which == "all":
        return frame.filter(pl.struct("user", "item").is_first_distinct())
    repeats = (frame["user"] == frame["user"].shift()) & (frame["item"] == frame["item"].shift())
    return frame.filter(~repeats.fill_null(value=False))


def _said_of_repeats(dropped: int, count: int, which: str) -> list[str]:
    if which == "none":
        return []
    what = "of an item that the user had before" if which == "all" else "of the item that the user had right before"
    return [f"dropped {dropped} of {count} clicks, repeats {what}"]


def _filter_counts(frame: pl.DataFrame, filters: Filters, steps: list[str]) -> pl.DataFrame:
    for what, most in (("user", filters.max_user_interactions), ("item", filters.max_item_interactions)):
        if most:
            frame = frame.filter(pl.len().over(what) <= most)
            steps.append(_count(frame, f"with {what}s of at most {most}"))
    frame = frame.filter(pl.len().over("item") >= filters.min_item_interactions)
    steps.append(_count(frame, f"with items of at least {filters.min_item_interactions}"))
    frame = frame.filter(pl.len().over("user") >= filters.min_user_interactions)
    steps.append(_count(frame, f"then with users of at least {filters.min_user_interactions}"))
    if filters.k_core:
        frame = _k_core(frame, filters.k_core, max(filters.k_core, filters.min_user_interactions))
        steps.append(_count(frame, f"in the {filters.k_core}-core"))
    if filters.last:
        frame = frame.filter(pl.int_range(pl.len()).over("user") >= pl.len().over("user") - filters.last)
    return frame


def _k_core(frame: pl.DataFrame, item_least: int, user_least: int) -> pl.DataFrame:
    """Items and users with too few interactions are dropped in turn, until none is."""
    while True:
        before = len(frame)
        frame = frame.filter(pl.len().over("item") >= item_least).filter(pl.len().over("user") >= user_least)
        if len(frame) == before:
            return frame


def _prepare_large(
    frame: pl.DataFrame, names: tuple[pl.Series, pl.Series], filters: Filters, ties: str, notes: list[str]
) -> Interactions:
    """What :func:`prepare` does with a table of codes, whose ids are the ``names`` of users and items."""
    users = numbering(frame["user"].unique(), names[0], start=0)
    dated, by_row = frame["time"].dtype == pl.Datetime("ns"), frame["time"].dtype == pl.UInt32
    if frame["time"].dtype == pl.Float64:
        frame = frame.with_columns(time=pl.col("time").rank("dense"))  # what a float orders, a whole number does
    clicks, rated, steps = Clicks(len(frame), len(users.ids), len(names[1])), 0, [_count(frame, "in the file")]
    for part in by_users(frame, users):
        kept = part.filter(pl.col("rating") >= filters.min_rating) if filters.min_rating > 0 else part
        rated += len(kept)
        clicks.append(_drop_repeats(_order(kept, ties), filters.drop_repeats))
    notes.extend(_said_of_repeats(rated - clicks.count, rated, filters.drop_repeats))
    if filters.min_rating > 0:
        steps.append(clicks.describe(f"with ratings of at least {filters.min_rating:g}"))
    _filter_clicks(clicks, filters, steps)
    per_user = clicks.counts("user")
    if not per_user.any():
        raise CocorrrecError("nothing is left after the filters: " + "; ".join(steps))
    items = numbering(pl.Series(np.flatnonzero(clicks.counts("item"))), names[1], start=1)
    clicks.compact(items.numbers)
    count, there = clicks.count, np.flatnonzero(per_user)
    return Interactions(
        clicks.item[:count],
        np.concatenate(([0], np.cumsum(per_user[there]))).astype(np.int64),
        items.ids,
        [users.ids[user] for user in there],
        times=None if by_row else clicks.time[:count],
        rows=clicks.row[:count],
        dated=dated,
        notes=tuple(notes),
    )


def _filter_clicks(clicks: Clicks, filters: Filters, steps: list[str]) -> None:
    """What :func:`_filter_counts` does with a table."""
    for what, most in (("user", filters.max_user_interactions), ("item", filters.max_item_interactions)):
        if most:
            clicks.only(what, 1, most)
            steps.append(clicks.describe(f"with {what}s of at most {most}"))
    clicks.only("item", filters.min_item_interactions)
    steps.append(clicks.describe(f"with items of at least {filters.min_item_interactions}"))
    clicks.only("user", filters.min_user_interactions)
    steps.append(clicks.describe(f"then with users of at least {filters.min_user_interactions}"))
    if filters.k_core:
        user_least, all_kept = max(filters.k_core, filters.min_user_interactions), False
        while not all_kept:
            items_kept = clicks.only("item", filters.k_core)
            all_kept = clicks.only("user", user_least) and items_kept
        steps.append(clicks.describe(f"in the {filters.k_core}-core"))
    if filters.last:
        clicks.only_last(filters.last)


def _finish(frame: pl.DataFrame, user_names: pl.Series, item_names: pl.Series, notes: list[str]) -> Interactions:
    users, user_ids = number(frame["user"], user_names, start=0)
    items, item_ids = number(frame["item"], item_names, start=1)
    time = frame["time"]
    dated, by_row = time.dtype == pl.Datetime("ns"), time.dtype == pl.UInt32
    if time.dtype == pl.Float64:
        time = time.rank("dense")  # what a float orders, a whole number does
    frame = pl.DataFrame({"user": users, "item": items, "time": time.cast(pl.Int64), "row": frame["row"]})
    frame = frame.sort("user", maintain_order=True)
    counts = np.bincount(frame["user"].to_numpy(), minlength=len(user_ids))
    return Interactions(
        frame["item"].to_numpy().astype(np.int32),
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        item_ids,
        user_ids,
        times=None if by_row else frame["time"].to_numpy(),
        rows=frame["row"].to_numpy().astype(np.int32),
        dated=dated,
        notes=tuple(notes),
    )


def _count(frame: pl.DataFrame, what: str) -> str:
    users, items = frame["user"].n_unique(), frame["item"].n_unique()
    return f"{what} {users} users, {items} items, {len(frame)} interactions"
