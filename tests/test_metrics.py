"""Metrics by hand."""

import itertools
import math

import numpy as np
import pytest

from cocorrrec_export.metrics import (
    EXPECTED_METRICS,
    METRICS,
    Places,
    expected_metrics,
    metrics_of_places,
    per_user_metrics,
    ranking_metrics,
)


def test_by_hand() -> None:
    scores = np.array([[0.9] + [0.1] * 24, [0.5] + [0.6] * 6 + [0.4] * 18, [0.0] + [0.5] * 24])
    per_user = per_user_metrics(scores)
    assert per_user.keys() == set(METRICS)
    np.testing.assert_allclose(per_user["uauc"], [1.0, 18 / 24, 0.0])
    np.testing.assert_allclose(per_user["ndcg@5"], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(per_user["ndcg@10"], [1.0, 1 / math.log2(8), 0.0])
    np.testing.assert_allclose(per_user["hr@5"], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(per_user["hr@20"], [1.0, 1.0, 0.0])
    assert ranking_metrics(scores)["hr@10"] == pytest.approx(2 / 3)


def test_constant_scores_earn_nothing() -> None:
    metrics = ranking_metrics(np.zeros((4, 101)))
    assert metrics["uauc"] == 0.5
    assert all(metrics[name] == 0.0 for name in METRICS if name != "uauc")


def test_the_last_rank_that_counts() -> None:
    def rank(n: int) -> dict[str, float]:
        return ranking_metrics(np.array([[0.5] + [1.0] * (n - 1) + [0.0] * 30]))

    for k in (5, 10, 20):
        assert rank(k)[f"hr@{k}"] == 1.0
        assert rank(k)[f"ndcg@{k}"] == pytest.approx(1 / math.log2(k + 1))
        assert rank(k + 1)[f"hr@{k}"] == rank(k + 1)[f"ndcg@{k}"] == 0.0


@pytest.mark.parametrize("scores", [np.zeros((0, 5)), np.zeros((3, 1)), np.zeros(4), np.array([[np.nan, 1.0]])])
def test_refuses(scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match="scores"):
        ranking_metrics(scores)


@pytest.mark.parametrize("negatives", [1, 4, 8, 9, 30])
def test_what_is_expected_is_the_mean_over_all_draws(negatives: int) -> None:
    """Of catalogs of 8 and 9 other items, whose draws can all be made; more than there are means all of them."""
    above, tied, items = np.array([0, 2, 7, 3]), np.array([0, 1, 0, 5]), np.array([8, 9, 8, 9])
    found = expected_metrics(Places(above, tied, items), negatives=negatives)
    assert set(found) == set(EXPECTED_METRICS)
    for user in range(len(items)):
        drawn = min(negatives, int(items[user]))
        draws = np.array(list(itertools.combinations(range(items[user]), drawn)))
        places = (draws < above[user]).sum(1), ((draws >= above[user]) & (draws < above[user] + tied[user])).sum(1)
        each = metrics_of_places(*places, negatives=drawn)
        for name in EXPECTED_METRICS:
            assert found[name][user] == pytest.approx(each[name].mean(), abs=1e-12), name


def test_what_is_expected_of_a_large_catalog() -> None:
    """A million items, none or all of them before the target, and the share of draws that miss one of them."""
    places = Places(np.array([0, 999_999, 1]), np.array([0, 0, 0]), 999_999)
    found = expected_metrics(places, negatives=100)
    assert found["ndcg@5"].tolist() == pytest.approx([1.0, 0.0, 1 - 100 / 999_999 * (1 - 1 / math.log2(3))])
