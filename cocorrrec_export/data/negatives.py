"""Items that a user never interacted with, drawn uniformly."""

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.splits import Examples
from cocorrrec_export.errors import CocorrrecError, UsageError


class NegativeSampler:
    """Draws from the items 1 .. V - 1 without those that the user has anywhere in the data, held-out clicks included.

    Nothing is drawn twice to be rejected: a rank among the user's free items is drawn and mapped to the item. With the
    user's items sorted, ``s[0] < s[1] < ...``, there are ``s[i] - 1 - i`` free items below ``s[i]``; so the free item
    of rank r is ``1 + r + #(i: s[i] - 1 - i <= r)``. One search answers for all users, since each has keys of its own.
    """

    def __init__(self, interactions: Interactions) -> None:
        self._user_ids = interactions.user_ids
        self._num_items = interactions.vocab_size - 1
        self._stride = interactions.vocab_size
        owners = np.repeat(np.arange(interactions.num_users), np.diff(interactions.offsets))
        owners, items = np.divmod(np.unique(owners * self._stride + interactions.items), self._stride)
        taken = np.bincount(owners, minlength=interactions.num_users)
        self._starts = np.concatenate([[0], taken.cumsum()])
        self._free = self._num_items - taken
        index_within_user = np.arange(len(items)) - self._starts[owners]
        self._keys = owners * self._stride + items - 1 - index_within_user

    def sample(
        self, users: NDArray[np.integer], count: int, *, rng: np.random.Generator, distinct: bool = False
    ) -> NDArray[np.int32]:
        """Draw ``count`` items for each of ``users``.

        Args:
            users: ``[M]`` index of the user; repeats are fine.
            count: items a row.
            rng: the only source of chance.
            distinct: no item twice in a row; each set of items is then equally likely, each order is not.

        Returns:
            ``[M, count]`` internal ids.

        Raises:
            UsageError: ``count`` below 1.
            CocorrrecError: a user with fewer free items than are needed.
        """
        if count < 1:
            raise UsageError(f"the number of negatives must be at least 1, got {count}")
        free = self._free[users]
        self._check(users, free, count if distinct else 1)
        if distinct:
            ranks = _distinct_ranks(free, count, rng)
        else:
            ranks = rng.integers(0, free[:, None], size=(len(users), count))
        return self._items_of_rank(np.asarray(users, dtype=np.int64)[:, None], ranks)

    def _check(self, users: NDArray[np.integer], free: NDArray[np.int64], needed: int) -> None:
        short = np.flatnonzero(free < needed)
        if short.size:
            raise CocorrrecError(
                f"user '{self._user_ids[users[short[0]]]}' never interacted with {free[short[0]]} of the "
                f"{self._num_items} items, but {needed} are needed as negatives"
            )

    def _items_of_rank(self, users: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.int32]:
        taken_below = np.searchsorted(self._keys, users * self._stride + ranks, side="right") - self._starts[users]
        return (1 + ranks + taken_below).astype(np.int32)


def _distinct_ranks(free: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``[M, count]`` different ranks below ``free [M]``: Floyd's algorithm for all rows at once."""
    ranks = np.empty((len(free), count), dtype=np.int64)
    for column in range(count):
        last = free - count + column
        drawn = rng.integers(0, last + 1)
        repeated = (ranks[:, :column] == drawn[:, None]).any(1)
        ranks[:, column] = np.where(repeated, last, drawn)
    return ranks


def evaluation_candidates(
    examples: Examples, sampler: NegativeSampler, *, negatives: int = 100, seed: int
) -> NDArray[np.int32]:
    """``[M, 1 + negatives]``: each example's target in column 0, then different items that its user never had."""
    drawn = sampler.sample(examples.users, negatives, rng=np.random.default_rng(seed), distinct=True)
    return np.concatenate([examples.targets[:, None], drawn], axis=1)
