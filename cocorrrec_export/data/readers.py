"""Read interactions: CSV and RecBole ``.inter``, plain or gzipped."""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cocorrrec_export.errors import CocorrrecError, UsageError, nearest
from cocorrrec_export.tables import check_types

TIME_COLUMNS = ("timestamp", "time", "order")
"""Headers that are taken for the time when the user names none."""


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

    def __post_init__(self) -> None:
        check_types(self)

    def for_file(self, path: Path) -> "Columns":
        """The same with user and item named."""
        suffix = "_id" if _is_inter(path) else ""
        return Columns(self.user or f"user{suffix}", self.item or f"item{suffix}", self.time)


def read_interactions(path: Path, *, columns: Columns | None = None) -> pl.DataFrame:
    """Read a file of interactions.

    Args:
        path: ``.csv``, ``.tsv`` or ``.inter``, each also as ``.gz``.
        columns: header names.

    Returns:
        Columns ``user`` (str), ``item`` (str) and ``time`` (float64: seconds, an order, or microseconds of a date),
        in the order of the file.

    Raises:
        UsageError: the file does not exist, or lacks a column.
        CocorrrecError: it is empty, damaged, or has a bad row; the message names the line.
    """
    columns = (columns or Columns()).for_file(path)
    required = [columns.user, columns.item, *([columns.time] if columns.time else [])]
    frame = read_table(path, required, optional=() if columns.time else TIME_COLUMNS)
    name = columns.time or next((name for name in TIME_COLUMNS if name in frame.columns), None)
    time = pl.int_range(pl.len()).cast(pl.Float64) if name is None else _parse_time(path, frame[name])
    return frame.select(pl.col(columns.user).alias("user"), pl.col(columns.item).alias("item"), time.alias("time"))


def _parse_time(path: Path, raw: pl.Series) -> pl.Series:
    values = raw.str.strip_chars().cast(pl.Float64, strict=False)
    if values.null_count() == len(values):  # dates such as 2014-07-23 instead of numbers
        dates = raw.str.strip_chars().str.to_date("%Y-%m-%d", strict=False)
        if dates.null_count() == 0:
            return dates.cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64)
    if not values.is_finite().fill_null(value=False).all():
        raise _bad_row(path, raw.name, "a number, or a date as 2014-07-23 in every row", _is_number)
    return values


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_table(path: Path, required: Sequence[str], *, optional: Sequence[str] = ()) -> pl.DataFrame:
    """Columns of a file as text; none of the required ones is empty anywhere. Blank lines are left out.

    Raises:
        UsageError: the file does not exist, or lacks a required column.
        CocorrrecError: it is empty, damaged, or has a bad row; the message names the line.
    """
    if not path.is_file():
        raise UsageError(f"{path}: {'is a folder, expected a file' if path.exists() else 'no such file'}")
    raw = _unpack(path)
    header = _read_header(path, raw)
    missing = [f"no column '{name}' ({nearest(name, header)})" for name in required if name not in header]
    if missing:
        raise UsageError(f"{path}: " + "; ".join(missing))
    kept = [*required, *(name for name in optional if name in header and name not in required)]
    try:
        frame = pl.read_csv(
            raw,
            infer_schema=False,  # ids are text
            empty_string_is_null=False,
            separator=_separator(path),
            with_column_names=lambda names: header[: len(names)],
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise _bad_row(path, None, f"rows of {len(header)} fields in UTF-8 ({reason})", bool) from None
    blank_line = pl.all_horizontal(pl.all() == "")
    frame = frame.filter(~blank_line).select(kept)
    if frame.is_empty():
        raise CocorrrecError(f"{path}: holds a header and no row")
    for name in required:
        if (frame[name].str.strip_chars() == "").any():
            raise _bad_row(path, name, "a value", lambda text: bool(text.strip()))
    return frame


def _unpack(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise CocorrrecError(f"{path}: not a complete gzip file: {error}") from None
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise CocorrrecError(f"{path}: is empty")
    return data


def _read_header(path: Path, raw: bytes) -> list[str]:
    try:
        first = raw.split(b"\n", 1)[0].decode("utf-8").rstrip("\r")
    except UnicodeDecodeError:
        raise CocorrrecError(f"{path}, line 1: not UTF-8") from None
    header = [name.strip() for name in next(csv.reader([first], delimiter=_separator(path)))]
    if _is_inter(path):
        header = [name.split(":", 1)[0] for name in header]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CocorrrecError(f"{path}, line 1: column '{twice[0]}' stands twice")
    return header


def _bad_row(path: Path, column: str | None, expected: str, is_good: Callable[[str], bool]) -> CocorrrecError:
    """The error of the first bad row. Only a file that failed is read again, row by row, to find its line."""
    raw = _unpack(path)
    header = _read_header(path, raw)
    text = io.StringIO(raw.decode("utf-8", errors="replace"), newline="")
    reader = csv.reader(text, delimiter=_separator(path))
    line = 1
    try:
        for number, row in enumerate(reader):
            starts, line = line, reader.line_num + 1
            if number == 0 or not any(row):
                continue
            if any("\ufffd" in field for field in row) and column is None:
                return CocorrrecError(f"{path}, line {starts}: not UTF-8")
            if len(row) != len(header):
                return CocorrrecError(f"{path}, line {starts}: {len(row)} fields, the header has {len(header)}")
            if column is not None and not is_good(row[header.index(column)]):
                got = row[header.index(column)]
                return CocorrrecError(f"{path}, line {starts}: {column} is {got!r}, expected {expected}")
    except csv.Error as error:
        return CocorrrecError(f"{path}, line {line}: {error}")
    return CocorrrecError(f"{path}: cannot be read: expected {expected}")


def _inner_suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _is_inter(path: Path) -> bool:
    return _inner_suffix(path) == ".inter"


def _separator(path: Path) -> str:
    return "\t" if _inner_suffix(path) in (".inter", ".tsv") else ","
