"""Interactions as people have them: every layout is read, or refused with what to do; nothing is guessed silently."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cocorrrec_export.data.catalogue import encode_catalogue
from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.files.detection import read_file
from cocorrrec_export.data.files.reading import Reading
from cocorrrec_export.data.interactions import Filters, Interactions, load_interactions, prepare
from cocorrrec_export.data.sources import DataSource, load_source, make_cut
from cocorrrec_export.data.statistics import alarms, clicks_of, quality
from cocorrrec_export.errors import CocorrrecError, UsageError
from tests.conftest import SHARED, need

FIRST = 1_600_000_000
CLICKS = [
    (f"p{user}", f"q{(user * 7 + step * 3) % 11}", FIRST + user * 50 + step * 60)
    for user in range(5)
    for step in range(4)
]


def fault(name: str) -> Path:
    return need(SHARED / "faults" / "data" / name)


def read(path: Path, **options: object) -> tuple[list[tuple[str, str, int]], list[str]]:
    notes: list[str] = []
    frame = read_file(path, notes=notes, **options)  # type: ignore[arg-type]
    return frame.select("user", "item", pl.col("time").dt.epoch("s")).rows(), notes


def table(separator: str = ",", header: str = "user,item,timestamp", form: Callable[[int], str] = str) -> str:
    lines = [separator.join(header.split(","))] if header else []
    lines += [separator.join((user, item, form(time))) for user, item, time in CLICKS]
    return "\n".join(lines) + "\n"


def stamp(form: str) -> Callable[[int], str]:
    return lambda time: datetime.fromtimestamp(time, UTC).strftime(form)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("semicolon.csv", {}),
        ("utf-16.csv", {}),
        ("space-separated.inter", {}),
        ("no-header.csv", {"columns": Columns("1", "2", "3")}),
        ("no-header.csv", {}),
        ("header-with-blanks.csv", {}),
        ("time-pandas-tz.csv", {}),
        ("time-no-seconds.csv", {}),
    ],
)
def test_the_reported_layouts_give_the_same_clicks(name: str, options: dict[str, object]) -> None:
    expected, _ = read(fault("few-negatives.csv"))
    found, _ = read(fault(name), **options)
    if name == "time-no-seconds.csv":
        assert [row[:2] for row in found] == [row[:2] for row in expected]
    else:
        assert found == expected


@pytest.mark.parametrize("name", ["ml-1m-ratings.dat", "u.data", "int-ids.jsonl"])
def test_the_reported_numbered_layouts_are_read(name: str) -> None:
    columns = Columns("user", "item", "timestamp") if name == "int-ids.jsonl" else None
    found, _ = read(fault(name), columns=columns, format="amazon-reviews" if columns else "auto")
    expected, _ = read(fault("few-negatives.csv"))
    assert [row[2] for row in found] == [row[2] for row in expected]
    # The same clicks with other ids: one of theirs for each of ours.
    assert len({(mine[1], theirs[1]) for mine, theirs in zip(found, expected, strict=True)}) == len(
        {row[1] for row in expected}
    )


def test_the_reported_lastfm_file_is_read_by_places() -> None:
    with pytest.raises(UsageError, match=r"line 1 is not a known header.*--item-column PLACE"):
        read(fault("lastfm-1k.tsv"))
    found, notes = read(fault("lastfm-1k.tsv"), columns=Columns(item="6"))
    assert found[0][:2] == ("user_000000", "i082") and len(found) == 288
    assert any("line 1 is not a header" in note for note in notes)


@pytest.mark.parametrize(
    ("separator", "name"),
    [(";", "a.csv"), ("|", "a.txt"), ("\t", "a.csv"), ("::", "a.dat"), (" ", "a.inter"), (",", "a")],
)
@pytest.mark.parametrize("header", ["user,item,timestamp", "userId, movieId ,ts", "visitorid,itemid,event_time", ""])
def test_separators_and_headers(tmp_path: Path, separator: str, name: str, header: str) -> None:
    if separator == " ":
        header = header.replace(" ", "")
    path = tmp_path / name
    path.write_text(table(separator, header))
    found, notes = read(path)
    assert found == CLICKS
    assert header or any("line 1 is not a header" in note for note in notes)


def pack(path: Path, data: bytes) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner/a.csv", data)
    elif path.suffix == ".zst":
        path.write_bytes(pytest.importorskip("zstandard").ZstdCompressor().compress(data))
    else:
        path.write_bytes({".gz": gzip, ".bz2": bz2, ".xz": lzma}[path.suffix].compress(data))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zip", ".zst"])
def test_compressions_and_their_damage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.csv{suffix}"
    pack(path, table().encode())
    assert read(path)[0] == CLICKS
    renamed = path.rename(tmp_path / "b.data")
    assert read(renamed)[0] == CLICKS
    renamed.write_bytes(renamed.read_bytes()[:-9])
    with pytest.raises(CocorrrecError, match="not a complete"):
        read(renamed)


def bomb(path: Path, pieces: int) -> None:
    """A file that unpacks to 16 MiB for each of ``pieces``."""
    maker = {
        ".gz": lambda: zlib.compressobj(1, wbits=31),
        ".bz2": bz2.BZ2Compressor,
        ".xz": lambda: lzma.LZMACompressor(preset=0),
        ".zst": lambda: pytest.importorskip("zstandard").ZstdCompressor(level=1).compressobj(),
    }[path.suffix]()
    path.write_bytes(b"".join(maker.compress(bytes(16 << 20)) for _ in range(pieces)) + maker.flush())


PEAK = """
import sys
from pathlib import Path
from cocorrrec_export.data.files.streaming import read_chunks
def peak():  # of this program alone
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = peak()
try:
    for _ in read_chunks(Path(sys.argv[1]), limit=1 << 40):
        pass
