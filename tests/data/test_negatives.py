"""Negatives: never an item of the user's, and every other item equally often."""

import numpy as np
import pytest

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.negatives import NegativeSampler, evaluation_candidates
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.errors import CocorrrecError


def made(sequences: list[list[int]], items: int) -> Interactions:
    offsets = np.concatenate(([0], np.cumsum([len(s) for s in sequences]))).astype(np.int64)
    flat = np.concatenate([np.array(s, dtype=np.int32) for s in sequences])
    return Interactions(flat, offsets, [str(i) for i in range(1, items + 1)], [f"u{u}" for u in range(len(sequences))])


SEQUENCES = [[1, 2, 3], [6, 4, 6, 5], [1, 6, 2, 5, 3]]  # of 6 items; user 1 repeats one


def test_only_free_items_and_each_of_them() -> None:
    sampler = NegativeSampler(made(SEQUENCES, 6))
    drawn = sampler.sample(np.array([0, 1, 2, 1]), 200, rng=np.random.default_rng(0))
    assert [set(row) for row in drawn.tolist()] == [{4, 5, 6}, {1, 2, 3}, {4}, {1, 2, 3}]


def test_uniform() -> None:
    rng = np.random.default_rng(1)
    sequences = [rng.choice(np.arange(1, 41), size=n, replace=False).tolist() for n in (5, 17, 30)]
    sampler = NegativeSampler(made(sequences, 40))
    for user, taken in enumerate(sequences):
        drawn = sampler.sample(np.full(20_000, user), 1, rng=rng).ravel()
        counts = np.bincount(drawn, minlength=41)
        free = np.setdiff1d(np.arange(1, 41), taken)
        expected = 20_000 / len(free)
        assert counts[free].sum() == 20_000
        # Chi-square with n - 1 degrees of freedom stays below n + 6 sqrt(2 n) but once in a million.
        assert ((counts[free] - expected) ** 2 / expected).sum() < len(free) + 6 * np.sqrt(2 * len(free))


@pytest.mark.parametrize("items", [30, 100, 5_000])
def test_distinct_negatives_do_not_repeat(items: int) -> None:
    rng = np.random.default_rng(2)
    sequences = [rng.choice(np.arange(1, items + 1), size=9, replace=False).tolist() for _ in range(50)]
    sampler = NegativeSampler(made(sequences, items))
    drawn = sampler.sample(np.arange(50), 20, rng=rng, distinct=True)
    for taken, row in zip(sequences, drawn.tolist(), strict=True):
        assert len(set(row)) == 20
        assert not set(row) & set(taken)
        assert min(row) >= 1 and max(row) <= items


def test_every_free_item_when_just_enough_are_left() -> None:
    drawn = NegativeSampler(made(SEQUENCES, 6)).sample(np.array([0, 1]), 3, rng=np.random.default_rng(3), distinct=True)
    assert [sorted(row) for row in drawn.tolist()] == [[4, 5, 6], [1, 2, 3]]


def test_too_few_items_names_the_user() -> None:
    sampler = NegativeSampler(made(SEQUENCES, 6))
    with pytest.raises(CocorrrecError, match="user 'u2' interacted with all but 1 of 6 items: 2 negatives"):
        sampler.sample(np.array([0, 2]), 2, rng=np.random.default_rng(0), distinct=True)
    full = NegativeSampler(made([[1, 2, 3]], 3))
    with pytest.raises(CocorrrecError, match="all but 0 of 3"):
        full.sample(np.array([0]), 1, rng=np.random.default_rng(0))


def test_evaluation_candidates_follow_the_seed() -> None:
    rng = np.random.default_rng(4)
    data = made([rng.integers(1, 300, size=12).tolist() for _ in range(20)], 300)
    test, sampler = leave_last_out(data, sequence_length=10).test, NegativeSampler(data)
    first, again, other = (
        evaluation_candidates(test, sampler, negatives=100, rng=np.random.default_rng(s)) for s in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(first[:, 0], test.all().targets)
    assert first.shape == (20, 101)
