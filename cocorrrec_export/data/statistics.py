"""The figures of a data set, as in the paper's Table 2."""

from dataclasses import dataclass

from cocorrrec_export.data.interactions import Interactions


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


def statistics(interactions: Interactions) -> Statistics:
    """Count users, items and interactions."""
    users, items, count = interactions.num_users, interactions.vocab_size - 1, len(interactions.items)
    return Statistics(users, items, count, count / users, count / items, count / (users * items))
