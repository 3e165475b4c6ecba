"""The figures of a data set, as in the paper's Table 2, and what a careful person looks at first."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.mapping import release
from cocorrrec_export.data.splits import is_training

QUANTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class Statistics:
    """Counts after filtering."""

    users: int
    items: int
    interactions: int
    interactions_per_user: float
    interactions_per_item: float
    density: float
    """Share of the user-item pairs that have an interaction, repeats counted."""


@dataclass(frozen=True)
class Quality:
    """What makes a metric look better or worse than a model is; shares from 0 to 1."""

    first: str | None
    """Date of the oldest click, ISO 8601; None: there are no dates."""
    last: str | None
    ties: float
    """Clicks at the same time as another one of the same user: their order is chance."""
    repeats: float
    """Clicks on the item that the user clicked right before."""
    repeated_test: float
    """Users whose test target is the item that they clicked right before."""
    cold_test: float
    """Users whose test target is not in the training part of anyone."""
    heaviest_user: float
    """Share of all clicks that one user made."""
    complete_users: int
    """Users with every item, for whom no negative is left."""
    per_user: dict[str, float]
    """Quantiles of the clicks of a user, by percent."""
    per_item: dict[str, float]


def statistics(interactions: Interactions) -> Statistics:
    """Count users, items and interactions."""
    users, items, count = interactions.num_users, interactions.vocab_size - 1, len(interactions.items)
    return Statistics(users, items, count, count / users, count / items, count / (users * items))


def quality(interactions: Interactions) -> Quality:
    """Measure what flatters or spoils a metric."""
    items, times = interactions.items, interactions.times
    last, counts = interactions.offsets[1:] - 1, np.diff(interactions.offsets)
    trained = np.zeros(interactions.vocab_size, dtype=bool)
    per_item = np.zeros(interactions.vocab_size, dtype=np.int64)
    repeats = ties = complete = 0
    for block in interactions.blocks():
        own, follows = items[block.clicks], block.user[1:] == block.user[:-1]
        repeats += int((follows & (own[1:] == own[:-1])).sum())
        if times is not None:
            ties += _ties(times[block.clicks], follows)
        trained[own[is_training(block)]] = True
        per_item += np.bincount(own, minlength=len(per_item))
        distinct = np.unique(block.user * interactions.vocab_size + own) // interactions.vocab_size
        complete += int((np.bincount(distinct) == interactions.vocab_size - 1).sum())
    dates = (None, None) if times is None or not interactions.dated else (date(times.min()), date(times.max()))
    if times is not None:
        release(times)
    return Quality(
        first=dates[0],
        last=dates[1],
        ties=ties / len(items),
        repeats=repeats / len(items),
        repeated_test=float((items[last] == items[last - 1]).mean()),
        cold_test=float((~trained[items[last]]).mean()),
        heaviest_user=float(counts.max() / len(items)),
        complete_users=complete,
        per_user=_quantiles(counts),
        per_item=_quantiles(per_item[1:]),
    )


def _ties(times: NDArray[np.int64], follows: NDArray[np.bool_]) -> int:
    """How many of the clicks ``[n]`` are at the time of the one before or behind; ``follows [n - 1]``: of one user."""
    same = follows & (times[1:] == times[:-1])
    tied = np.zeros(len(times), dtype=bool)
    tied[1:] |= same
    tied[:-1] |= same
    return int(tied.sum())


def date(nanoseconds: int) -> str:
    """ISO 8601, in UTC."""
    moment = datetime.fromtimestamp(int(nanoseconds) // 1_000_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _quantiles(counts: NDArray[np.int64]) -> dict[str, float]:
    return {
        str(percent): float(value) for percent, value in zip(QUANTILES, np.percentile(counts, QUANTILES), strict=True)
    }


def alarms(found: Quality) -> list[str]:
    """What is said before a training: a sentence for each figure that makes the metrics mean something else."""
    said = []
    if found.ties >= 0.01:
        said.append(
            f"{found.ties:.1%} of the clicks are at the same time as another one of the same user: their order is "
            f"chance, and so is which one is tested (--ties file keeps the order of the file, if that means something)"
        )
    if found.repeats >= 0.01 or found.repeated_test >= 0.01:
        said.append(
            f"{found.repeats:.1%} of the clicks, and {found.repeated_test:.1%} of the test targets, are the item that "
            f"the user clicked right before: recommending the last item again earns that share "
            f"(--drop-repeats consecutive leaves them out)"
        )
    if found.cold_test >= 0.05:
        said.append(
            f"{found.cold_test:.1%} of the test targets are in nobody's training clicks: no model can know them"
        )
    if found.heaviest_user >= 0.05:
        said.append(
            f"one user made {found.heaviest_user:.1%} of all clicks (--max-user N drops such users, --last N keeps the "
            f"last clicks of each)"
        )
    if found.complete_users:
        said.append(f"{found.complete_users} users have every item: they are trained on, but cannot be evaluated")
    return said


def clicks_of(interactions: Interactions, user: str) -> list[dict[str, Any]] | None:
    """A user's clicks as they were read, oldest first: ``item``, ``time`` and ``row``; None: there is no such user.

    ``time`` is an ISO date, a place in an order, or None for the order of the file; ``row`` counts the rows of the file
    from 1, behind its header.
    """
    try:
        place = interactions.user_ids.index(user)
    except ValueError:
        return None
    times, rows = interactions.times, interactions.rows
    clicks = []
    for at in range(int(interactions.offsets[place]), int(interactions.offsets[place + 1])):
        time = None if times is None else date(times[at]) if interactions.dated else int(times[at])
        row = None if rows is None else int(rows[at])
        clicks.append({"item": interactions.item_ids[interactions.items[at] - 1], "time": time, "row": row})
    return clicks
