"""Filters, order, split: on tables that fit in the head, and against slow code on real data."""

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cocorrrec_export.data.interactions import Filters, Interactions, load_interactions, prepare
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.data.statistics import statistics
from cocorrrec_export.errors import CocorrrecError, UsageError


def frame(*rows: tuple[str, str, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")


def sequences(interactions: Interactions) -> dict[str, list[str]]:
    parts = np.split(interactions.items, interactions.offsets[1:-1])
    return {
        user: [interactions.item_ids[i - 1] for i in part]
        for user, part in zip(interactions.user_ids, parts, strict=True)
    }


def test_order_is_by_time_and_ties_may_keep_the_order_of_the_file() -> None:
    made = prepare(
        frame(("u", "c", 2), ("u", "a", 1), ("v", "b", 9), ("u", "b", 2), ("v", "a", 9), ("v", "c", 1)),
        filters=Filters(),
        ties="file",
    )
    assert sequences(made) == {"u": ["a", "c", "b"], "v": ["c", "b", "a"]}


def test_internal_ids_do_not_depend_on_the_order_of_the_rows() -> None:
    rows = [("2", "30", 1.0), ("10", "4", 1.0), ("2", "4", 2.0), ("10", "30", 2.0), ("2", "100", 3.0), ("10", "7", 3.0)]
    first, second = prepare(frame(*rows), filters=Filters()), prepare(frame(*rows[::-1]), filters=Filters())
    assert first.item_ids == ["4", "7", "30", "100"] == second.item_ids
    assert first.user_ids == ["2", "10"]
    assert first.vocabulary_sha256 == second.vocabulary_sha256
    np.testing.assert_array_equal(first.items, second.items)


def test_ids_of_the_same_number_have_one_order() -> None:
    ids = ["1", "01", "001", "0"]
    for order in itertools.permutations(ids):
        assert prepare(frame(*(("u", i, t) for t, i in enumerate(order))), filters=Filters()).item_ids == sorted(ids)


def test_items_are_filtered_first_then_users_each_once() -> None:
    rows = [(user, item, t) for user in "uvw" for t, item in enumerate("abc")]
    rows += [("u", "rare", 9), ("x", "rare2", 1), ("x", "a", 2), ("x", "b", 3)]
    made = prepare(frame(*rows), filters=Filters(min_item_interactions=2))
    assert sequences(made) == {"u": ["a", "b", "c"], "v": ["a", "b", "c"], "w": ["a", "b", "c"]}


def test_nothing_left_says_what_each_step_left() -> None:
    with pytest.raises(CocorrrecError, match="in the file 1 users, 2 items, 2 interactions; with items of at least 1"):
        prepare(frame(("u", "a", 1), ("u", "b", 2)), filters=Filters())


@pytest.mark.parametrize("values", [{"min_item_interactions": 0}, {"min_user_interactions": 2}])
def test_filters_out_of_range(values: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be at least"):
        Filters(**values)


def test_split_by_hand() -> None:
    made = prepare(frame(*(("u", item, t) for t, item in enumerate("abcde"))), filters=Filters())
    split = leave_last_out(made, sequence_length=3)
    train, validation, test = (part.all() for part in (split.train, split.validation, split.test))
    assert train.histories.tolist() == [[1, 0, 0], [1, 2, 0]]
    assert train.targets.tolist() == [2, 3]
    assert validation.histories.tolist() == [[1, 2, 3]]
    assert validation.targets.tolist() == [4]
    assert test.histories.tolist() == [[2, 3, 4]]
    assert test.targets.tolist() == [5]


def test_split_equals_slow_code() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 30, size=40)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    items = rng.integers(1, 50, size=offsets[-1]).astype(np.int32)
    made = Interactions(items, offsets, [str(i) for i in range(49)], [str(u) for u in range(40)])
    expected: dict[str, list[tuple[int, list[int], int]]] = {"train": [], "validation": [], "test": []}
    for user, (start, end) in enumerate(itertools.pairwise(offsets)):
        for at in range(start + 1, end):
            history = items[max(start, at - 10) : at].tolist()
            part = {end - 1: "test", end - 2: "validation"}.get(at, "train")
            expected[part].append((user, history + [0] * (10 - len(history)), int(items[at])))
    split = leave_last_out(made, sequence_length=10)
    for part, rows in expected.items():
        examples = getattr(split, part).all()
        actual = zip(examples.users.tolist(), examples.histories.tolist(), examples.targets.tolist(), strict=True)
        assert list(actual) == rows


def test_beauty_cut(data_dir: Path) -> None:
    made = load_interactions(data_dir / "beauty.inter.csv.gz", filters=Filters(3, 13))
    facts = statistics(made)
    assert (facts.users, facts.items, facts.interactions) == (4_328, 22_479, 98_370)
    assert round(facts.interactions_per_user, 1) == 22.7


def test_movielens(data_dir: Path) -> None:
    facts = statistics(load_interactions(data_dir / "ml-latest-small.inter.csv.gz"))
    assert (facts.users, facts.items, facts.interactions) == (671, 9_066, 100_004)
