"""Filter and order more clicks than a table of them should be copied for: by some users at a time, then in files.

:mod:`cocorrrec_export.data.interactions` does it with one table in memory. The result is the same, but for what is
drawn, the order of a user's clicks at one time, and for times that are not dates, which are kept as places in an order.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cocorrrec_export.data.encoding import Numbering
from cocorrrec_export.data.mapping import release, scratch

FROM = 1 << 24
"""Clicks from which this is done."""
BLOCK = 1 << 22
"""Clicks that are held at once, if no user has more."""


class Clicks:
    """Clicks by user, oldest first, of which some are kept; a filter goes over all of them in parts.

    Args:
        count: how many at the most.
        users: how many there are.
        items: likewise.
    """

    def __init__(self, count: int, users: int, items: int) -> None:
        self.user, self.item, self.row = (scratch((count,)) for _ in range(3))
        self.time = scratch((count,), np.int64)
        self._size = {"user": users, "item": items}
        self._kept = np.ones(count, dtype=bool)
        self.count = 0

    def append(self, part: pl.DataFrame) -> None:
        """Add clicks of users that come after all others."""
        place = slice(self.count, self.count + len(part))
        for name in ("user", "item", "time", "row"):
            values = getattr(self, name)
            values[place] = part[name].to_numpy()
            release(values)
        self.count = place.stop

    def _parts(self) -> Iterator[slice]:
        for start in range(0, self.count, BLOCK):
            yield slice(start, min(start + BLOCK, self.count))
            release(self.user)
            release(self.item)

    def counts(self, what: str) -> NDArray[np.int64]:
        """Clicks that are kept, of each user or item."""
        values, found = getattr(self, what), np.zeros(self._size[what], dtype=np.int64)
        for part in self._parts():
            found += np.bincount(values[part][self._kept[part]], minlength=len(found))
        return found

    def describe(self, what: str) -> str:
        """Users, items and clicks that are kept, behind ``what``."""
        users, items = self.counts("user"), self.counts("item")
        return (
            f"{what} {np.count_nonzero(users)} users, {np.count_nonzero(items)} items, {int(users.sum())} interactions"
        )

    def only(self, what: str, least: int, most: int | None = None) -> bool:
        """Keep users or items of so many clicks; whether all that had any are kept."""
        counts, values = self.counts(what), getattr(self, what)
        chosen = counts >= least
        if most is not None:
            chosen &= counts <= most
        for part in self._parts():
            self._kept[part] &= chosen[values[part]]
        return bool(chosen[counts > 0].all())

    def only_last(self, count: int) -> None:
        """Keep the last clicks of each user."""
        ends, before = np.cumsum(self.counts("user")), 0
        for part in self._parts():
            kept = self._kept[part]
            place = before + np.cumsum(kept)  # of the kept ones, counted from 1
            before = int(place[-1])
            kept &= place > ends[self.user[part]] - count

    def compact(self, items: NDArray[np.int32]) -> None:
        """Move what is kept to the front, with ``items`` the new numbers of the items."""
        after = 0
        for part in self._parts():
            kept = self._kept[part]
            place = slice(after, after + int(kept.sum()))
            self.item[place] = items[self.item[part][kept]]
            for values in (self.time, self.row):
                values[place] = values[part][kept]
                release(values)
            after = place.stop
        self.count = after


def by_users(frame: pl.DataFrame, users: Numbering) -> Iterator[pl.DataFrame]:
    """The clicks of some users at a time, ``user`` numbered instead of a code."""
    counts = np.zeros(len(users.ids), dtype=np.int64)
    for codes in frame["user"].get_chunks():
        counts += np.bincount(users.numbers[codes.to_numpy()], minlength=len(counts))
    part_of = ((np.cumsum(counts) - counts) // BLOCK).astype(np.uint16)
    part_of_code = pl.Series(part_of[users.numbers])
    frame = frame.with_columns(part=part_of_code.gather(frame["user"]))
    for part in range(int(part_of.max()) + 1):
        own = frame.filter(pl.col("part") == part).drop("part")
        if len(own):
            yield own.with_columns(user=pl.Series(users.numbers[own["user"].to_numpy()]))