except Exception as error:
    print(type(error).__name__, error)
print(peak() - before)
"""


@pytest.mark.parametrize("suffix", [".zst", *(pytest.param(x, marks=pytest.mark.slow) for x in (".gz", ".bz2", ".xz"))])
def test_a_small_file_that_unpacks_to_gigabytes_takes_no_memory(tmp_path: Path, suffix: str) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is read from /proc, which this system does not have")
    path = tmp_path / f"a.csv{suffix}"
    bomb(path, 80)
    done = subprocess.run(
        [sys.executable, "-P", "-c", PEAK, str(path)], capture_output=True, text=True, check=True, timeout=300
    )
    said, kilobytes = done.stdout.splitlines()
    assert said.startswith("CocorrrecError") and "unpacks to more than 100 times its size" in said
    assert int(kilobytes) < 400_000


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(table().replace("q", "é").encode(encoding))
    expected = [(user, item.replace("q", "é"), time) for user, item, time in CLICKS]
    if encoding == "utf-16":
        assert read(path)[0] == expected
    else:
        with pytest.raises(CocorrrecError, match="--encoding"):
            read(path)
    assert read(path, reading=Reading(encoding=encoding))[0] == expected


def test_tables_of_libraries(tmp_path: Path) -> None:
    frame = pl.DataFrame(CLICKS, schema=["customer_id", "article_id", "t_dat"], orient="row")
    frame = frame.with_columns(pl.from_epoch("t_dat"))
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ipc(tmp_path / "a.feather")
    frame.write_ipc_stream(tmp_path / "a.arrow")
    frame.write_ndjson(tmp_path / "a.jsonl")
    frame.write_json(tmp_path / "a.json")
    lines = [json.dumps({"who": {"id": u}, "what": i, "meta": {"at": t}}) for u, i, t in CLICKS]
    (tmp_path / "nested.jsonl").write_text("\n".join(lines))
    for name in ("a.parquet", "a.feather", "a.arrow", "a.jsonl", "a.json"):
        assert read(tmp_path / name)[0] == CLICKS, name
    assert read(tmp_path / "nested.jsonl", columns=Columns("who.id", "what", "meta.at"))[0] == CLICKS
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(CocorrrecError, match="not a complete parquet file"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("year", [1, 1500, 2300, 9999])
def test_dates_that_nothing_happened_at(tmp_path: Path, year: int) -> None:
    """A default or a "never" of a database, beyond what 64 bits of nanoseconds hold."""
    when = [datetime(2014, 7, 23), datetime(year, 1, 1)]
    pl.DataFrame({"user": ["a", "a"], "item": ["x", "y"], "time": when}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(CocorrrecError, match=f"{year:04}-01-01.*1 of 2 times are not between"):
        read(tmp_path / "a.parquet")


def test_a_folder_and_a_pattern_of_parts(tmp_path: Path) -> None:
    for place in range(4):
        part = "".join(f"{u},{i},{t}\n" for u, i, t in CLICKS[place * 5 : place * 5 + 5])
        (tmp_path / f"part-{place}.csv").write_text("user,item,timestamp\n" + part)
    (tmp_path / "_SUCCESS").touch()
    for path in (tmp_path, tmp_path / "part-*.csv"):
        found, notes = read(path)
        assert found == CLICKS and any("read 4 files" in note for note in notes)
    assert load_source(tmp_path, DataSource()).num_users == 5
    with pytest.raises(UsageError, match="the pattern fits none"):
        read(tmp_path / "other-*.csv")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"SQLite format 3\0" + bytes(99), "sqlite3"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x80\x04\x95abc", "a pickle"),
        (b"%PDF", "PDF"),
    ],
)
def test_what_is_no_table_says_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UsageError, match=what):
        read(tmp_path / "a.csv")


def test_long_text_and_loose_quotes(tmp_path: Path) -> None:
    long = "x" * 200_000
    (tmp_path / "a.csv").write_text(
        "user,item,timestamp,text\n" + "".join(f'{u},{i},{t},"{long}"\n' for u, i, t in CLICKS)
    )
    assert read(tmp_path / "a.csv")[0] == CLICKS
    (tmp_path / "a.tsv").write_text(table("\t").replace("q1\t", 'q1"\t'))
    loose = [(user, 'q1"' if item == "q1" else item, time) for user, item, time in CLICKS]
    assert read(tmp_path / "a.tsv")[0] == loose != CLICKS
    (tmp_path / "b.csv").write_text("user,item,timestamp,note\n" + "".join(f"{u},{i},{t},\n" for u, i, t in CLICKS))
    assert read(tmp_path / "b.csv")[0] == CLICKS


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d %H:%M:%S+00:00", "%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%dT%H:%M:%SZ", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S",
     "%m/%d/%Y %I:%M:%S %p", "%a %b %d %H:%M:%S +0000 %Y", "%Y%m%d%H%M%S"],
)  # fmt: skip
def test_forms_of_times(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.csv"
    lines = [f"{u},{i},{stamp(form)(t)}" for u, i, t in CLICKS]
    path.write_text("user,item,timestamp\n" + "\n".join(lines))
    options = {"reading": Reading(time_format=form)} if form == "%Y%m%d%H%M%S" else {}
    assert [row[2] for row in read(path, **options)[0]] == [t for _, _, t in CLICKS]


def test_day_and_month_that_cannot_be_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,item,date\n" + "".join(f"u,i{k},0{k}/0{9 - k}/2019\n" for k in range(1, 7)))
    with pytest.raises(UsageError, match="day and month look alike in every row"):
        read(path)
    day_first, month_first = (read(path, reading=Reading(time_format=f))[0] for f in ("%d/%m/%Y", "%m/%d/%Y"))
    assert month_first[0][2] < day_first[0][2]


@pytest.mark.parametrize("header", ["user,item,moment", "user,item,created_by_system", "uid,iid,rating"])
def test_a_time_that_is_not_known_is_asked_for(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(header=header))
    with pytest.raises(UsageError, match="--time-column NAME, or say --file-order"):
        read(path)
    assert read(path, columns=Columns(time=header.split(",")[2]))[0] == CLICKS
    rows = read_file(path, reading=Reading(order="file"))
    assert rows["time"].to_list() == rows["row"].to_list()


@pytest.mark.parametrize("name", ["event_time", "t_dat", "unixReviewTime", "date", "createdAt"])
def test_usual_names_of_times(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text(table(header=f"user,item,{name}"))
    assert read(tmp_path / "a.csv")[0] == CLICKS


def test_two_times_are_asked_about(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,date,time\nu,a,2019-01-02,12:30\n")
    with pytest.raises(UsageError, match=r"time and date may each be the time"):
        read(tmp_path / "a.csv")


def spoiled(tmp_path: Path, values: dict[int, str]) -> Path:
    path = tmp_path / "a.csv"
    lines = [f"{u},{i},{values.get(row, t)}" for row, (u, i, t) in enumerate(CLICKS)]
    path.write_text("user,item,timestamp\n" + "\n".join(lines))
    return path


@pytest.mark.parametrize("unknown", ["0", "-1", ""])
def test_unknown_times(tmp_path: Path, unknown: str) -> None:
    path = spoiled(tmp_path, {3: unknown, 9: unknown})
    with pytest.raises(CocorrrecError, match=r"line 5: timestamp is 0, -1 or empty in 2 of 20 rows"):
        read(path)
    found, notes = read(path, reading=Reading(unknown_times="drop"))
    assert found == [click for row, click in enumerate(CLICKS) if row not in (3, 9)]
    assert any("left out 2 of 20 rows" in note for note in notes)
    assert len(read(path, reading=Reading(unknown_times="first"))[0]) == 20


def test_the_reported_unknown_times() -> None:
    with pytest.raises(CocorrrecError, match="0, -1 or empty in 42 of 288 rows"):
        read(fault("time-zero-is-unknown.csv"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({2: f"{FIRST}000", 5: f"{FIRST}000"}, r"line 4: .* mixed magnitude \(18 in seconds, 2 in milliseconds\)"),
        ({7: "12"}, "line 9: .* 1 of no unit"),
        (dict.fromkeys(range(20), "1.60e+09"), "20 of 20 times are rounded"),
        (dict.fromkeys(range(20), "-77"), "confirm that they order as they are with --time-format number"),
        ({4: "2150-01-01"}, "line 6: timestamp is '2150-01-01'"),
    ],
)
def test_times_that_do_not_order(tmp_path: Path, values: dict[int, str], message: str) -> None:
    with pytest.raises(CocorrrecError, match=message):
        read(spoiled(tmp_path, values))


def test_blanks_around_ids_are_stripped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,item,timestamp\n" + "".join(f"{u} ,{' ' if t % 3 else ''}{i},{t}\n" for u, i, t in CLICKS))
    found, notes = read(path)
    assert found == CLICKS
    assert "stripped the blanks around 20 of 20 user ids" in notes


def test_split_recbole_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.train.inter"
    path.write_text("user_id:token\titem_id_list:token_seq\titem_id:token\nu\ta b\tc\n")
    with pytest.raises(UsageError, match="the file is split already"):
        read(path)


def test_events(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    lines = [f"{t}000,{u},{'view' if k % 2 else 'addtocart'},{i}," for k, (u, i, t) in enumerate(CLICKS)]
    path.write_text("timestamp,visitorid,event,itemid,transactionid\n" + "\n".join(lines))
    assert read(path)[0] == CLICKS
    assert read(path, keep="event=view")[0] == CLICKS[1::2]
    with pytest.raises(UsageError, match="no row has event=buy; the values of event are addtocart, view"):
        read(path, keep="event=buy")
    with pytest.raises(UsageError, match="takes COLUMN=VALUE"):
        Filters(keep="view")


PUBLIC: dict[str, tuple[str, str, dict[str, object]]] = {
    "MovieLens 100K": ("u.data", "{u}\t{i}\t4\t{t}", {}),
    "MovieLens 1M": ("ratings.dat", "{u}::{i}::4::{t}", {}),
    "MovieLens 20M": ("ratings.csv", "userId,movieId,rating,timestamp\n{u},{i},4.0,{t}", {}),
    "Retailrocket": ("events.csv", "timestamp,visitorid,event,itemid,transactionid\n{t}000,{u},view,{i},", {}),
    "Gowalla": ("totalCheckins.txt", "{u}\t{iso}\t30.2\t-97.7\t{i}", {"columns": Columns(item="5")}),
    "LastFM-1K": ("lastfm.tsv", '{u}\t{iso}\t\tAn "Artist"\t\t{i}', {"columns": Columns(item="6")}),
    "Steam": (
        "steam-200k.csv",
        '{u},"{i}",play,1.0,0',
        {"columns": Columns(item="2"), "reading": Reading(order="file")},
    ),
    "Yoochoose": ("yoochoose-clicks.dat", "{u},{iso},{i},0", {"columns": Columns(item="3")}),
    "Diginetica": (
        "train-item-views.csv",
        "session_id;user_id;item_id;timeframe;eventdate\n{u};NA;{i};{k};2016-05-09",
        {"columns": Columns("session_id", "", "timeframe")},
    ),
    "BookCrossing": (
        "BX-Book-Ratings.csv",
        '"User-ID";"ISBN";"Book-Rating"\n"{u}";"{i}";"0"',
        {"reading": Reading(order="file", encoding="latin-1")},
    ),
    "Taobao": ("UserBehavior.csv", "{u},{i},77,pv,{t}", {"columns": Columns(item="2"), "keep": "4=pv"}),
    "Foursquare": (
        "dataset_TSMC2014_NYC.txt",
        "{u}\t{i}\t4bf5\tArts\t40.7\t-74.0\t-240\t{tweet}",
        {"columns": Columns(item="2")},
    ),
    "H&M": ("transactions_train.csv", "t_dat,customer_id,article_id,price,sales_channel_id\n{day},{u},{i},0.05,2", {}),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_layouts(tmp_path: Path, name: str) -> None:
    file, form, options = PUBLIC[name]
    *header, line = form.split("\n")
    lines = [
        line.format(
            u=u, i=i, t=t, k=k, iso=stamp("%Y-%m-%dT%H:%M:%SZ")(t), day=stamp("%Y-%m-%d")(t),
            tweet=stamp("%a %b %d %H:%M:%S +0000 %Y")(t),
        )
        for k, (u, i, t) in enumerate(CLICKS)
    ]  # fmt: skip
    path = tmp_path / file
    path.write_text("\n".join([*header, *lines]) + "\n")
    frame = read_file(path, **options)  # type: ignore[arg-type]
    assert frame.select("user", "item").rows() == [click[:2] for click in CLICKS]
    assert frame["time"].is_sorted() or frame["time"].dtype == pl.Datetime("ns")


def test_mind(tmp_path: Path) -> None:
    path = tmp_path / "behaviors.tsv"
    path.write_text(
        "1\tU13\t11/11/2019 9:05:58 AM\tN5 N7 N9\tN1-0 N2-1\n"
        "2\tU13\t11/12/2019 6:11:30 PM\tN5 N7 N9\tN3-1 N4-0\n"
        "3\tU20\t11/11/2019 1:00:00 PM\t\tN2-1 N8-1 N6-1\n"
    )
    made = load_interactions(path)
    assert [click["item"] for click in clicks_of(made, "U13") or []] == ["N5", "N7", "N9", "N2", "N3"]
    assert sorted(click["item"] for click in clicks_of(made, "U20") or []) == ["N2", "N6", "N8"]


def noise(*, tied: bool = False, twice: bool = False, users: int = 150, items: int = 60) -> pl.DataFrame:
    """Clicks that nothing can foretell; tied ones are sorted by item, as a well-known file is."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u{u}", f"i{i:03}", 0 if tied else t)
        for u in range(users)
        for t, i in enumerate(rng.choice(items, 12, False))
    ]
    rows = sorted(rows, key=lambda row: row[1]) if tied else rows
    rows = [row for row in rows for _ in range(1 + twice)]
    return pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")


