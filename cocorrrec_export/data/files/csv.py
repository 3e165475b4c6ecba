"""Read interactions: CSV and RecBole ``.inter``, plain or gzipped."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import polars as pl

from cocorrrec_export.data.files.streaming import Progress, check_zero_bytes, read_chunks
from cocorrrec_export.errors import CocorrrecError, UsageError, nearest
from cocorrrec_export.toml import check_types

TIME_COLUMNS = ("timestamp", "time", "order")
"""Headers that are taken for the time when the user names none."""

MAX_BYTES = 4 << 30
"""Largest file that is read at once, after decompression: a small gzip file can hold any number of bytes."""

DATE, DATE_AND_TIME = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f"
_DATE_FORMATS = (DATE, DATE_AND_TIME, "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f%#z")


@dataclass(frozen=True)
class Columns:
    """Header names in the user's file; an empty name takes the usual one.

    In a ``.inter`` file the ``:type`` suffix of a header is left out.
    """

    user: str = ""
    """Empty: ``user``, or ``user_id`` in a ``.inter`` file."""
    item: str = ""
    """Empty: ``item``, or ``item_id`` in a ``.inter`` file."""
    time: str = ""
    """Empty: the first of :data:`TIME_COLUMNS` that the file has, else the order of its rows."""
    rating: str = ""
    """Empty: ``rating``. Read only where ratings are filtered by."""

    def __post_init__(self) -> None:
        check_types(self)

    def for_file(self, path: Path) -> "Columns":
        """The same with user and item named."""
        suffix = "_id" if _is_inter(path) else ""
        return Columns(self.user or f"user{suffix}", self.item or f"item{suffix}", self.time, self.rating or "rating")


def read_interactions(
    path: Path, *, columns: Columns | None = None, rating: bool = False, progress: Progress | None = None
) -> pl.DataFrame:
    """Read a file of interactions with a header.

    Args:
        path: ``.csv``, ``.tsv`` or ``.inter``, each also as ``.gz``.
        columns: header names.
        rating: read the ratings too.
        progress: hears of the bytes read.

    Returns:
        Columns ``user`` (str), ``item`` (str), ``time`` and, if asked for, ``rating`` (Float64) in the order of the
        file. The time is what the file has, Int64 where all are whole numbers, else Float64; microseconds since 1970 of
        a date; or the row number.

    Raises:
        UsageError: the file does not exist, or lacks a column.
        CocorrrecError: it is empty, damaged, or has a bad row; the message names the line.
    """
    columns = (columns or Columns()).for_file(path)
    required = [columns.user, columns.item, *filter(None, [columns.time]), *([columns.rating] if rating else [])]
    frame = read_table(path, required, optional=() if columns.time else TIME_COLUMNS, progress=progress)
    name = columns.time or next((name for name in TIME_COLUMNS if name in frame.columns), None)
    time = pl.int_range(pl.len()) if name is None else _parse_time(path, frame[name])
    ratings = [_parse_ratings(path, frame[columns.rating]).alias("rating")] if rating else []
    return frame.select(
        pl.col(columns.user).alias("user"), pl.col(columns.item).alias("item"), time.alias("time"), *ratings
    )


def parse_dates(text: pl.Series, form: str) -> pl.Series:
    """Microseconds since 1970 of dates of one form; null where it does not fit."""
    return text.str.to_datetime(form, strict=False, time_unit="us").cast(pl.Int64)


def _parse_ratings(path: Path, raw: pl.Series) -> pl.Series:
    ratings = raw.str.strip_chars().cast(pl.Float64, strict=False)
    bad = ratings.is_null() | ratings.is_nan()
    if bad.any():
        raise _bad_value(path, raw, bad, "a number")
    return ratings


def _parse_time(path: Path, raw: pl.Series) -> pl.Series:
    """Whole numbers, else numbers, else dates of one form; the first that fits every row."""
    text = raw.str.strip_chars()
    numbers = text.cast(pl.Float64, strict=False)
    tries = [
        text.cast(pl.Int64, strict=False),  # a float would blur nanoseconds
        numbers.set(~numbers.is_finite(), None),
        *(parse_dates(text, form) for form in _DATE_FORMATS),
    ]
    best = min(tries, key=lambda values: values.null_count())
    if best.null_count():
        raise _bad_value(path, raw, best.is_null(), "a number, or a date as 2014-07-23 in every row")
    return best


def read_table(
    path: Path, required: Sequence[str], *, optional: Sequence[str] = (), progress: Progress | None = None
) -> pl.DataFrame:
    """Columns of a file as text. Blank lines are left out.

    No required field is empty anywhere; an empty optional one is null.

    Raises:
        UsageError: the file does not exist, or lacks a required column.
        CocorrrecError: it is empty, damaged, or has a bad row; the message names the line.
    """
    raw = _unpack(path, progress)
    header = _read_header(path, raw)
    missing = [f"no column '{name}' ({nearest(name, header)})" for name in required if name not in header]
    if missing:
        raise UsageError(f"{path}: " + "; ".join(missing))
    kept = [*required, *(name for name in optional if name in header and name not in required)]
    try:
        frame = pl.read_csv(
            raw,
            infer_schema=False,  # ids are text
            separator=_separator(path),
            with_column_names=lambda names: header[: len(names)],
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        _check_rows(path, raw, len(header))
        reason = str(error).splitlines()[0]
        raise CocorrrecError(
            f"{path}: cannot be read: expected rows of {len(header)} fields in UTF-8 ({reason})"
        ) from None
    if frame[header[-1]].null_count():  # a short row, a blank line, or an empty field: only a second look can tell
        blank = _check_rows(path, raw, len(header))
        frame = frame.filter(~pl.int_range(pl.len()).is_in(blank)) if blank else frame
    frame = frame.select(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in kept)
    if frame.is_empty():
        raise CocorrrecError(f"{path}: holds a header and no row")
    for name in required:
        empty = (frame[name].str.strip_chars() == "").fill_null(value=True)
        if empty.any():
            raise _bad_value(path, frame[name], empty, "a value")
    return frame


def _unpack(path: Path, progress: Progress | None = None) -> bytes:
    """The bytes of a file, decompressed, without the line ends around them."""
    data = b"".join(read_chunks(path, limit=MAX_BYTES, progress=progress))
    if not data.strip():
        raise CocorrrecError(f"{path}: is empty")
    check_zero_bytes(path, data)
    return data.rstrip(b"\r\n") if data.endswith((b"\n\n", b"\n\r\n")) else data


def _read_header(path: Path, raw: bytes) -> list[str]:
    record = next(record for record in _records(path, raw) if record.fields)
    header = [name.strip() for name in record.fields]
    if _is_inter(path):
        header = [name.split(":", 1)[0] for name in header]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CocorrrecError(f"{path}, line {record.line}: column '{twice[0]}' stands twice")
    return header


class _Record(NamedTuple):
    line: int  # where it begins, counted from 1
    fields: list[str]  # none: a blank line
    quotes: int  # double quotes in its text


def _records(path: Path, raw: bytes) -> Iterator[_Record]:
    """The file again, record by record: slower, but it knows the lines."""
    line, quotes = 1, 0

    def lines() -> Iterator[str]:
        nonlocal quotes
        for number, text in enumerate(io.BytesIO(raw), start=1):
            quotes += text.count(b'"')
            try:
                yield text.decode("utf-8")
            except UnicodeDecodeError:
                raise CocorrrecError(f"{path}, line {number}: not UTF-8") from None

    reader = csv.reader(lines(), delimiter=_separator(path), strict=True)
    try:
        for fields in reader:
            yield _Record(line, fields, quotes)
            line, quotes = reader.line_num + 1, 0
    except csv.Error as error:
        reason = str(error).split(" - ")[0]  # what follows is advice on Python
        raise CocorrrecError(f"{path}, line {line}: {reason}") from None


def _rows(path: Path, raw: bytes) -> Iterator[_Record]:
    """The records after the header."""
    records = _records(path, raw)
    next(record for record in records if record.fields)
    return records


def _check_rows(path: Path, raw: bytes, width: int) -> list[int]:
    """Raise for the first row that is not ``width`` fields; else the rows, counted from 0, that are blank lines."""
    blank = []
    for number, row in enumerate(_rows(path, raw)):
        if row.quotes % 2:
            raise CocorrrecError(
                f"{path}, line {row.line}: an odd number of double quotes; write one inside a field as two, and the "
                f"field in quotes"
            )
        if not row.fields:
            blank.append(number)
        elif len(row.fields) != width:
            raise CocorrrecError(f"{path}, line {row.line}: {len(row.fields)} fields, the header has {width}")
    return blank


def _bad_value(path: Path, column: pl.Series, is_bad: pl.Series, expected: str) -> CocorrrecError:
    """The error of the first bad value."""
    number = int(is_bad.arg_true()[0])
    filled = (row for row in _rows(path, _unpack(path)) if row.fields)
    line = next(islice(filled, number, None)).line
    return CocorrrecError(f"{path}, line {line}: {column.name} is {column[number] or ''!r}, expected {expected}")


def inner_suffix(path: Path) -> str:
    """The suffix of a file's name, less ``.gz``."""
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _is_inter(path: Path) -> bool:
    return inner_suffix(path) == ".inter"


def _separator(path: Path) -> str:
    return "\t" if inner_suffix(path) in (".inter", ".tsv") else ","
