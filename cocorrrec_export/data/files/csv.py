"""Read text with separators, CSV and its relatives, of any compression that streams."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import polars as pl

from cocorrrec_export.data.files.columns import Columns, Raw, known_names
from cocorrrec_export.data.files.reading import SEPARATORS, Reading
from cocorrrec_export.data.files.streaming import OnBytes, check_zero_bytes, plain_name, read_chunks
from cocorrrec_export.errors import CocorrrecError, UsageError, nearest

MAX_BYTES = 4 << 30
"""Largest file that is read at once, after decompression: a small gzip file can hold any number of bytes."""

_SAMPLE = 50
_UNIT = b"\x1f"
"""Takes the place of a separator of two characters: it is in no text."""
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class _Text:
    """A file's bytes in UTF-8, and what its fields are separated by."""

    path: Path
    data: bytes
    separator: str
    quoted: bool = True
    header: bool = True


def read_raw(
    path: Path,
    *,
    columns: Columns,
    reading: Reading,
    progress: OnBytes | None = None,
    notes: list[str] | None = None,
) -> Raw:
    """Read a file of text with separators.

    Args:
        path: CSV or a relative of it, compressed or not.
        columns: tells a header of unknown names, and a file without one.
        reading: separator, header and encoding, where they are not to be found.
        progress: receives the bytes read.
        notes: what was found is appended.

    Raises:
        UsageError: the file does not exist.
        CocorrrecError: it is empty, damaged, or has a bad row; the message names the line.
    """
    text = _open(path, reading, columns, progress)
    if notes is not None and text.separator != _usual_separator(path):
        name = next(name for name, sign in SEPARATORS.items() if sign == text.separator)
        notes.append(f"fields are separated by {name}")
    names, frame = _parse(text)

    def locate(row: int) -> str:
        filled = (record for record in _rows(text) if record.fields)
        return f"{path}, line {next(islice(filled, row, None)).line}"

    if frame.is_empty():
        raise CocorrrecError(f"{path}: holds a header and no row")
    return Raw(str(path), frame.rename(dict(zip(frame.columns, names, strict=True))), text.header, locate)


def read_table(
    path: Path,
    required: Sequence[str],
    *,
    optional: Sequence[str] = (),
    encoding: str = "",
    progress: OnBytes | None = None,
) -> pl.DataFrame:
    """Columns of a file with a header as text. Blank lines are left out.

    No required field is empty anywhere; an empty optional one is null.

    Raises:
        UsageError: the file does not exist, or lacks a required column.
        CocorrrecError: it is empty, damaged, or has a bad row; the message names the line.
    """
    named = [*required, *optional]
    text = _open(path, Reading(header="yes", encoding=encoding), Columns(*named[:2]), progress)
    header, frame = _parse(text)
    frame = frame.rename(dict(zip(frame.columns, header, strict=True)))
    missing = [f"no column '{name}' ({nearest(name, header)})" for name in required if name not in header]
    if missing:
        raise UsageError(f"{path}: " + "; ".join(missing))
    kept = [*required, *(name for name in optional if name in header and name not in required)]
    frame = frame.select(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in kept)
    if frame.is_empty():
        raise CocorrrecError(f"{path}: holds a header and no row")
    for name in required:
        empty = (frame[name].str.strip_chars() == "").fill_null(value=True)
        if empty.any():
            raise _bad_value(text, frame[name], empty, "a value")
    return frame


def csv_header(path: Path) -> list[str]:
    """The names of a file's columns.

    Raises:
        UsageError: it does not exist.
        CocorrrecError: it is empty, or damaged.
    """
    return _read_header(_open(path, Reading(header="yes"), Columns(), None))