def rank_of_target_by_id(made: Interactions) -> float:
    """UAUC of a ranking by item id among all items: what a row order that carries the item order gives away."""
    targets = made.items[made.offsets[1:] - 1]
    return float((targets - 1).mean() / (made.vocab_size - 2))


def test_ties_do_not_carry_the_order_of_the_items() -> None:
    kept = prepare(noise(tied=True), filters=Filters(), ties="file")
    assert rank_of_target_by_id(kept) > 0.85
    shuffled = prepare(noise(tied=True), filters=Filters())
    assert abs(rank_of_target_by_id(shuffled) - 0.5) < 0.08
    assert quality(shuffled).ties == 1.0
    assert any("their order is chance" in line for line in alarms(quality(shuffled)))
    again = prepare(noise(tied=True), filters=Filters())
    np.testing.assert_array_equal(shuffled.items, again.items)


@pytest.mark.parametrize("tied", [False, True])
def test_double_logged_events_are_said_and_dropped(tied: bool) -> None:
    made = prepare(noise(tied=tied, twice=True), filters=Filters())
    found = quality(made)
    assert found.repeated_test == 1.0 and found.repeats > 0.45
    assert any("--drop-repeats consecutive" in line for line in alarms(found))
    for which in ("consecutive", "all"):
        dropped = prepare(noise(tied=tied, twice=True), filters=Filters(drop_repeats=which))  # type: ignore[arg-type]
        assert quality(dropped).repeated_test == 0.0 and len(dropped.items) == 150 * 12


