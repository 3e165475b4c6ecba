"""Clicks that are filtered some users at a time: the same as in one table."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from cocorrrec_export.data import large, mapping
from cocorrrec_export.data.files.detection import read_file
from cocorrrec_export.data.interactions import Filters, Interactions, prepare
from cocorrrec_export.data.prepared import read_cut, write_cut
from cocorrrec_export.errors import CocorrrecError

FILTERS = (
    Filters(),
    Filters(min_item_interactions=9, min_user_interactions=8),
    Filters(min_rating=3.5, drop_repeats="consecutive"),
    Filters(drop_repeats="all", max_item_interactions=60, max_user_interactions=30),
    Filters(min_item_interactions=2, k_core=7, last=5),
)


def clicks(kind: str) -> pl.DataFrame:
    """300 users, whose ids are not in the order of their clicks; times tie."""
    rng, count = np.random.default_rng(2), 4_000
    time = rng.integers(0, 40, count)
    times = {
        "date": pl.Series(time * 10**9).cast(pl.Datetime("ns")),
        "number": pl.Series(time / 8),
        "row": pl.Series(np.arange(1, count + 1), dtype=pl.UInt32),
    }
    items = (rng.integers(1, 200, count) * rng.random(count)).astype(int)
    return pl.DataFrame(
        {
            "user": [f"u{x}" for x in rng.integers(0, 300, count) ** 2 % 307],
            "item": [str(x) for x in items],
            "time": times[kind],
            "row": pl.Series(np.arange(1, count + 1), dtype=pl.UInt32),
            "rating": rng.integers(1, 6, count).astype(float),
        }
    )


def facts(made: Interactions) -> dict[str, Any]:
    arrays = {name: getattr(made, name) for name in ("items", "offsets", "times", "rows")}
    if made.times is not None and not made.dated:  # places in an order, of which filters leave some
        arrays["times"] = np.unique(made.times, return_inverse=True)[1]
    kinds = {name: None if x is None else (str(x.dtype), x.tolist()) for name, x in arrays.items()}
    return kinds | {"ids": made.item_ids, "users": made.user_ids, "dated": made.dated, "notes": made.notes}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set is a large one, in files, and a part has few clicks."""
    monkeypatch.setattr(large, "FROM", 1)
    monkeypatch.setattr(large, "BLOCK", 333)
    monkeypatch.setattr(mapping, "SCRATCH_BYTES", 0)


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("kind", ["date", "number", "row"])
def test_filters_and_order_are_those_of_one_table(request: pytest.FixtureRequest, kind: str, filters: Filters) -> None:
    whole = facts(prepare(clicks(kind), filters=filters, ties="file"))
    request.getfixturevalue("small")
    assert facts(prepare(clicks(kind), filters=filters, ties="file")) == whole
    assert len(whole["items"][1]) > 100


@pytest.mark.usefixtures("small")
def test_ties_are_drawn_the_same_for_the_same_file() -> None:
    first, again = (prepare(clicks("date"), filters=Filters()) for _ in range(2))
    in_order = prepare(clicks("date"), filters=Filters(), ties="file")
    assert facts(first) == facts(again) != facts(in_order)
    assert first.times is not None and in_order.times is not None
    np.testing.assert_array_equal(first.times, in_order.times)


@pytest.mark.parametrize("filters", [Filters(k_core=500), Filters(min_rating=9.0)])
def test_nothing_left_says_the_same(request: pytest.FixtureRequest, filters: Filters) -> None:
    said = []
    for _ in range(2):
        with pytest.raises(CocorrrecError, match="nothing is left after the filters: in the file") as raised:
            prepare(clicks("date"), filters=filters)
        said.append(str(raised.value))
        request.getfixturevalue("small")
    assert said[0] == said[1]


def test_a_folder_of_parts_is_read_part_by_part_into_codes(tmp_path: Path) -> None:
    table = clicks("date").select("user", "item", time=pl.col("time").cast(pl.Int64) // 10**9 + 10**9)
    for part in range(3):
        table[part * 1500 : (part + 1) * 1500].write_csv(tmp_path / f"part-{part}.csv")
    read = read_file(tmp_path)
    assert all(isinstance(read[what].dtype, pl.Categorical) for what in ("user", "item"))
    assert read["user"].cast(pl.String).to_list() == table["user"].to_list()
    assert read["row"].to_list() == list(range(1, len(table) + 1))


def test_a_prepared_data_set_is_the_file_that_the_library_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "_BLOCK", 70)
    made = prepare(clicks("date"), filters=Filters(min_user_interactions=4))
    write_cut(tmp_path / "a.cut", made, {"data": {}})
    assert facts(read_cut(tmp_path / "a.cut").interactions) == facts(made)
    tensors = {name: np.array(x) for name, x in mapping.map_tensors(tmp_path / "a.cut").items()}
    size = int.from_bytes((tmp_path / "a.cut").read_bytes()[:8], "little")
    save_file(tensors, tmp_path / "b", metadata={"a": "b"})
    other = int.from_bytes((tmp_path / "b").read_bytes()[:8], "little")
    assert (tmp_path / "a.cut").read_bytes()[8 + size :] == (tmp_path / "b").read_bytes()[8 + other :]
