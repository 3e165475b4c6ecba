"""What a model must beat: the most clicked items, and the neighbors of the user's last clicks. Nothing is learned."""

import numpy as np
import torch
from torch import Tensor

from cocorrrec_export.data.evaluation_set import EarlierClicks, EvaluationSet
from cocorrrec_export.training.scoring import Measured, measure_scores

POPULARITY, NEIGHBORS = "popularity", "item neighbors"
_BATCH = 256
_VALUES = 1 << 24
"""Numbers that a batch of users takes at the most: one for each item."""


def measure_references(held_out: EvaluationSet, *, vocab_size: int) -> dict[str, Measured]:
    """Both baselines on the held-out users, from their training clicks; empty where those are not known.

    Args:
        held_out: test users; the last of their earlier clicks, the validation target, is not learned from.
        vocab_size: V.
    """
    if held_out.earlier is None:
        return {}
    training = held_out.earlier.without_last(1)
    batch = max(1, min(_BATCH, _VALUES // vocab_size))
    _, item = training.pairs(slice(None))
    clicks = np.bincount(item, minlength=vocab_size).astype(np.float32)
    popularity = torch.from_numpy(clicks)
    neighbors = ItemNeighbors(training, vocab_size=vocab_size)

    def by_popularity(rows: slice, candidates: Tensor | None) -> Tensor:
        return popularity.expand(rows.stop - rows.start, -1) if candidates is None else popularity[candidates]

    def by_neighbors(rows: slice, candidates: Tensor | None) -> Tensor:
        scores = neighbors.scores(held_out.histories[rows].long())
        return scores if candidates is None else scores.gather(1, candidates)

    return {
        POPULARITY: measure_scores(by_popularity, held_out, batch_size=batch),
        NEIGHBORS: measure_scores(by_neighbors, held_out, batch_size=batch),
    }


class ItemNeighbors:
    """Item-based nearest neighbors (Sarwar et al., WWW 2001): the cosine of two items' sets of users.

    Args:
        clicks: what users clicked, to learn from.
        vocab_size: V.
    """

    def __init__(self, clicks: EarlierClicks, *, vocab_size: int) -> None:
        user, item = clicks.pairs(slice(None))
        pairs = torch.from_numpy(np.unique(np.stack((user, item.astype(np.int64))), axis=1))  # repeats count once
        self._users = _indicator(pairs, (len(clicks.starts), vocab_size))  # [U, V]
        self._items = _indicator(pairs.flip(0), (vocab_size, len(clicks.starts)))  # [V, U]
        self._norm = torch.bincount(pairs[1], minlength=vocab_size).clamp_min(1).float().rsqrt()  # [V]

    def scores(self, histories: Tensor) -> Tensor:
        """The sum of each item's cosines with the clicks of ``histories [B, L]``: ``[B, V]``."""
        asked = torch.zeros(len(histories), self._users.shape[1])
        asked.scatter_add_(1, histories, self._norm[histories] * (histories != 0))
        shared = torch.sparse.mm(self._users, asked.T)  # [U, B]
        return torch.sparse.mm(self._items, shared).T * self._norm


def _indicator(pairs: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sparse matrix with a 1 at each of the ``pairs [2, N]``."""
    return torch.sparse_coo_tensor(pairs, torch.ones(pairs.shape[1]), shape, check_invariants=True).coalesce()
