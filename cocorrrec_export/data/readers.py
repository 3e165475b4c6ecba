"""Read tables that strangers send: CSV and RecBole ``.inter`` files, plain or gzipped.

The good path is one vectorised parse. Only a file that is refused is read again, record by record, to name the line.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import polars as pl

from cocorrrec_export.errors import CocorrrecError, UsageError, nearest

MAX_BYTES = 4 << 30
"""Largest file that is read, after decompression: a few kilobytes of gzip can hold any number of zeros."""

TIME_COLUMNS = ("timestamp", "time", "order")
"""Where the time is looked for when the user names no column."""

_SEPARATORS = (",", "\t", ";")
_CHUNK_BYTES = 4 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_DATE_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f%#z")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Header names in the user's file.

    A header ``user_id:token`` is found as ``user_id:token``, as ``user_id``, and, when nothing else has that name, as
    ``user``.

    Raises:
        UsageError: a name that is empty or no text, or one column for two purposes.
    """

    user: str = "user"
    item: str = "item"
    time: str | None = None
    """None: the first of :data:`TIME_COLUMNS` that is there, else the order of the rows."""

    def __post_init__(self) -> None:
        names = {field.name: getattr(self, field.name) for field in fields(self)}
        names = {key: name for key, name in names.items() if (key, name) != ("time", None)}
        for key, name in names.items():
            if not isinstance(name, str) or not name:
                raise UsageError(f"{key} must be the name of a column, got {name!r}")
        if len(set(names.values())) < len(names):
            raise UsageError(f"{', '.join(names)} must be different columns, got {', '.join(names.values())}")


def read_interactions(path: Path, *, columns: Columns | None = None) -> pl.DataFrame:
    """The interactions of a file, in the order of the file.

    Args:
        path: CSV with comma, tab or semicolon, or a RecBole ``.inter`` file; gzipped if its name ends in ``.gz``.
        columns: header names, default :class:`Columns`.

    Returns:
        Columns ``user`` (str), ``item`` (str) and ``time`` (Int64 or Float64, as in the file; dates become
        microseconds since 1970, UTC where they name no zone; the row number where there is no time).

    Raises:
        UsageError: no such file, or no such column; names the nearest one.
        CocorrrecError: not readable, or a bad row; names the line, counted from 1.
    """
    columns = columns or Columns()
    times = (columns.time,) if columns.time else TIME_COLUMNS
    required = [columns.user, columns.item, *([columns.time] if columns.time else [])]
    table = read_table(path, required, optional=[name for name in times if name not in required])
    time = next((name for name in times if name in table.columns), None)
    for name in (columns.user, columns.item):
        if table[name].null_count():
            line = _line_of_row(path, _first_null(table[name]))
            raise CocorrrecError(f"{path}, line {line}: column {name} is empty")
    return pl.DataFrame(
        {
            "user": table[columns.user],
            "item": table[columns.item],
            "time": _parse_times(table[time], path) if time else pl.int_range(table.height, eager=True),
        }
    )


def read_table(path: Path, required: Sequence[str], *, optional: Sequence[str] = ()) -> pl.DataFrame:
    """Columns of a CSV file as text, in the order of the file; an empty field is null, a blank line is no row.

    Args:
        path: CSV with comma, tab or semicolon; gzipped if its name ends in ``.gz``.
        required: names of columns, found as :class:`Columns` says.
        optional: names of columns that are left out if the file has none of that name.

    Raises:
        UsageError: no such file, or no such column; names the nearest one.
        CocorrrecError: not readable, no row, or a row with too few or too many fields; names the line.
    """
    data = _read_bytes(path)
    separator, header = _read_header(data, path)
    positions = _locate(header, required, optional, path)
    try:
        table = pl.read_csv(
            data, separator=separator, infer_schema=False, new_columns=[str(i) for i in range(len(header))]
        )
    except pl.exceptions.PolarsError as error:
        _check_records(data, separator, len(header), path)
        raise CocorrrecError(f"{path}: not readable as CSV: {str(error).splitlines()[0]}") from None
    # A missing field, a blank line and an empty last field look the same so far.
    if table[:, -1].null_count():
        blank = _check_records(data, separator, len(header), path)
        if blank:
            row = pl.int_range(table.height, eager=True)
            table = table.filter(~row.is_in(blank))
    if not table.height:
        raise CocorrrecError(f"{path}: no row after the header")
    return table.select(
        pl.when(pl.col(str(position)) != "").then(pl.col(str(position))).alias(name)
        for name, position in positions.items()
    )


