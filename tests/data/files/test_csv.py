"""Readers: what they accept, and the one sentence they answer anything else with."""

import gzip
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cocorrrec_export.data.files import csv as readers
from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.files.csv import read_table
from cocorrrec_export.data.files.detection import read_file
from cocorrrec_export.errors import CocorrrecError, UsageError


def read_interactions(path: Path, *, columns: Columns | None = None) -> pl.DataFrame:
    return read_file(path, format="csv", columns=columns).select("user", "item", "time")


ROWS = [("a", "x", 3.0), ("a", "y", 1.0), ("b", "x", 2.0)]


def write(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", "user,item,timestamp\na,x,3\na,y,1\nb,x,2\n", None),
        ("a.csv.gz", "user,item,timestamp\na,x,3\na,y,1\nb,x,2\n", None),
        ("a.csv", "\ufeffuser,item,order\r\na,x,3\r\na,y,1\r\nb,x,2", None),
        ("a.csv", "item,when,rating,user\nx,3,5,a\ny,1,5,a\n\nx,2,,b\n", Columns(time="when")),
        ("a.csv", 'userId,movieId,title,time\na,x,"one, two\nthree",3\na,y,"say ""hi""",1\nb,x,,2\n',
         Columns("userId", "movieId")),
        ("a.tsv", "user\titem\ttime\na\tx\t3\na\ty\t1\nb\tx\t2\n", None),
        ("a.inter", "user_id:token\titem_id:token\ttimestamp:float\na\tx\t3\na\ty\t1.0\nb\tx\t2\n", None),
        ("a.inter.gz", "uid:token\titem_id:token\ttimestamp:float\na\tx\t3\na\ty\t1\nb\tx\t2\n", Columns(user="uid")),
    ],
)  # fmt: skip
def test_accepts(tmp_path: Path, name: str, text: str, columns: Columns | None) -> None:
    assert read_interactions(write(tmp_path / name, text), columns=columns).rows() == ROWS


def test_without_a_time_the_order_of_the_rows_counts(tmp_path: Path) -> None:
    frame = read_interactions(write(tmp_path / "a.csv", "user,item\na,x\na,y\n"))
    assert frame["time"].to_list() == [1, 2]


def test_dates(tmp_path: Path) -> None:
    frame = read_interactions(write(tmp_path / "a.csv", "user,item,time\na,x,2014-07-23\na,y,2014-07-22\n"))
    assert frame["time"][0] - frame["time"][1] == timedelta(days=1)


def test_places_in_an_order_that_read_as_days_of_the_year_1000(tmp_path: Path) -> None:
    frame = read_interactions(write(tmp_path / "a.csv", "user,item,time\na,x,1000102\na,y,1000101\n"))
    assert frame["time"].to_list() == [1000102, 1000101]


@pytest.mark.parametrize("second", ["2014-07-23 00:00:01", "2014-07-23T00:00:01", "2014-07-23T02:00:01+02:00"])
def test_dates_with_a_time(tmp_path: Path, second: str) -> None:
    first = second.replace(":01", ":00.5")
    frame = read_interactions(write(tmp_path / "a.csv", f"user,item,time\na,x,{first}\na,y,{second}\n"))
    assert frame["time"][1] - frame["time"][0] == timedelta(milliseconds=500)


def test_whole_times_keep_every_digit(tmp_path: Path) -> None:
    frame = read_interactions(
        write(tmp_path / "a.csv", "user,item,time\na,x,1600000000000000001\na,y,1600000000000000000")
    )
    assert frame["time"].cast(pl.Int64).to_list() == [1600000000000000001, 1600000000000000000]


def test_an_empty_optional_field_is_null_and_a_blank_line_no_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\nitem,title\n1,one\n\n2,\n3,""\n\n')
    assert read_table(path, ["item"], optional=["title", "genre"]).rows() == [("1", "one"), ("2", None), ("3", None)]


