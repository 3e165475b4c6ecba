"""Readers: what they accept, and the one sentence they answer anything else with."""

import gzip
from pathlib import Path

import pytest

from cocorrrec_export.data.readers import Columns, read_interactions
from cocorrrec_export.errors import CocorrrecError, UsageError

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
    assert frame["time"].to_list() == [0.0, 1.0]


def test_dates(tmp_path: Path) -> None:
    frame = read_interactions(write(tmp_path / "a.csv", "user,item,time\na,x,2014-07-23\na,y,2014-07-22\n"))
    assert frame["time"][0] - frame["time"][1] == 86_400e6


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
        ("a.csv", "user,item,item\na,x,1\n", "line 1: column 'item' stands twice"),
        ("a.csv", HEADER + "a,x,1\na,y\n", "line 3: 2 fields, the header has 3"),
        ("a.csv", HEADER + "a,x,1\na,y,2,9\n", "line 3: 4 fields, the header has 3"),
        ("a.csv", HEADER + 'a,"x\nx",1\n,y,2\n', "line 4: user is '', expected a value"),
        ("a.csv", HEADER + "a,x,1\n\na,  ,2\n", "line 4: item is '  ', expected a value"),
        ("a.csv", HEADER + "a,x,1\na,y,soon\n", "line 3: timestamp is 'soon', expected a number"),
        ("a.csv", HEADER + "a,x,1\na,y,nan\n", "line 3: timestamp is 'nan'"),
        ("a.csv", HEADER + "a,x,inf\n", "line 2: timestamp is 'inf'"),
        ("a.csv", HEADER + "a,x,2014-07-23\na,y,2014-13-23\n", "line 2: timestamp is '2014-07-23'"),
        ("a.csv", (HEADER + "a,x,1\na,").encode() + b"\xff\xfe,2\n", "line 3: not UTF-8"),
        ("a.csv", b"user,it\xff,timestamp\na,x,1\n", "line 1: not UTF-8"),
        ("a.csv", HEADER + 'a,"x,1\n', "line 2"),
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
    with pytest.raises(UsageError, match="is a folder"):
        read_interactions(tmp_path)
