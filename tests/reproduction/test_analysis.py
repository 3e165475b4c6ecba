"""Means, spread and paired tests, against what they are by hand."""

import itertools
from typing import Any

import numpy as np
import pytest

from cocorrrec_export.metrics import metrics_of_places, per_user_metrics, places
from cocorrrec_export.reproduction.analysis import differences, holm, scores, sign_flip_test
from cocorrrec_export.reproduction.plan import Run
from cocorrrec_export.reproduction.run import Result


def result(row: str, seed: int, above: list[int], way: str = "alone") -> Result:
    found = {f"{way}.above": np.array(above), f"{way}.tied": np.zeros(len(above), dtype=np.int64)}
    return Result(Run(row=row, learning_rate=0.1, seed=seed), {"negatives": 100}, found)


def test_metrics_follow_from_places() -> None:
    drawn = np.random.default_rng(0).integers(0, 30, (50, 21)).astype(np.float64)  # few values: many ties
    direct, indirect = per_user_metrics(drawn), metrics_of_places(*places(drawn), negatives=20)
    assert all(np.array_equal(direct[name], indirect[name]) for name in direct)


def test_spread_is_over_seeds() -> None:
    results = [result("SASRec", 1, [0, 100]), result("SASRec", 2, [0, 0])]
    hr = scores([each.per_user() for each in results])["hr@10"]
    assert hr.mean == 0.75
    assert hr.std == pytest.approx(np.std([0.5, 1.0], ddof=1))
    assert scores([results[0].per_user()])["hr@10"].std is None


def test_corrected_places_are_read_where_there_are_any() -> None:
    both = result("CoCorrRec", 1, [0], way="corrected")
    both.places["alone.above"] = np.array([100])
    both.places["alone.tied"] = np.array([0])
    assert both.per_user()["hr@5"].tolist() == [1.0]


def test_sign_flips_come_near_the_exact_test() -> None:
    values = np.array([0.3, -0.1, 0.5, 0.2, 0.4, -0.2, 0.6, 0.1])
    signs = np.array(list(itertools.product((-1, 1), repeat=len(values))))
    exact = np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-12)
    assert sign_flip_test(values) == pytest.approx(exact, abs=0.01)
    assert sign_flip_test(np.zeros(5)) == 1.0


def test_a_true_difference_is_found_and_chance_is_not() -> None:
    generator = np.random.default_rng(1)
    assert sign_flip_test(generator.normal(0.2, 1.0, 2000)) < 0.001
    assert sign_flip_test(generator.normal(0.0, 1.0, 2000)) > 0.01


def test_holm() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.6, "b": 0.9}) == pytest.approx({"a": 1.0, "b": 1.0})


def test_differences_are_of_the_same_users() -> None:
    users = 400
    better: Any = [0] * users
    worse: Any = [0 if user % 2 else 50 for user in range(users)]
    rows = {"CoCorrRec": [result("CoCorrRec", 1, better).per_user()], "DIN": [result("DIN", 1, worse).per_user()]}
    found = differences(dict(rows), "CoCorrRec", ("hr@10",))["DIN"]["hr@10"]
    assert found.mean == 0.5
    assert found.low < 0.5 < found.high
    assert found.p < 0.001
