"""Sample items that a user never interacted with."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.mapping import release, scratch
from cocorrrec_export.data.splits import Examples
from cocorrrec_export.errors import CocorrrecError

_VALUES = 1 << 22


class NegativeSampler:
    """Uniform over the items outside a user's interactions, those held out included.

    Exact and without rejection: a rank among the user's free items is drawn, and a binary search over the taken ones
    turns it into an item.
    """

    def __init__(self, interactions: Interactions) -> None:
        self._user_ids = interactions.user_ids
        self._items = interactions.vocab_size - 1
        below = scratch((len(interactions.items),))
        self._start = np.zeros(interactions.num_users + 1, dtype=np.int64)  # of each user's in below
        for block in interactions.blocks():
            # Repeats count once.
            taken = np.unique(block.user * interactions.vocab_size + interactions.items[block.clicks])
            user, item = np.divmod(taken, interactions.vocab_size)
            first, start = self._start[block.users.start], np.searchsorted(user, np.arange(block.user[-1] + 2))
            self._start[block.users.start : block.users.stop + 1] = first + start
            below[first : first + len(taken)] = item - 1 - (np.arange(len(taken)) - start[user])
            release(below)
        self._below = below[: self._start[-1]]  # free items below each taken one: does not fall within a user
        self._free = self._items - np.diff(self._start)  # [U]

    def free(self, users: NDArray[np.integer]) -> NDArray[np.int64]:
        """How many items each of ``users`` never interacted with."""
        return self._free[np.asarray(users, dtype=np.int64)]

    def sample(
        self,
        users: NDArray[np.integer],
        count: int,
        *,
        rng: np.random.Generator,
        distinct: bool = False,
        out: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """Draw ``count`` items for each of ``users [M]``: ``[M, count]``.

        Args:
            users: indices of users; may repeat.
            count: items a row.
            rng: source of chance.
            distinct: no item twice in a row.
            out: where they are put, ``[M, count]``; by default a new array.

        Raises:
            CocorrrecError: a user has too few items left.
        """
        users = np.asarray(users)
        free = self._free[users]
        needed = count if distinct else 1
        if len(users) and free.min() < needed:
            worst = int(users[free.argmin()])
            raise CocorrrecError(
                f"user {self._user_ids[worst]!r} interacted with all but {int(free.min())} of {self._items} items: "
                f"{needed} negatives cannot be drawn; use fewer negatives or drop the user"
            )
        rank = np.empty((len(users), count), dtype=np.int32) if out is None else out
        for rows in _parts(len(users), count):
            rank[rows] = rng.integers(0, free[rows, None], size=rank[rows].shape)
        if distinct:
            self._redraw_repeats(rank, free, rng)
        for rows in _parts(len(users), count):
            rank[rows] += 1 + self._taken_below(users[rows], rank[rows])
        return rank

    def _taken_below(self, users: NDArray[np.integer], rank: NDArray[np.int32]) -> NDArray[np.int32]:
        """How many items of each of ``users [M]`` are below its free items ``rank [M, count]``: a binary search."""
        start = self._start[users][:, None]
        low, high = (np.broadcast_to(x, rank.shape) for x in (start, self._start[1:][users][:, None]))
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            above = self._below[np.minimum(middle, len(self._below) - 1)] <= rank
            above &= low < high
            low, high = np.where(above, middle + 1, low), np.where(above, high, middle)
        return (low - start).astype(np.int32)

    @staticmethod
    def _redraw_repeats(rank: NDArray[np.int32], free: NDArray[np.int64], rng: np.random.Generator) -> None:
        """Replace repeats within a row, in place; rows short of items take the head of a permutation instead."""
        for row in np.flatnonzero(free < 2 * rank.shape[1]):
            rank[row] = rng.permutation(free[row])[: rank.shape[1]]
        rows = np.arange(len(rank))
        while len(rows):
            left = []
            for part in _parts(len(rows), rank.shape[1]):
                own = rows[part]
                order = np.argsort(rank[own], axis=1, kind="stable")
                ordered = np.take_along_axis(rank[own], order, axis=1)
                repeat = np.zeros(ordered.shape, dtype=bool)
                np.put_along_axis(repeat, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
                again, column = np.nonzero(repeat)
                rank[own[again], column] = rng.integers(0, free[own[again]])
                left.append(own[repeat.any(1)])
            rows = np.concatenate(left)


def _parts(rows: int, width: int) -> Iterator[slice]:
    """Parts of ``rows`` of a table, of a few million values each: the stream of chance is that of all at once."""
    size = max(1, _VALUES // width)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def evaluation_candidates(
    examples: Examples, sampler: NegativeSampler, *, negatives: int = 100, rng: np.random.Generator
) -> NDArray[np.int32]:
    """One positive, in column 0, among distinct negatives: ``[M, 1 + negatives]``."""
    rows = examples.all()
    candidates = scratch((len(examples), 1 + negatives))
    candidates[:, 0] = rows.targets
    sampler.sample(rows.users, negatives, rng=rng, distinct=True, out=candidates[:, 1:])
    release(candidates)
    return candidates