def _read_bytes(path: Path) -> bytes:
    """The whole file, decompressed, without blank lines at its end."""
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, expected a file of interactions")
    zipped = path.name.endswith(".gz")
    chunks: list[bytes] = []
    size = 0
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_BYTES:
                    raise CocorrrecError(f"{path}: holds more than {MAX_BYTES} bytes, which is the limit")
    except gzip.BadGzipFile:
        raise CocorrrecError(f"{path}: not a gzip file, or damaged, although its name ends in .gz") from None
    except EOFError:
        raise CocorrrecError(f"{path}: the gzip file is truncated") from None
    except zlib.error as error:
        raise CocorrrecError(f"{path}: the gzip file is damaged: {error}") from None
    except OSError as error:
        raise CocorrrecError(f"{path}: cannot be read: {error.strerror or error}") from None
    data = b"".join(chunks)
    if not zipped and data.startswith(_GZIP_MAGIC):
        raise CocorrrecError(f"{path}: is gzipped, but its name does not end in .gz: rename it")
    return data.rstrip(b"\r\n") if data.endswith((b"\n\n", b"\n\r\n")) else data


def _read_header(data: bytes, path: Path) -> tuple[str, list[str]]:
    """The separator, which is the one that the first line has most of, and the names in the header."""
    first = next((line for line in io.BytesIO(data) if line.removeprefix(_BOM).strip()), b"")
    if not first:
        raise CocorrrecError(f"{path}: empty file")
    separator = max(_SEPARATORS, key=lambda each: first.count(each.encode()))
    names = next(record.fields for record in _records(data, separator, path) if record.fields)
    return separator, [name.strip() for name in names]


def _locate(header: list[str], required: Sequence[str], optional: Sequence[str], path: Path) -> dict[str, int]:
    """Position of each asked-for column."""
    untyped = [name.partition(":")[0] for name in header]
    found: dict[str, int] = {}
    for name in (*required, *optional):
        for names, wanted in ((header, name), (untyped, name), (untyped, f"{name}_id")):
            if names.count(wanted) > 1:
                raise CocorrrecError(f"{path}: the header has column '{wanted}' more than once")
            if wanted in names:
                found[name] = names.index(wanted)
                break
    missing = [name for name in required if name not in found]
    if missing:
        raise UsageError(f"{path}: " + "; ".join(f"no column '{name}' ({nearest(name, header)})" for name in missing))
    return found


def _parse_times(column: pl.Series, path: Path) -> pl.Series:
    """Whole numbers, else numbers, else dates of one format."""
    text = column.str.strip_chars()
    best: pl.Series | None = None
    for kind in (pl.Int64, pl.Float64, *_DATE_FORMATS):
        if isinstance(kind, str):
            parsed = text.str.to_datetime(kind, strict=False, time_unit="us").cast(pl.Int64)
        else:
            parsed = text.cast(kind, strict=False)
        if parsed.dtype == pl.Float64:
            parsed = parsed.set(~parsed.is_finite(), None)
        if not parsed.null_count():
            return parsed
        if best is None or parsed.null_count() < best.null_count():
            best = parsed
    assert best is not None
    row = _first_null(best)
    raise CocorrrecError(
        f"{path}, line {_line_of_row(path, row)}: time is '{column[row] or ''}', expected a number, or a date like "
        f"2014-07-23 or 2014-07-23 10:11:12 in the same form in every row"
    )


class _Record(NamedTuple):
    line: int  # the first one of the record, counted from 1
    fields: list[str]  # none for a blank line
    quotes: int  # double quotes in the raw text


def _records(data: bytes, separator: str, path: Path) -> Iterator[_Record]:
    """The records of a file, one by one, the header included."""
    line, quotes = 1, 0

    def lines() -> Iterator[str]:
        nonlocal quotes
        for number, raw in enumerate(io.BytesIO(data), start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise CocorrrecError(f"{path}, line {number}: not UTF-8 text") from None
            quotes += text.count('"')
            yield text

    reader = csv.reader(lines(), delimiter=separator, strict=True)
    try:
        for values in reader:
            yield _Record(line, values, quotes)
            line, quotes = reader.line_num + 1, 0
    except csv.Error as error:
        raise CocorrrecError(f"{path}, line {line}: not readable as CSV: {error}") from None


def _rows(data: bytes, separator: str, path: Path) -> Iterator[_Record]:
    """The records after the header, blank lines included."""
    records = _records(data, separator, path)
    next(record for record in records if record.fields)
    return records


def _check_records(data: bytes, separator: str, width: int, path: Path) -> list[int]:
    """Check each row's fields and quotes; the rows that are blank lines, counted from 0."""
    blank = []
    for row, record in enumerate(_rows(data, separator, path)):
        if record.quotes % 2:
            raise CocorrrecError(
                f"{path}, line {record.line}: a double quote that does not close; write one inside a field as two, "
                f"and the field in quotes"
            )
        if not record.fields:
            blank.append(row)
        elif len(record.fields) != width:
            raise CocorrrecError(f"{path}, line {record.line}: {len(record.fields)} fields, the header has {width}")
    return blank


def _first_null(column: pl.Series) -> int:
    return int(column.is_null().arg_true()[0])


def _line_of_row(path: Path, row: int) -> int:
    """Line of the ``row``-th row of :func:`read_table`, counted from 0."""
    data = _read_bytes(path)
    separator, _ = _read_header(data, path)
    filled = (record for record in _rows(data, separator, path) if record.fields)
    return next(islice(filled, row, None)).line
