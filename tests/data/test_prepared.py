"""A prepared data set gives back what it was made of, and anything else gives one clear error."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cocorrrec_export.data import prepared as cuts
from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.interactions import Filters, Interactions
from cocorrrec_export.data.prepared import is_cut, read_cut, write_cut
from cocorrrec_export.data.sources import DataSource, load_source, make_cut, resolve_source
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.files import sha256_file
from tests.data.files.public_files import RELEASES, rows, write_release

FILTERS = Filters(min_item_interactions=4, min_user_interactions=5)
ORIGIN = {"data": {}}


def example() -> Interactions:
    items = np.array([1, 2, 3, 3, 2, 1, 2], dtype=np.int32)
    return Interactions(items, np.array([0, 3, 7]), ["a", "é\n,", "日本"], ["u", "v w"])


def equal(first: Interactions, second: Interactions, *, users: bool = True) -> bool:
    same = np.array_equal(first.items, second.items) and np.array_equal(first.offsets, second.offsets)
    same = same and (first.items.dtype, first.offsets.dtype) == (second.items.dtype, second.offsets.dtype)
    return same and first.item_ids == second.item_ids and (not users or first.user_ids == second.user_ids)


@pytest.mark.parametrize("name", ["a.cut", "a.bin"])
def test_gives_back_what_it_was_made_of_by_name_or_by_content(tmp_path: Path, name: str) -> None:
    write_cut(tmp_path / name, example(), ORIGIN)
    assert is_cut(tmp_path / name)
    assert equal(read_cut(tmp_path / name).interactions, example())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_without_user_ids_users_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.cut"
    write_cut(path, example(), ORIGIN, user_ids=False)
    assert b"v w" not in path.read_bytes()
    read = read_cut(path).interactions
    assert equal(read, example(), users=False)
    assert read.user_ids == ["0", "1"]


@pytest.mark.parametrize("name", RELEASES)
def test_a_cut_of_a_file_is_the_file_filtered(tmp_path: Path, name: str) -> None:
    file, out = write_release(tmp_path, RELEASES[name], rows()), tmp_path / "out" / "a.cut"
    source = DataSource(filters=FILTERS)
    made = make_cut(file, source, out)
    assert equal(made, load_source(file, source))
    for asked in (source, DataSource(), DataSource(columns=Columns(user="x"), format="csv")):
        assert equal(load_source(out, asked), made)
        assert resolve_source(out, asked) == source
    assert resolve_source(file, DataSource()) == DataSource()
    origin = read_cut(out).origin
    assert origin["file"] == {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file)}
    again = tmp_path / "again.cut"
    make_cut(file, source, again)
    assert again.read_bytes() == out.read_bytes()


def test_where_it_comes_from_is_read_from_the_header_alone(tmp_path: Path) -> None:
    path, made = tmp_path / "a.cut", DataSource(filters=FILTERS)
    write_cut(path, example(), {"data": made.as_table()})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert resolve_source(path, DataSource()) == made
    with pytest.raises(CocorrrecError, match="its digest does not match its content"):
        load_source(path, DataSource())
    path.write_bytes(data[:20])
    with pytest.raises(CocorrrecError, match="prepared data set"):
        resolve_source(path, DataSource())


def test_a_cut_is_not_filtered_again(tmp_path: Path) -> None:
    file, out = write_release(tmp_path, RELEASES["yelp reviews"], rows()), tmp_path / "a.cut"
    make_cut(file, DataSource(filters=FILTERS), out)
    other = DataSource(filters=Filters(min_item_interactions=5))
    for read in (load_source, resolve_source):
        with pytest.raises(UsageError, match=r"was cut with min_item_interactions 4, .* cannot be filtered again"):
            read(out, other)
    with pytest.raises(UsageError, match="is a prepared data set already"):
        make_cut(out, DataSource(), tmp_path / "b.cut")
    assert not (tmp_path / "b.cut").exists()


def test_a_file_that_cannot_be_read_leaves_no_cut(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"user_id": "u"}\n')
    with pytest.raises(CocorrrecError):
        make_cut(file, DataSource(), tmp_path / "a.cut")
    assert list(tmp_path.iterdir()) == [file]


def test_damaged_bytes_give_one_clear_error(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.cut", np.random.default_rng(0)
    write_cut(path, example(), {"data": DataSource(filters=FILTERS).as_table()})
    good = path.read_bytes()
    damages = [bytearray(good) for _ in good]
    for place, damaged in enumerate(damages):
        damaged[place] ^= 1 << rng.integers(8)
    damages += [bytearray(good[: rng.integers(len(good))]) for _ in range(100)]
    damages += [bytearray(), bytearray(good + b"\0"), bytearray(good + good)]
    damages += [bytearray(rng.bytes(rng.integers(1, 400))) for _ in range(50)]
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(CocorrrecError) as raised:
            load_source(path, DataSource())
        assert re.match(re.escape(f"{path}: ") + r"[^\n]+$", str(raised.value)), raised.value


def rewrite(path: Path, *, entry: dict[str, Any] | None = None, sign: bool = True, **tensors: Any) -> None:
    """Lie, with a digest that fits."""
    with safe_open(path, framework="np") as file:
        facts = json.loads(file.metadata()["cocorrrec_cut"]) | (entry or {})
    held = {name: x for name, x in (load_file(path) | tensors).items() if x is not None}
    if sign:
        facts["sha256"] = cuts._digest(facts, held)
    save_file(held, path, metadata={"cocorrrec_cut": json.dumps(facts)})


def int64(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": np.array([1, 2, 3, 3, 2, 1, 4], np.int32)}, "items 1 to 4, it knows 1 to 3"),
        ({"items": np.array([1, 2, 3, 3, 2, 1, 0], np.int32)}, "items 0 to 3"),
        ({"items": np.ones((7, 1), np.int32)}, "do not belong together"),
        ({"items": np.ones(7, np.int64)}, "damaged, or not a prepared data set"),
        ({"items": None}, "damaged, or not a prepared data set"),
        ({"more": int64(1)}, "damaged, or not a prepared data set"),
        ({"user_ids": None}, "damaged, or not a prepared data set"),
        ({"offsets": int64(0, 2, 7)}, "a user has fewer than 3 interactions"),
        ({"offsets": int64(0, 3, 8)}, "do not belong together"),
        ({"offsets": int64(1, 4, 7)}, "do not belong together"),
        ({"offsets": int64(0, 1 << 62, 7)}, "fewer than 3"),
        ({"offsets": int64(0, 2**63 - 1, 2 - 2**63, 0, 7)}, "fewer than 3"),  # differences that overflow
        ({"offsets": int64(0, 7)}, "2 ids of 1 users"),
        ({"offsets": int64()}, "do not belong together"),
        ({"item_id_ends": int64(1, 5, 12)}, "the item ids do not end where it says"),
        ({"item_id_ends": int64(1, 1, 11)}, "the item ids do not end where it says"),
        ({"item_id_ends": int64(-3, 5, 11)}, "the item ids do not end where it says"),
        ({"item_id_ends": int64(1, 6, 11)}, "utf-8"),
        (
            {"item_ids": np.frombuffer(b"aab", np.uint8), "item_id_ends": int64(1, 2, 3)},
            "two of the item ids are the same",
        ),
        ({"entry": {"format": 1}}, "prepared in format 1, this version reads 2"),
        ({"entry": {"format": None}}, "prepared in format None"),
        ({"entry": {"origin": 7}}, "its header lacks"),
        ({"entry": {"notes": 7}}, "its header lacks"),
        ({"times": int64(1, 2)}, "times or rows and interactions do not belong together"),
        ({"rows": np.ones(8, np.int32)}, "times or rows and interactions do not belong together"),
        ({"entry": {"origin": {}}}, "does not say how it was made"),
        ({"entry": {"origin": {"data": {"filters": 7}}}}, "filters must be a table"),
        ({"entry": {"origin": {"data": {"filter": 7}}}}, "unknown key 'filter'"),
        ({"entry": {"origin": {"data": "x"}}}, "does not say how it was made"),
        ({"entry": {"sha256": 5}, "sign": False}, "digest does not match"),
    ],
    ids=lambda x: str(x)[:40] if isinstance(x, str) else "",
)
def test_lies(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.cut"
    write_cut(path, example(), {"data": DataSource(filters=FILTERS).as_table()})
    rewrite(path)
    load_source(path, DataSource())
    rewrite(path, **changes)
    with pytest.raises(CocorrrecError, match=message) as raised:
        load_source(path, DataSource())
    assert str(raised.value).startswith(str(path))


def test_other_files_are_no_cuts(tmp_path: Path) -> None:
    other = tmp_path / "weights.safetensors"
    save_file({"x": np.ones(3)}, other, metadata={"format": "pt"})
    (tmp_path / "a.csv").write_text("user,item\n")
    assert not any(map(is_cut, [other, tmp_path / "a.csv", tmp_path, tmp_path / "none.cut"]))
    other.rename(tmp_path / "b.cut")
    with pytest.raises(CocorrrecError, match="its header lacks"):
        load_source(tmp_path / "b.cut", DataSource())
    with pytest.raises(UsageError, match="no such file"):
        load_source(tmp_path / "none.cut", DataSource())
