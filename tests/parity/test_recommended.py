"""Lists of ``recommend`` by hand."""

import dataclasses

import numpy as np

from cocorrrec_export.contract import EntryPoint, ParityLimits, TensorSpec
from cocorrrec_export.parity.recommended import compare_list, wrong_list
from cocorrrec_export.parity.tensors import TensorParity, tensor_parity
from cocorrrec_export.parity.vectors import Case
from cocorrrec_export.runtime.base import Arrays

LIMITS = ParityLimits(
    max_abs=9, max_rel=1, top10_overlap=1, metrics_abs=1, ndcg10_rel=1, recommend_overlap=0.7, recommend_order=0.7
)
IDS = {"ids": np.array([[8, 9, 0]], np.int32)}


def listed(items: list[int], scores: list[float]) -> Arrays:
    return {"items": np.array([items], np.int32), "scores": np.array([scores], np.float32)}


EXPECTED = listed([5, 3, 4, 1], [4, 3, 2, 1])


def test_overlap_and_order() -> None:
    assert compare_list(EXPECTED, EXPECTED, tie=1e-6) == (1, 1)
    assert compare_list(EXPECTED, listed([3, 5, 4, 1], [4, 3, 2, 1]), tie=1e-6) == (1, 0.5)
    assert compare_list(EXPECTED, listed([5, 3, 4, 7], [4, 3, 2, 1.1]), tie=1e-6) == (0.75, 0.75)
    assert compare_list(EXPECTED, listed([7, 5, 3, 4], [5, 4, 3, 2]), tie=1e-6) == (0.75, 0)


def test_ties_have_no_order() -> None:
    tied = listed([5, 3, 4, 1], [4, 3, 3, 1])
    assert compare_list(tied, listed([5, 4, 3, 1], [4, 3, 3, 1]), tie=1e-6) == (1, 1)
    assert compare_list(tied, listed([5, 4, 3, 7], [4, 3, 3, 1]), tie=1e-6) == (1, 1)  # as good as the last


def test_lists_that_no_rounding_excuses() -> None:
    assert wrong_list("recommend.a", IDS, EXPECTED) is None
    assert wrong_list("recommend.a", IDS, listed([5, 5, 4, 1], [4, 3, 2, 1])) == "recommend.a lists an item twice"
    history = wrong_list("recommend.a", IDS, listed([5, 9, 4, 1], [4, 3, 2, 1]))
    assert history == "recommend.a lists 9, which is of the history"
    padding = wrong_list("recommend.a", IDS, listed([5, 0, 4, 1], [4, 3, 2, 1]))
    assert padding == "recommend.a lists 0, which is padding"


def parity_of(actual: Arrays) -> TensorParity:
    outputs = (TensorSpec("items", "int32", (1, 4)), TensorSpec("scores", "float32", (1, 4)))
    contract = EntryPoint("recommend", (TensorSpec("ids", "int32", (1, 3)),), outputs)
    case = Case("recommend", "a", IDS, EXPECTED)
    return tensor_parity(lambda *_: actual, [case], {"recommend": contract})


def test_the_verdict_on_a_file() -> None:
    parity = parity_of(EXPECTED)
    assert (parity.problems(LIMITS), parity.max_abs, parity.top10_overlap) == ([], 0, 1)
    swapped = parity_of(listed([3, 5, 4, 1], [4, 3, 2, 1]))
    assert swapped.problems(LIMITS) == ["recommend: share of places with the reference's item 0.5000, limit 0.7"]
    assert swapped.problems(dataclasses.replace(LIMITS, recommend_order=0)) == []
    twice = parity_of(listed([5, 5, 5, 1], [4, 3, 2, 1]))
    assert twice.problems(dataclasses.replace(LIMITS, recommend_order=0, recommend_overlap=0)) == [
        "recommend.a lists an item twice"
    ]
    far = parity_of(listed([5, 3, 4, 1], [40, 3, 2, 1]))
    assert "recommend.a.scores" in far.problems(LIMITS)[0]


def test_a_recipe_of_the_file_may_only_ask_for_more() -> None:
    own = {"recommend_overlap": 0.9, "recommend_order": 0.1}
    stricter = LIMITS.stricter_of(own)
    assert (stricter.recommend_overlap, stricter.recommend_order) == (0.9, 0.7)
