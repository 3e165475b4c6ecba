"""Comparisons against figures worked out by hand."""

import dataclasses
import math

import numpy as np
import pytest

from cocorrrec_export.contract import EntryPoint, ParityLimits, TensorSpec
from cocorrrec_export.parity.tensors import compare, new_ties, tensor_parity, top_overlap
from cocorrrec_export.parity.vectors import Case
from cocorrrec_export.runtime.base import Arrays

LIMITS = ParityLimits(max_abs=0.1, max_rel=0.1, top10_overlap=0.9, metrics_abs=0.1, ndcg10_rel=0.1)
RANK = EntryPoint("rank", (TensorSpec("ids", "int32", (1, 2)),), (TensorSpec("scores", "float32", (1, 4)),))
ENCODE = EntryPoint("encode", (TensorSpec("ids", "int32", (1, 2)),), (TensorSpec("H", "float32", (1, 4)),))
CONTRACTS = {"rank": RANK, "encode": ENCODE}


def array(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def test_by_hand() -> None:
    comparison = compare("x", array(3, -4, 0, 0), array(3, -4, 0, 0.5))
    assert comparison.max_abs == 0.5
    assert comparison.mean_abs == comparison.mean_signed == 0.125
    assert comparison.max_rel == 0.125
    assert comparison.sqnr_db == pytest.approx(10 * math.log10(25 / 0.25))
    assert str(comparison) == "x [1, 4]: max 0.5, mean 0.125, signed +0.125, relative 0.125, SQNR 20.0 dB"
    assert compare("x", array(1, 2, 3, 4), array(1, 2, 3, 3)).mean_signed == -0.25


def test_equal_zero_and_not_finite() -> None:
    same = compare("x", array(0, 1), array(0, 1))
    assert (same.max_rel, same.sqnr_db) == (0.0, math.inf)
    from_zero = compare("x", array(0, 0), array(0, 1e-9))
    assert (from_zero.max_rel, from_zero.sqnr_db) == (math.inf, -math.inf)
    for bad in (math.nan, math.inf):
        assert compare("x", array(1, 2), array(1, bad)).max_rel == math.inf
    with pytest.raises(ValueError, match=r"x is \[1, 3\], the reference is \[1, 2\]"):
        compare("x", array(1, 2), array(1, 2, 3))


def test_top_overlap_by_hand() -> None:
    reference = np.arange(40, dtype=np.float32)
    assert top_overlap(reference, reference * 2 + 1) == 1.0
    assert top_overlap(reference, -reference) == 0.0
    swapped = reference.copy()
    swapped[30], swapped[29] = 29, 30  # the tenth best and the eleventh
    assert top_overlap(reference, swapped) == 0.9
    # Of a short list it is the better half: the best ten of four would agree whatever came out.
    assert top_overlap(np.array([4.0, 3.0, 2.0, 1.0]), np.array([4.0, 1.0, 2.0, 3.0])) == 0.5


def test_candidates_that_rounding_alone_tells_apart_have_no_order() -> None:
    reference = np.array([0.9, 0.5, 0.5, 0.5 - 1e-7, 0.2, 0.1])
    for best in ([0, 1, 2], [0, 3, 2], [3, 1, 0]):
        actual = np.zeros(6)
        actual[best] = [3, 2, 1]
        assert top_overlap(reference, actual) == 1.0
    assert top_overlap(reference, np.array([0.9, 0.5, 0.1, 0.1, 0.8, 0.1])) == pytest.approx(2 / 3)


def cases() -> list[Case]:
    ids = np.array([[1, 2]])
    return [
        Case("encode", "a", {"ids": ids}, {"H": array(10, 0, 0, 0)}),
        Case("rank", "a", {"ids": ids}, {"scores": array(0.9, 0.8, 0.2, 0.1)}),
    ]


def runner(**changes: np.ndarray) -> object:
    outputs = {case.entry_point: dict(case.expected) for case in cases()}

    def run(entry_point: str, inputs: Arrays) -> Arrays:
        assert inputs["ids"].dtype == np.int32
        return outputs[entry_point] | {k: v for k, v in changes.items() if k in outputs[entry_point]}

    return run


def test_within_the_limits() -> None:
    parity = tensor_parity(runner(), cases(), CONTRACTS)  # type: ignore[arg-type]
    assert parity.problems(LIMITS) == []
    assert (parity.max_abs, parity.max_rel, parity.top10_overlap) == (0.0, 0.0, 1.0)


def test_the_worst_tensor_is_named_first_with_its_limits() -> None:
    run = runner(H=array(12, 0, 0, 0), scores=array(0.9, 0.1, 0.2, 0.8))
    parity = tensor_parity(run, cases(), CONTRACTS)  # type: ignore[arg-type]
    worst, more, overlap = parity.problems(LIMITS)
    assert worst.startswith("rank.a.scores [1, 4]: max 0.7")
    assert worst.endswith("limits: max 0.1, relative 0.1")
    assert more == "1 more of 2 tensors are beyond the limits"
    assert overlap == "top-10 overlap 0.5000, limit 0.9"


def test_max_abs_is_asked_of_scores_alone() -> None:
    parity = tensor_parity(runner(H=array(10.5, 0, 0, 0)), cases(), CONTRACTS)  # type: ignore[arg-type]
    assert parity.problems(LIMITS) == []
    assert parity.max_abs == 0.0
    parity = tensor_parity(runner(scores=array(0.9, 0.8, 0.2, math.nan)), cases(), CONTRACTS)  # type: ignore[arg-type]
    assert "rank.a.scores" in parity.problems(LIMITS)[0]


def test_new_ties_by_hand() -> None:
    """The reference ties the last two itself; the file ties the first two, and the third with the fourth."""
    reference = np.array([3.0, 2.0, 1.0, 0.5, 0.25, 0.25])
    assert new_ties(reference, reference) == 0
    assert new_ties(reference, np.array([1.0, 1.0, 0.4, 0.4, 0.1, 0.1])) == pytest.approx(4 / 6)
    assert new_ties(reference, np.ones(6)) == 1
    assert new_ties(reference + 1e6, np.array([3.0, 2.0, 1.0, 0.5, 0.2, 0.2])) == 0  # float32 cannot tell them apart


def test_scores_that_lost_their_order_are_refused() -> None:
    """Sigmoids of large logits: close to the reference, the ten best right where they are first, and all alike."""
    reference = np.linspace(30, 17.5, 40, dtype=np.float32)[None]
    case = Case("rank", "x", {}, {"scores": (1 / (1 + np.exp(-reference.astype(np.float64)))).astype(np.float32)})
    contract = EntryPoint("rank", (), (TensorSpec("scores", "float32", (1, 40)),))
    logits = Case("rank", "x", {}, {"scores": reference})
    squashed = reference.round()
    parity = tensor_parity(lambda *_: {"scores": squashed}, [logits], {"rank": contract})
    loose = dataclasses.replace(LIMITS, max_abs=1, max_rel=1, top10_overlap=0)
    assert parity.ties > 0.9 and any("are tied with another one" in line for line in parity.problems(loose))
    same = tensor_parity(lambda *_: {"scores": case.expected["scores"]}, [case], {"rank": contract})
    assert same.ties == 0  # what the reference ties is not a fault of the file


def test_a_reference_that_is_not_finite_fails() -> None:
    for value in (np.nan, np.inf):
        found = compare("x", np.array([1.0, value]), np.array([1.0, value]))
        assert found.max_abs == found.max_rel == math.inf


def test_few_scores_are_judged_on_the_scale_of_all() -> None:
    """A score near zero, alone in its call, is not a reason to refuse a file: other calls say how large scores are."""
    contract = EntryPoint("rank", (), (TensorSpec("scores", "float32", (1, 1)),))
    values = np.array([3.0, 1e-7, -2.0])
    cases = [Case("rank", str(i), {}, {"scores": np.array([[x]])}) for i, x in enumerate(values)]
    answers = iter(values + 1e-5)
    parity = tensor_parity(lambda *_: {"scores": np.array([[next(answers)]])}, cases, {"rank": contract})
    assert parity.max_rel == pytest.approx(1e-5 / 3.0)


def test_a_state_that_has_hardly_begun_is_judged_on_the_scale_of_all() -> None:
    """The first click after a commit: its sum is small, and so is what a rounded row does to it."""
    contract = EntryPoint(
        "step", (), (TensorSpec("sum_next", "float32", (1, 1)), TensorSpec("user", "float32", (1, 1)))
    )
    values = (4.0, 0.01)
    cases = [Case("step", f"click{x}", {}, {"sum_next": array(x), "user": array(x)}) for x in values]
    answers = iter(values)

    def run(*_: object) -> Arrays:
        value = next(answers)
        return {"sum_next": array(value + 0.02), "user": array(value)}

    found = {x.name: x.max_rel for x in tensor_parity(run, cases, {"step": contract}).comparisons}
    assert found["step.click0.01.sum_next"] == pytest.approx(0.02 / 4, rel=1e-5)
    answers = iter((4.0, 0.02))
    off = tensor_parity(lambda *_: {"sum_next": array(x := next(answers)), "user": array(x)}, cases, {"step": contract})
    assert off.comparisons[-1].max_rel == pytest.approx(1)  # the user is judged on its own