def test_damaged_bytes_give_rows_or_one_clear_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = ('user,item,"some, title",time\r\n' + 'a,x,"t ""1""",3\nb,y,,2014\n\n' * 5).encode()
    path = tmp_path / "a.csv"
    messages = []
    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.choice(list(b'",\n\r\t x0\x00\xff'))
        path.write_bytes(damaged[: rng.integers(len(damaged) // 2, len(damaged) + 1)])
        try:
            assert read_interactions(path).height
        except CocorrrecError as error:
            messages.append(str(error))
    assert 50 < len(messages) < 300
    assert all(message.startswith(str(path)) for message in messages)


def test_damaged_gzip_gives_one_clear_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    good = gzip.compress(b"user,item\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(500)))
    path = tmp_path / "a.csv.gz"
    for _ in range(100):
        damaged = bytearray(good)
        damaged[rng.integers(10, len(damaged))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(CocorrrecError, match="not a complete gzip file"):
            read_interactions(path)


def test_a_small_file_cannot_unpack_to_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_BYTES", 1000)
    with pytest.raises(CocorrrecError, match="holds more than 1000 bytes"):
        read_interactions(write(tmp_path / "a.csv.gz", "user,item\n" + "a,x\n" * 1000))


def test_ids_stay_text(tmp_path: Path) -> None:
    frame = read_interactions(write(tmp_path / "a.csv", "user,item\n007,1e3\n"))
    assert frame.select("user", "item").rows() == [("007", "1e3")]


HEADER = "user,item,timestamp\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\n", "is empty"),
        ("a.csv", HEADER, "a header and no row"),
        ("a.csv", "user,itm,timestamp\na,x,1\n", "no column 'item' .did you mean 'itm'"),
        ("a.csv", "user,item,item\na,x,1\n", "line 1: column 'item' is there twice"),
        ("a.csv", HEADER + "a,x,1\na,y\n", "line 3: 2 fields, the header has 3"),
        ("a.csv", HEADER + "a,x,1\na,y,2,9\n", "line 3: 4 fields, the header has 3"),
        ("a.csv", HEADER + 'a,"x\nx",1\n,y,2\n', "line 4: user is '', expected a value"),
        ("a.csv", HEADER + "a,x,1\n\na,  ,2\n", "line 4: item is '  ', expected a value"),
        ("a.csv", HEADER + "a,x,1\na,y,soon\n", "line 3: timestamp is 'soon', expected numbers since 1970"),
        ("a.csv", HEADER + "a,x,1\na,y,nan\n", "line 3: timestamp is 0, -1 or empty in 1 of 2 rows"),
        ("a.csv", HEADER + "a,x,inf\n", "line 2: timestamp is 'inf'"),
        ("a.csv", HEADER + "a,x,2014-07-23\na,y,2014-13-23\n", "line 3: timestamp is '2014-13-23'"),
        ("a.csv", (HEADER + "a,x,1\na,").encode() + b"\xff\xfe,2\n", "line 3: not UTF-8"),
        ("a.csv", b"user,it\xff,timestamp\na,x,1\n", "line 1: not UTF-8"),
        ("a.csv", HEADER + 'a,"x,1\n', "line 2: unexpected end"),
        ("a.csv", HEADER + 'a,x,1\na,12" disc,2\na,y,3\n', "line 3: an odd number of double quotes"),
        ("a.csv", HEADER + 'a,"x"y,1\n', "line 2: ',' expected after"),
        ("a.csv", HEADER + "a,x,1\n,,\n", "line 3: user is '', expected a value"),
        ("a.csv", "user,item,rating\na,x,1\na,y\n", "line 3: 2 fields, the header has 3"),
        ("a.csv", "user,item,rating\na,x,1,\na,y,2\n", "line 2: 4 fields, the header has 3"),
        ("a.csv", "user,item\ra,x\r", "line 1: new-line character seen in unquoted field$"),
        ("a.csv", "user,item,timestamp\na,x,1\n".encode("utf-16-le"), "UTF-16 without a byte order mark .* utf-16-le"),
        ("a.csv", HEADER.encode() + bytes(9), "line 2: not UTF-8 text: holds a zero byte"),
    ],
)
def test_refuses(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(CocorrrecError, match=message) as raised:
        read_interactions(path)
    assert str(raised.value).startswith(str(path))


def test_refuses_files_that_are_not_what_their_name_says(tmp_path: Path) -> None:
    plain = tmp_path / "a.csv.gz"
    plain.write_text(HEADER + "a,x,1\n")
    with pytest.raises(CocorrrecError, match="not a complete gzip file"):
        read_interactions(plain)
    cut = tmp_path / "b.csv.gz"
    cut.write_bytes(gzip.compress((HEADER + "a,x,1\n" * 100).encode())[:-20])
    with pytest.raises(CocorrrecError, match="not a complete gzip file"):
        read_interactions(cut)
    with pytest.raises(UsageError, match="no such file"):
        read_interactions(tmp_path / "none.csv")
    cut.unlink(), plain.unlink()
    with pytest.raises(UsageError, match="is a folder without a file"):
        read_interactions(tmp_path)
