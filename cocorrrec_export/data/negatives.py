"""Sample items that a user never interacted with."""

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.splits import Examples
from cocorrrec_export.errors import CocorrrecError


class NegativeSampler:
    """Uniform over the items outside a user's interactions, those held out included.

    Exact and without rejection: a rank among the user's free items is drawn, and a binary search over the taken ones
    turns it into an item.
    """

    def __init__(self, interactions: Interactions) -> None:
        self._user_ids = interactions.user_ids
        self._items = interactions.vocab_size - 1
        users = np.repeat(np.arange(interactions.num_users, dtype=np.int64), np.diff(interactions.offsets))
        taken = np.unique(users * interactions.vocab_size + interactions.items)  # repeats count once
        user, item = np.divmod(taken, interactions.vocab_size)
        self._start = np.searchsorted(user, np.arange(interactions.num_users + 1))  # [U + 1]
        below = item - 1 - (np.arange(len(taken)) - self._start[user])  # free items below each taken one
        self._stride = interactions.vocab_size
        self._key = user * self._stride + below  # sorted: below does not fall within a user
        self._free = self._items - np.diff(self._start)  # [U]

    def free(self, users: NDArray[np.integer]) -> NDArray[np.int64]:
        """How many items each of ``users`` never interacted with."""
        return self._free[np.asarray(users, dtype=np.int64)]

    def sample(
        self, users: NDArray[np.integer], count: int, *, rng: np.random.Generator, distinct: bool = False
    ) -> NDArray[np.int32]:
        """Draw ``count`` items for each of ``users [M]``: ``[M, count]``.

        Args:
            users: indices of users; may repeat.
            count: items a row.
            rng: source of chance.
            distinct: no item twice in a row.

        Raises:
            CocorrrecError: a user has too few items left.
        """
        users = np.asarray(users, dtype=np.int64)
        free = self._free[users]
        needed = count if distinct else 1
        if len(users) and free.min() < needed:
            worst = int(users[free.argmin()])
            raise CocorrrecError(
                f"user {self._user_ids[worst]!r} interacted with all but {int(free.min())} of {self._items} items: "
                f"{needed} negatives cannot be drawn; use fewer negatives or drop the user"
            )
        rank = rng.integers(0, free[:, None], size=(len(users), count))
        if distinct:
            self._redraw_repeats(rank, free, rng)
        taken_below = np.searchsorted(self._key, users[:, None] * self._stride + rank, side="right")
        return (rank + 1 + taken_below - self._start[users][:, None]).astype(np.int32)

    @staticmethod
    def _redraw_repeats(rank: NDArray[np.int64], free: NDArray[np.int64], rng: np.random.Generator) -> None:
        """Replace repeats within a row, in place; rows short of items take the head of a permutation instead."""
        for row in np.flatnonzero(free < 2 * rank.shape[1]):
            rank[row] = rng.permutation(free[row])[: rank.shape[1]]
        rows = np.arange(len(rank))
        while len(rows):
            order = np.argsort(rank[rows], axis=1, kind="stable")
            ordered = np.take_along_axis(rank[rows], order, axis=1)
            repeat = np.zeros(ordered.shape, dtype=bool)
            np.put_along_axis(repeat, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
            has = repeat.any(1)
            rows, repeat = rows[has], repeat[has]
            chosen = np.nonzero(repeat)
            rank[rows[chosen[0]], chosen[1]] = rng.integers(0, free[rows[chosen[0]]])


def evaluation_candidates(
    examples: Examples, sampler: NegativeSampler, *, negatives: int = 100, rng: np.random.Generator
) -> NDArray[np.int32]:
    """One positive, in column 0, among distinct negatives: ``[M, 1 + negatives]``."""
    drawn = sampler.sample(examples.users, negatives, rng=rng, distinct=True)
    return np.concatenate((examples.targets[:, None], drawn), axis=1)