def test_the_reported_ties_and_repeats_are_said() -> None:
    tied = quality(load_interactions(fault("ties-sorted-by-item.csv")))
    assert tied.ties == 1.0 and alarms(tied)
    double = quality(load_interactions(fault("double-logged.csv")))
    assert double.repeated_test == 1.0 and alarms(double)
    bot = load_interactions(fault("bot-saw-everything.csv"))
    assert quality(bot).complete_users == 1 and any("every item" in line for line in alarms(quality(bot)))


def test_filters_of_large_users_of_events_and_of_the_core() -> None:
    rows = [("bot", f"i{k}", k) for k in range(40)]
    rows += [(f"u{u}", f"i{(u + k) % 8}", k) for u in range(8) for k in range(5)]
    made = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    assert prepare(made, filters=Filters(max_user_interactions=20)).num_users == 8
    assert prepare(made, filters=Filters(last=4)).items.shape == (9 * 4,)
    core = prepare(made, filters=Filters(k_core=5))
    per_item = np.bincount(core.items)[1:]
    assert per_item.min() >= 5 and np.diff(core.offsets).min() >= 5
    with pytest.raises(UsageError, match="last must be at least 3"):
        Filters(last=2)


def test_clicks_are_shown_as_they_were_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "user,item,timestamp\nu,b,1600000060\nv,x,1600000000\nu,a,1600000000\nu,c,1600000120\nv,a,1600000001\nv,b,1600000002\n"
    )
    make_cut(path, DataSource(), tmp_path / "a.cut")
    expected = [
        {"item": "a", "time": "2020-09-13T12:26:40Z", "row": 3},
        {"item": "b", "time": "2020-09-13T12:27:40Z", "row": 1},
        {"item": "c", "time": "2020-09-13T12:28:40Z", "row": 4},
    ]
    for file in (path, tmp_path / "a.cut"):
        made = load_source(file, DataSource())
        assert clicks_of(made, "u") == expected
        assert clicks_of(made, "w") is None
        assert (quality(made).first, quality(made).last) == ("2020-09-13T12:26:40Z", "2020-09-13T12:28:40Z")


