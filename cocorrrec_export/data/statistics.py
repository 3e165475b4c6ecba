"""The figures that describe a data set, as in Table 2 of the paper."""

from dataclasses import dataclass

import numpy as np

from cocorrrec_export.data.interactions import Interactions


@dataclass(frozen=True)
class Statistics:
    """Counts after filtering."""

    users: int
    items: int
    """Items that occur; a model's vocabulary may hold more."""
    interactions: int
    interactions_per_user: float
    interactions_per_item: float
    density: float
    """Interactions over users times items; a repeated click counts again."""


def statistics(interactions: Interactions) -> Statistics:
    """Count what is there."""
    users, items, total = interactions.num_users, len(np.unique(interactions.items)), len(interactions.items)
    return Statistics(
        users=users,
        items=items,
        interactions=total,
        interactions_per_user=total / users,
        interactions_per_item=total / items,
        density=total / (users * items),
    )
