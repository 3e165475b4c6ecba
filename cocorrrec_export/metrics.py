"""Ranking metrics of one positive among sampled negatives, over all users at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CUTOFFS = (5, 10, 20)
METRICS = ("uauc", *(f"ndcg@{k}" for k in CUTOFFS), *(f"hr@{k}" for k in CUTOFFS))
FULL = "full:"
"""In front of the name of a metric over the whole catalog, where it could be taken for one over sampled negatives."""
BOTH = "both:"
"""In front of the name of a metric: its geometric mean over both protocols."""
EXPECTED = "expected:"
"""In front of the name of a metric among sampled negatives: its mean over all draws of them, not that of one draw."""
EXPECTED_METRICS = tuple(name for name in METRICS if "@" in name)
"""Those that a draw moves much."""
FULL_METRICS = (*METRICS, "mrr")
"""Metrics over the whole catalog: those over sampled negatives, and the mean reciprocal rank."""


def cutoff(name: str) -> int:
    """k of a metric such as ``hr@10``; 0: it has none."""
    return int(name.partition("@")[2] or 0)


def per_user_metrics(scores: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Metrics of each user.

    Args:
        scores: ``[users, 1 + negatives]``; the positive is column 0.

    Returns:
        Each of :data:`METRICS` as ``[users]``. ``uauc``: share of negatives below the positive, a tie counts half.
        ``ndcg@k``: ``1 / log2(rank + 1)`` for a rank of at most k, else 0. ``hr@k``: 1 for a rank of at most k, else 0.
        A tie counts against the positive in both, so that a model with constant scores earns nothing.

    Raises:
        ValueError: no user, no negative, or a score that is not a number.
    """
    above, tied = places(scores)
    return metrics_of_places(above, tied, negatives=scores.shape[1] - 1)


def places(scores: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many negatives each user's positive is below, and how many it is tied with: two arrays ``[users]``.

    Every metric follows from the two.

    Args:
        scores: as in :func:`per_user_metrics`.

    Raises:
        ValueError: as there.
    """
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise ValueError(f"scores must be [users >= 1, 1 + negatives >= 2], got {list(scores.shape)}")
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN")
    positive, negatives = scores[:, :1], scores[:, 1:]
    return (negatives > positive).sum(1), (negatives == positive).sum(1)


def catalog_places(
    scores: NDArray[np.floating],
    targets: NDArray[np.integer],
    user: NDArray[np.integer],
    item: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """How many items of the whole catalog are above each target, tied with it, and compared with it.

    Args:
        scores: ``[U, V]``, of item id 0, padding, too; it is never compared. One that is not a number ties with every
            target: it must not earn anything.
        targets: ``[U]`` item ids.
        user: ``[n]`` rows of ``scores``, and
        item: ``[n]`` what each of them had before: left out, but for the target.

    Returns:
        Three arrays ``[U]``.
    """
    own = np.arange(len(targets))
    target = scores[own, targets]
    out = np.zeros(scores.shape, dtype=bool)
    out[:, 0] = True  # padding
    out[user, item] = True
    out[own, targets] = True  # a target that the user had before stays the target
    above = (scores > target[:, None]) & ~out
    not_below = ~(scores < target[:, None]) & ~out
    count = above.sum(1)
    return count, not_below.sum(1) - count, (~out).sum(1)


@dataclass(frozen=True)
class Places:
    """Where each user's positive is, among the user's negatives: a few bytes per user, and all metrics follow."""

    above: NDArray[np.integer]  # [users] negatives with a higher score
    tied: NDArray[np.integer]  # [users] negatives with the same score
    negatives: NDArray[np.integer] | int
    """How many negatives; by user where the whole catalog is ranked without what each user had before."""

    def per_user(self) -> dict[str, NDArray[np.float64]]:
        """Each of :data:`FULL_METRICS`, ``[users]``."""
        found = metrics_of_places(self.above, self.tied, negatives=self.negatives)
        return found | {"mrr": 1.0 / (self.above + self.tied + 1.0)}

    def means(self, names: tuple[str, ...] = METRICS) -> dict[str, float]:
        """The mean over users of the metrics ``names``."""
        per_user = self.per_user()
        return {name: float(per_user[name].mean()) for name in self.meaningful(names)}

    def meaningful(self, names: tuple[str, ...] = METRICS) -> tuple[str, ...]:
        """Those of ``names`` that some order of a user's candidates could fail: k is below their number."""
        candidates = int(np.min(self.negatives)) + 1
        return tuple(name for name in names if cutoff(name) < candidates)


def metrics_of_places(
    above: NDArray[np.integer], tied: NDArray[np.integer], *, negatives: NDArray[np.integer] | int
) -> dict[str, NDArray[np.float64]]:
    """:func:`per_user_metrics` from the :func:`places`."""
    rank = above.astype(np.int64) + tied  # 0 is the best
    result = {"uauc": 1.0 - (above + 0.5 * tied) / negatives}
    result |= {f"ndcg@{k}": np.where(rank < k, 1.0 / np.log2(rank + 2.0), 0.0) for k in CUTOFFS}
    result |= {f"hr@{k}": (rank < k).astype(np.float64) for k in CUTOFFS}
    return result


def expected_metrics(full: Places, *, negatives: int) -> dict[str, NDArray[np.float64]]:
    """Metrics among sampled negatives, on average over all draws of them: they follow from the place among all items.

    Args:
        full: where each user's positive is in the whole catalog.
        negatives: how many different items are drawn, each as likely as any other.

    Returns:
        Each of :data:`EXPECTED_METRICS`, ``[users]``.
    """
    before = full.above.astype(np.int64) + full.tied
    items = np.broadcast_to(full.negatives, before.shape)
    drawn = np.minimum(negatives, items)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1.0, items.max() + 1.0)))))

    def log_choices(n: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
        possible = (k >= 0) & (k <= n)
        inside = np.clip(k, 0, n)
        return np.where(possible, log_factorial[n] - log_factorial[inside] - log_factorial[n - inside], -np.inf)

    rank = np.arange(CUTOFFS[-1])  # 0 is the best
    found = log_choices(before[:, None], rank) + log_choices((items - before)[:, None], drawn[:, None] - rank)
    chance = np.exp(found - log_choices(items, drawn)[:, None])  # [users, ranks]
    gain = 1.0 / np.log2(rank + 2.0)
    result = {f"ndcg@{k}": chance[:, :k] @ gain[:k] for k in CUTOFFS}
    return result | {f"hr@{k}": chance[:, :k].sum(1) for k in CUTOFFS}


def ranking_metrics(scores: NDArray[np.floating]) -> dict[str, float]:
    """The mean over users of :func:`per_user_metrics`."""
    return {name: float(values.mean()) for name, values in per_user_metrics(scores).items()}


def mean_and_error(values: NDArray[np.floating]) -> tuple[float, float]:
    """The mean of ``values [users]``, such as paired differences, and its standard error; 0 for that of one user."""
    error = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return float(values.mean()), error