def test_titles_are_counted(tmp_path: Path) -> None:
    items, path = ["007", "008", "010"], tmp_path / "titles.csv"
    path.write_text("item,title\n7,Seven\n8,Eight\n")
    with pytest.raises(CocorrrecError, match=r"none of its 2 ids.*2 would fit without leading zeros"):
        encode_catalogue(items, titles=path, columns=Columns())
    path.write_text("item,title\n007,Seven\n 008 ,\n")
    notes: list[str] = []
    text = gzip.decompress(encode_catalogue(items, titles=path, columns=Columns(), notes=notes)).decode()
    assert text.splitlines() == ["id,item,title", "1,007,Seven", "2,008,", "3,010,"]
    assert notes == ["titles.csv: 2 of 3 items found, 1 of them with an empty title, which are shown by id"]


def test_the_reported_titles() -> None:
    items = load_interactions(fault("titles-clicks.csv")).item_ids
    with pytest.raises(CocorrrecError, match="leading zeros"):
        encode_catalogue(items, titles=fault("titles-zeros-lost.csv"), columns=Columns())
    assert encode_catalogue(items, titles=fault("titles-one-empty.csv"), columns=Columns())


def test_the_reported_months_have_other_digests() -> None:
    first, second = (load_interactions(fault(f"month-{month}.csv")) for month in (1, 2))
    assert first.vocabulary_sha256 != second.vocabulary_sha256