def _parse(text: _Text) -> tuple[list[str], pl.DataFrame]:
    """The names of the columns, and the fields as text."""
    path, separator, data = text.path, text.separator, text.data
    header = _read_header(text)
    if len(separator) > 1:
        if _UNIT in data:
            raise CocorrrecError(f"{path}: holds the unit separator, a control character; give another --separator")
        data, separator = data.replace(separator.encode(), _UNIT), _UNIT.decode()
    places = [str(place) for place in range(1, len(header) + 1)]
    try:
        frame = pl.read_csv(
            data,
            infer_schema=False,  # ids are text
            separator=separator,
            quote_char='"' if text.quoted else None,
            has_header=text.header,
            with_column_names=lambda names: places[: len(names)],
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        _check_rows(text, len(header))
        reason = str(error).splitlines()[0]
        raise CocorrrecError(
            f"{path}: cannot be read: expected rows of {len(header)} fields in UTF-8 ({reason})"
        ) from None
    # A short row, a blank line, or an empty field: only a second look can tell.
    if frame.width != len(header) or frame[places[-1]].null_count():
        blank = _check_rows(text, len(header))
        frame = frame.filter(~pl.int_range(pl.len()).is_in(blank)) if blank else frame
    return header if text.header else places, frame


def _open(path: Path, reading: Reading, columns: Columns, progress: OnBytes | None) -> _Text:
    data = _decode(path, b"".join(read_chunks(path, limit=MAX_BYTES, progress=progress)), reading.encoding)
    if not data.strip():
        raise CocorrrecError(f"{path}: is empty")
    check_zero_bytes(path, data)
    # Blank lines at the beginning would be taken for a header by the library; they are counted by the second look.
    data = data.rstrip(b"\r\n") if data.endswith((b"\n\n", b"\n\r\n")) else data
    text = _Text(path, data, _find_separator(path, data, reading))
    text = replace(text, quoted=_is_quoted(text))
    return replace(text, header=_has_header(text, reading, columns))


def _decode(path: Path, data: bytes, encoding: str) -> bytes:
    """The text in UTF-8."""
    encoding = encoding or next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if (
        not encoding
        and len(data) >= 4
        and data[:200].count(0) * 3 > len(data[:200])
        and not data[:200].startswith(b"\0\0")
    ):
        raise CocorrrecError(
            f"{path}: holds a zero byte in every other place, as UTF-16 without a byte order mark does; read it with "
            f"--encoding utf-16-{'be' if data[0] == 0 else 'le'}"
        )
    if not encoding or codecs.lookup(encoding).name == "utf-8":
        return data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeError as error:
        raise CocorrrecError(f"{path}: is not {encoding} text: {error}; give another --encoding") from None


def _sample_lines(data: bytes) -> list[str]:
    beginning = data[: 1 << 20]
    lines = beginning.decode("utf-8", errors="replace").splitlines()
    return [line for line in (lines if len(data) == len(beginning) else lines[:-1] or lines) if line.strip()][:_SAMPLE]


def _find_separator(path: Path, data: bytes, reading: Reading) -> str:
    """The one that gives the most known names in the first line, else the same count in every line."""
    if reading.separator:
        return reading.separator_text
    lines, usual = _sample_lines(data), _usual_separator(path)
    candidates = sorted(("\t", "::", ";", "|", ",", " "), key=lambda sign: sign != usual)
    names = {sign: known_names([field.strip(' "') for field in lines[0].split(sign)]) for sign in candidates}
    best = max(candidates, key=lambda sign: names[sign])
    if names[best] >= 2:
        return best
    bare = [re.sub(r'"[^"]*"', '""', line) for line in lines]
    counts = {sign: {line.count(sign) for line in bare} for sign in candidates}
    even = [sign for sign in candidates if len(counts[sign]) == 1 and counts[sign] != {0}]
    return even[0] if even and counts[usual] - {0} != counts[usual] else usual


def _is_quoted(text: _Text) -> bool:
    """Tab-separated dumps hold loose quotes, which are no more than characters."""
    if text.separator == "::":
        return False
    if text.separator != "\t":
        return True
    starts = text.data.startswith(b'"') or b'\t"' in text.data or b'\n"' in text.data
    return (
        starts and all(line.count('"') % 2 == 0 for line in _sample_lines(text.data)) and text.data.count(b'"') % 2 == 0
    )


def _has_header(text: _Text, reading: Reading, columns: Columns) -> bool:
    if reading.header != "auto":
        return reading.header == "yes"
    first = [field.strip() for field in next(record for record in _records(text) if record.fields).fields]
    named = [name for name in (columns.user, columns.item, columns.time, columns.rating) if name]
    short = {field.split(":", 1)[0] for field in first} | set(first)
    if any(name in short for name in named) or known_names(first):
        return True
    if any(name.isdecimal() for name in named):
        return False
    # No header has a number or a date for a name, and none is empty.
    return not any(not field or re.fullmatch(r"[-+]?\d[\d.,:/T Z+-]*", field) for field in first)


def _read_header(text: _Text) -> list[str]:
    """The names in the first line, or as many numbers."""
    record = next(record for record in _records(text) if record.fields)
    if not text.header:
        return [str(place) for place in range(1, len(record.fields) + 1)]
    header = [name.strip() for name in record.fields]
    if ".inter" in text.path.suffixes:
        header = [name if name.endswith(":token_seq") else name.split(":", 1)[0] for name in header]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CocorrrecError(
            f"{text.path}, line {record.line}: column '{twice[0]}' is there twice; where line 1 is not a header say "
            f"--no-header, and give the columns by place"
        )
    return header


class _Record(NamedTuple):
    line: int  # where it begins, counted from 1
    fields: list[str]  # none: a blank line
    quotes: int  # double quotes in its text, where they mean something


def _records(text: _Text) -> Iterator[_Record]:
    """The file again, record by record: slower, but it knows the lines."""
    path, line, quotes = text.path, 1, 0

    def lines() -> Iterator[str]:
        nonlocal quotes
        for number, raw in enumerate(io.BytesIO(text.data), start=1):
            quotes += raw.count(b'"') if text.quoted else 0
            try:
                yield raw.decode("utf-8")
            except UnicodeDecodeError:
                raise CocorrrecError(
                    f"{path}, line {number}: not UTF-8; say what it is with --encoding, such as latin-1"
                ) from None

    if not text.quoted:
        for number, line_text in enumerate(lines(), start=1):
            content = line_text.rstrip("\r\n")
            yield _Record(number, content.split(text.separator) if content else [], 0)
        return
    csv.field_size_limit(MAX_BYTES)
    reader = csv.reader(lines(), delimiter=text.separator, strict=True)
    try:
        for fields in reader:
            yield _Record(line, fields, quotes)
            line, quotes = reader.line_num + 1, 0
    except csv.Error as error:
        reason = str(error).split(" - ")[0]  # what follows is advice on Python
        raise CocorrrecError(f"{path}, line {line}: {reason}") from None


def _rows(text: _Text) -> Iterator[_Record]:
    """The records after the header."""
    records = _records(text)
    if text.header:
        next(record for record in records if record.fields)
    return records


def _check_rows(text: _Text, width: int) -> list[int]:
    """Raise for the first row that is not ``width`` fields; else the rows, counted from 0, that are blank lines."""
    blank, expected = [], "the header has" if text.header else "line 1 has"
    for number, row in enumerate(_rows(text)):
        if row.quotes % 2:
            raise CocorrrecError(
                f"{text.path}, line {row.line}: an odd number of double quotes; write one inside a field as two, and "
                f"the field in quotes"
            )
        if not row.fields:
            blank.append(number)
        elif len(row.fields) != width:
            raise CocorrrecError(f"{text.path}, line {row.line}: {len(row.fields)} fields, {expected} {width}")
    return blank


def _bad_value(text: _Text, column: pl.Series, is_bad: pl.Series, expected: str) -> CocorrrecError:
    """The error of the first bad value."""
    number = int(is_bad.arg_true()[0])
    line = next(islice((row for row in _rows(text) if row.fields), number, None)).line
    return CocorrrecError(f"{text.path}, line {line}: {column.name} is {column[number] or ''!r}, expected {expected}")


def inner_suffix(path: Path) -> str:
    """The suffix of a file's name, minus that of its compression."""
    return Path(plain_name(path)).suffix


def _usual_separator(path: Path) -> str:
    return "\t" if inner_suffix(path) in (".inter", ".tsv") else ","
