"""The files of Amazon and Yelp: what is read from them, how they are told apart, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cocorrrec_export.data import encoding
from cocorrrec_export.data.files import streaming
from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.files.detection import read_file
from cocorrrec_export.data.files.reading import Reading
from cocorrrec_export.data.interactions import Filters, load_interactions
from cocorrrec_export.errors import CocorrrecError, UsageError
from tests.data.files.public_files import RELEASES, TEXT, Row, csv_lines, rows, write, write_release, yelp_review

USER, ITEM, OTHER = "A39HTATAQ9V7YF", "B00LIBEPDS", "130466578X"
RATING = f"{USER},{ITEM},5.0,1369699200\n"


def amazon(**changes: object) -> str:
    facts = {"reviewerID": USER, "asin": ITEM, "reviewText": TEXT, "overall": 5.0, "unixReviewTime": 1} | changes
    return json.dumps({key: value for key, value in facts.items() if value is not None}) + "\n"


def yelp(**changes: object) -> str:
    facts = {"user_id": "u", "business_id": "b", "stars": 4.0, "date": "2014-07-23 12:34:56"} | changes
    return json.dumps({key: value for key, value in facts.items() if value is not None}) + "\n"


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("chunk", [64, 4096, 4 << 20])
@pytest.mark.parametrize("name", RELEASES)
def test_every_release_is_told_by_itself_and_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int, suffix: str
) -> None:
    release, made = RELEASES[name], rows()
    path = write_release(tmp_path, release, made, suffix=suffix)
    if chunk >= 4096 or release.format == "amazon-ratings":  # telling the format takes a whole first line
        assert_same(read_file_in(path, chunk, monkeypatch), made)
    assert_same(read_file_in(path, chunk, monkeypatch, format=release.format), made)


def read_file_in(path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch, **options: object) -> list[tuple]:
    monkeypatch.setattr(streaming, "_CHUNK", chunk)
    return (
        read_file(path, rating=True, **options).select("user", "item", "rating", pl.col("time").cast(pl.Int64)).rows()
    )  # type: ignore[arg-type]


def assert_same(read: list[tuple], made: list[Row]) -> None:
    assert read == [(row.user, row.item, row.rating, row.time * 10**9) for row in made]


def test_every_release_gives_the_interactions_of_a_plain_csv_file(tmp_path: Path) -> None:
    made, filters = rows(), Filters(min_item_interactions=4, min_user_interactions=5, min_rating=2)
    plain = load_interactions(write(tmp_path / "plain.csv", "".join(csv_lines(made))), filters=filters)
    assert 0 < len(plain.items) < len(made)
    for release in RELEASES.values():
        ours = load_interactions(write_release(tmp_path, release, made), filters=filters)
        assert (ours.item_ids, ours.user_ids) == (plain.item_ids, plain.user_ids)
        np.testing.assert_array_equal(ours.items, plain.items)
        np.testing.assert_array_equal(ours.offsets, plain.offsets)


def test_a_least_rating_counts_before_the_other_filters(tmp_path: Path) -> None:
    lines = [
        f"{user},{item},{rating},1\n" for user in "uv" for item, rating in zip("abcd", (1, 4, 5, 4.5), strict=True)
    ]
    path = write(tmp_path / "a.csv", "user,item,rating,time\n" + "".join(lines) + "w,a,5,1\nw,b,4,1\n")
    made = load_interactions(path, filters=Filters(min_rating=4.0))
    assert (made.user_ids, made.item_ids) == (["u", "v"], ["b", "c", "d"])
    with pytest.raises(CocorrrecError, match=r"with ratings of at least 6 0 users"):
        load_interactions(path, filters=Filters(min_rating=6))
    with pytest.raises(UsageError, match="no column 'stars'"):
        load_interactions(path, columns=Columns(rating="stars"), filters=Filters(min_rating=6))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_least_rating_out_of_range(value: float) -> None:
    with pytest.raises(UsageError, match="min_rating must be a number from 0 on"):
        Filters(min_rating=value)


def test_ratings_are_not_needed_where_they_are_not_asked_for(tmp_path: Path) -> None:
    assert read_file(write(tmp_path / "a.json", amazon(overall=5.0) + amazon(overall=None))).height == 2
    assert read_file(write(tmp_path / "b.csv", RATING + f"{USER},{ITEM},,1369699207\n")).height == 2


def test_blank_lines_line_ends_and_a_missing_last_one(tmp_path: Path) -> None:
    text = "\ufeff\n" + yelp() + "\r\n\n" + yelp(date="2014-07-23").replace("\n", "\r\n") + "  \n" + yelp().strip()
    frame = read_file(write(tmp_path / "a.json", text))
    assert frame["time"].dt.epoch("s").to_list() == [1406118896, 1406073600, 1406118896]
    text = "\ufeff\n" + RATING.replace("\n", "\r\n") + "\n\r\n" + RATING.strip()
    assert read_file(write(tmp_path / "a.csv", text)).height == 2
    assert read_file(write(tmp_path / "b.csv", text + "\n" * 10)).height == 2


def test_columns_can_be_named_by_key_by_header_and_by_place(tmp_path: Path) -> None:
    made = rows(5)
    path = write_release(tmp_path, RELEASES["amazon reviews 2023"], made)
    assert read_file(path, columns=Columns(item="asin"))["item"].unique().to_list() == ["B000OTHER1"]
    path = write_release(tmp_path, RELEASES["amazon ratings 2023"], made)
    for name in ("auto", "csv", "amazon-ratings"):
        frame = read_file(path, format=name, columns=Columns(user="parent_asin", item="user_id"))
        assert frame["user"].to_list() == [row.item for row in made]
    path = write(tmp_path / "unlike.csv", "1,2,5.0,7\n")
    with pytest.raises(UsageError, match="users and items cannot be distinguished by their form: give --user-column 1"):
        read_file(path, format="amazon-ratings")
    frame = read_file(path, format="amazon-ratings", columns=Columns("2", "1"))
    assert frame.select("user", "item", "time").rows() == [("2", "1", 7)]
    for place in ("0", "5", "title", "²"):
        with pytest.raises(UsageError, match=f"--user-column takes a place from 1 to 4, got '{place}'"):
            read_file(path, format="amazon-ratings", columns=Columns(place, "1"))


def test_odd_ids_do_not_hide_which_column_is_which(tmp_path: Path) -> None:
    lines = [f"{OTHER},A1,5.0,{t}" for t in range(20)] + ["#oc-R11X,B00000TEST,1.0,3"]
    path = write(tmp_path / "a.csv", "\n".join(lines))
    assert read_file(path)["item"].to_list()[:2] == [OTHER, OTHER]


def test_an_ordinary_csv_file_stays_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'user'"):
        read_file(write(tmp_path / "a.csv", "usr,item,rating,timestamp\nA1,x,5,1\n"))
    frame = read_file(write(tmp_path / "b.csv", f"user,item,rating,timestamp\n{USER},{ITEM},5,1\n"))
    assert frame.select("user", "item", "time").rows() == [(USER, ITEM, 1)]


LOOSE = "{'reviewerID': 'A', 'asin': 'B', 'overall': 5.0, 'unixReviewTime': 1}\n"
FAULTS = [
    ("a.json", yelp() + "\n" + yelp(stars="5")[:20] + "\n", "line 3: not JSON: "),
    ("a.json", yelp() * 2 + yelp().strip()[:-3], "line 3: not JSON: Input data was truncated"),
    ("a.json", yelp() + yelp(date=None), "line 2: no key 'date'"),
    ("a.json", yelp() + yelp(user_id=5.5), r"line 2: Expected 'int | str', got 'float' - at '\$.user_id'"),
    ("a.json", yelp() + yelp(business_id=""), "line 2: Expected 'str' of length >= 1"),
    ("a.json", yelp() + yelp(stars="5"), r"line 2: Expected 'float', got 'str' - at '\$.stars'"),
    ("a.json", yelp() + "\n" + yelp(date="23.7.2014"), "line 3: date is '23.7.2014', expected a date as 2014-07-23"),
    ("a.json", yelp(date="2014-02-30"), "line 1: date is '2014-02-30'"),
    ("a.json", yelp() + yelp().strip() + yelp(), "line 2: not JSON: trailing characters"),
    ("a.json", yelp() + yelp().replace(", ", ",\n"), "line 2: not JSON: "),
    ("a.json", yelp() + "[1]\n", "line 2: Expected 'object', got 'array'"),
    ("a.json", yelp() + '{"a": ' + "[" * 100_000 + "\n", "line 2: nested too deeply"),
    ("a.json", '{"a": ' + "[" * 100_000 + "\n", "line 1: nested too deeply"),
    ("a.json", b"\n" + yelp().encode() + b'{"text": "\xff"}\n', "line 3: not UTF-8"),
    ("a.json", yelp().encode() + b'{"text": "\0"}\n', "line 2: not UTF-8 text: holds a zero byte"),
    ("a.json", yelp() + '{"user_id": "\\ud800"}\n', "line 2: not JSON: "),
    ("a.json", "", "is empty"),
    ("a.json", "\n \n", "is empty"),
    ("a.json", "user,item\n", "line 1: not JSON"),
    ("a.json", "[" + yelp().strip() + ", [", "not a complete json file"),
    ("a.json", '{"business_id": "b", "name": "n"}\n', "no column 'rating'|no column 'user'"),
    ("a.json", LOOSE, "line 1: holds a Python literal, not JSON.*ast.literal_eval"),
    ("a.json", amazon() + LOOSE, "line 2: holds a Python literal"),
    ("a.json", amazon() + amazon(unixReviewTime="1"), r"line 2: Expected 'int \| float', got 'str' - at "),
    ("a.json", amazon() + amazon(unixReviewTime=1 << 70), "line 2: Expected 'int' <="),
    ("a.csv", RATING + f"{USER},{ITEM},5.0\n", "line 2: 3 fields, expected 4"),
    ("a.csv", RATING + "\n" + RATING.strip() + ",\n", "line 3: 5 fields, expected 4"),
    ("a.csv", RATING + f",{ITEM},5.0,1\n", "line 2: user is '', expected a value"),
    ("a.csv", RATING + f"{USER},,5.0,1\n", "line 2: item is '', expected a value"),
    ("a.csv", RATING + f"{USER},{ITEM},five,1\n", "line 2: rating is 'five', expected a number"),
    ("a.csv", RATING + f"{USER},{ITEM},nan,1\n", "line 2: rating is 'nan', expected a number"),
    ("a.csv", RATING + f"{USER},{ITEM},5.0,soon\n", "line 2: time is 'soon', expected whole seconds"),
    ("a.csv", RATING.encode() + b"\xff,a,1,1\n", "line 2: not UTF-8"),
    ("a.csv", RATING.encode() + b"a\0,a,1,1\n", "line 2: not UTF-8 text: holds a zero byte"),
    ("a.csv", "user_id,parent_asin,rating,timestamp\n", "a header and no row"),
    ("a.csv", "user_id,parent_asin,rating,timestamp\n\na,b,1,\n", "line 3: timestamp is '', expected whole seconds"),
    ("a.tar", b"x", "is an archive; unpack it"),
    ("yelp.tar.gz", b"x", "is an archive; unpack it"),
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("name", "text", "message"), FAULTS, ids=range(len(FAULTS)))
def test_refuses(tmp_path: Path, name: str, text: str | bytes, message: str, suffix: str) -> None:
    if suffix and ("gzipped" in message or "archive" in message):
        return
    path = write(tmp_path / (name + suffix), text)
    with pytest.raises(CocorrrecError, match=message) as raised:
        read_file(path, rating=True)
    assert str(raised.value).startswith(str(path))
    assert len(str(raised.value).splitlines()) == 1


def test_a_named_format_is_held_to(tmp_path: Path) -> None:
    reviews, ratings = write(tmp_path / "a.json", yelp()), write(tmp_path / "a.csv", RATING)
    with pytest.raises(UsageError, match=r"line 1: no key 'parent_asin' as amazon-reviews have \(found: user_id"):
        read_file(reviews, format="amazon-reviews", columns=Columns(time="date", rating="stars"))
    with pytest.raises(CocorrrecError, match="line 1: not JSON"):
        read_file(ratings, format="yelp-reviews")
    with pytest.raises(CocorrrecError, match="a header and no row"):
        read_file(ratings, format="csv", reading=Reading(header="yes"))
    with pytest.raises(UsageError, match="users and items cannot be distinguished"):
        read_file(reviews, format="amazon-ratings")
    with pytest.raises(UsageError, match="format 'yelp'"):
        read_file(reviews, format="yelp")


@pytest.mark.parametrize("name", ["yelp reviews", "amazon ratings 2014", "amazon reviews 2014"])
def test_damaged_bytes_give_rows_or_one_clear_error(tmp_path: Path, name: str) -> None:
    rng, release = np.random.default_rng(0), RELEASES[name]
    path = write_release(tmp_path, release, rows(12))
    good, messages = path.read_bytes(), []
    for turn in range(300):
        damaged = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.choice(list(b'",\n\r{}[]: x0\\\x00\xff'))
        end = rng.integers(len(damaged) // 2, len(damaged)) if turn % 3 == 0 else len(damaged)
        path.write_bytes(damaged[:end])
        try:
            assert read_file(path).height
        except CocorrrecError as error:
            messages.append(str(error))
    assert 50 < len(messages) < 300
    assert all(re.match(re.escape(str(path)) + "(, (line|row) [0-9]+)?: ", message) for message in messages)


def test_damaged_gzip_gives_one_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json.gz", "".join(map(yelp_review, rows(50))))
    good = path.read_bytes()
    for cut in (len(good) - 1, len(good) - 9, len(good) // 2, 12):
        path.write_bytes(good[:cut])
        with pytest.raises(CocorrrecError, match=r"not a complete gzip file|line \d"):
            read_file(path, format="yelp-reviews")
    path.write_bytes(good[:-6] + b"\0" + good[-5:])
    with pytest.raises(CocorrrecError, match="not a complete gzip file"):
        read_file(path, format="yelp-reviews")


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = write(tmp_path / "a.json", yelp() * 100)
    packed = write(tmp_path / "a.json.gz", yelp() * 1000)
    monkeypatch.setattr(streaming, "_RATIO_FROM", 10_000)
    monkeypatch.setattr(streaming, "MAX_RATIO", 2)
    with pytest.raises(CocorrrecError, match="unpacks to more than 2 times its size"):
        read_file(packed)
    monkeypatch.setattr(streaming, "_CHUNK", 128)
    monkeypatch.setattr(encoding, "MAX_ROWS", 99)
    with pytest.raises(CocorrrecError, match="holds more than 99 interactions"):
        read_file(plain)
    monkeypatch.setattr(streaming, "MAX_STREAM_BYTES", 1000)
    with pytest.raises(CocorrrecError, match="holds more than 1000 bytes"):
        read_file(plain)


@pytest.mark.parametrize("chunk", [100, 1000])
def test_the_length_of_a_line_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(streaming, "_CHUNK", chunk)
    monkeypatch.setattr(streaming, "MAX_LINE", 1000)
    fits, longer = yelp(text="x" * 800), yelp(text="x" * 1000)
    assert read_file(write(tmp_path / "a.json", fits * 3), format="yelp-reviews").height == 3
    with pytest.raises(CocorrrecError, match="line 3: longer than 1000 bytes"):
        read_file(write(tmp_path / "b.json", fits * 2 + longer + fits), format="yelp-reviews")


def test_progress_counts_the_bytes_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_CHUNK", 1000)
    for path in (write(tmp_path / "a.json", yelp() * 100), write(tmp_path / "a.json.gz", yelp() * 100)):
        heard: list[tuple[int, int]] = []
        read_file(path, format="yelp-reviews", progress=lambda done, size, heard=heard: heard.append((done, size)))
        size = path.stat().st_size
        assert heard == sorted(heard)
        assert heard[-1] == (size, size)
