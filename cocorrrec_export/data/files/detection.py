"""Files of interactions as people have them: which format it is, and the reader of it."""

import glob
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from cocorrrec_export.data.encoding import collect
from cocorrrec_export.data.files import amazon, jsonl, mind, tables
from cocorrrec_export.data.files.columns import Columns, interpret, parse_keep, settle_unknown
from cocorrrec_export.data.files.csv import inner_suffix, read_raw
from cocorrrec_export.data.files.reading import Reading
from cocorrrec_export.data.files.streaming import MAX_STREAM_BYTES, OnBytes, read_chunks
from cocorrrec_export.data.files.times import parse_times
from cocorrrec_export.errors import CocorrrecError, UsageError, nearest
from cocorrrec_export.files import sha256_file

AUTO, CSV = "auto", "csv"
FORMATS = (AUTO, CSV, amazon.FORMAT, *jsonl.KEYS, mind.FORMAT, tables.PARQUET, tables.ARROW, tables.JSON)


def check_format(name: str) -> None:
    """Raise a UsageError for a name that is not in :data:`FORMATS`."""
    if name not in FORMATS:
        raise UsageError(f"format '{name}' ({nearest(name, FORMATS)})")


def parts_of(path: Path) -> list[Path]:
    """The files that a path names: itself; those of a folder; or those of a pattern with ``*``, ``?`` or ``[]``.

    Raises:
        UsageError: there is none.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file())
        found = [
            file for file in found if not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
        ]
        if not found:
            raise UsageError(f"{path}: is a folder without a file to read")
        return found
    if glob.has_magic(str(path)):
        found = sorted(file for file in map(Path, glob.iglob(str(path), recursive=True)) if file.is_file())  # noqa: PTH207
        if not found:
            raise UsageError(f"{path}: no such file; the pattern fits none")
        return found
    raise UsageError(f"{path}: no such file")


def facts_of(path: Path) -> dict[str, object]:
    """Name, bytes and SHA-256 of a file, or of all files that a path names."""
    parts = parts_of(path)
    if parts == [path]:
        return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
    digest = hashlib.sha256("".join(f"{sha256_file(part)}  {part.name}\n" for part in parts).encode()).hexdigest()
    return {"name": path.name, "bytes": sum(part.stat().st_size for part in parts), "sha256": digest}


def read_file(
    path: Path,
    *,
    format: str = AUTO,
    columns: Columns | None = None,
    reading: Reading | None = None,
    rating: bool = False,
    keep: str = "",
    progress: OnBytes | None = None,
    notes: list[str] | None = None,
) -> pl.DataFrame:
    """Read a file of interactions of any known format, or the parts of one.

    Args:
        path: a file, compressed or not; a folder of parts; or a pattern as ``part-*.csv``.
        format: one of :data:`FORMATS`; ``auto`` tells it by the first bytes and lines.
        columns: header names, JSON keys or places, where they are not the usual ones.
        reading: how, where it is not to be found.
        rating: read the ratings too.
        keep: the events that are kept, ``COLUMN=VALUE,VALUE``.
        progress: receives the bytes read.
        notes: what was found, guessed and counted is appended, a sentence each.

    Returns:
        Columns ``user`` and ``item`` (str or Categorical), ``time`` (Datetime[ns]; or a number where it is not a date),
        ``row`` (from 1) and, if asked for, ``rating``, in the order of the file.

    Raises:
        UsageError: the file does not exist, has no such columns, or it is not clear what orders the clicks.
        CocorrrecError: it is damaged, or has a bad row; the message names the line.
    """
    check_format(format)
    parse_keep(keep)
    columns, reading, notes = columns or Columns(), reading or Reading(), [] if notes is None else notes
    parts = parts_of(path)
    if len(parts) == 1:
        return _read_part(parts[0], format, columns, reading, rating, keep, progress, notes)
    before, kinds = 0, set[pl.DataType]()

    def read_parts() -> Iterator[pl.DataFrame]:
        nonlocal before
        for part in parts:
            found: list[str] = []
            frame = _read_part(part, format, columns, reading, rating, keep, progress, found)
            rows = (pl.col("row") + before).cast(pl.UInt32)
            before += int(frame["row"].to_numpy().max(initial=0))
            notes.extend(note for note in found if note not in notes)
            kinds.add(frame["time"].dtype)
            if len(kinds) > 1:
                raise CocorrrecError(
                    f"{path}: some of its {len(parts)} files have dates, others numbers; say --time-format"
                )
            yield frame.with_columns(pl.col("user", "item").cast(pl.String), row=rows)

    whole = collect(path, read_parts())
    notes.append(f"read {len(parts)} files, in the order of their names")
    return whole.with_columns(time=pl.col("row")) if whole["time"].dtype == pl.UInt32 else whole


def _read_part(
    path: Path,
    format: str,
    columns: Columns,
    reading: Reading,
    rating: bool,
    keep: str,
    progress: OnBytes | None,
    notes: list[str],
) -> pl.DataFrame:
    if format == AUTO:
        format = _detect(path, columns, reading)
    dump = {amazon.FORMAT: amazon.read_amazon_ratings, **dict.fromkeys(jsonl.KEYS, _reviews(format))}.get(format)
    if dump is not None and not keep and reading.order == "time":
        frame = dump(path, columns=columns, rating=rating, progress=progress)
        return _finish_dump(path, frame, reading, notes)
    if format in (tables.PARQUET, tables.ARROW):
        raw = tables.read_raw_table(path, format, progress=progress)
    elif format == tables.JSON or format in jsonl.KEYS:
        raw = tables.read_raw_table(path, tables.JSON, progress=progress)
    else:
        raw = read_raw(path, columns=columns, reading=reading, progress=progress, notes=notes)
        if format == mind.FORMAT:
            raw = mind.unfold(raw, notes)
    return interpret(raw, columns, reading, rating=rating, keep=keep, notes=notes)


def _reviews(format: str) -> Callable[..., pl.DataFrame]:
    def read(path: Path, **options: object) -> pl.DataFrame:
        return jsonl.read_reviews(path, format=format, **options)  # type: ignore[arg-type]

    return read


def _finish_dump(path: Path, frame: pl.DataFrame, reading: Reading, notes: list[str]) -> pl.DataFrame:
    """Dates and row numbers of a dump that was read in pieces; its ids are encoded already."""

    def locate(row: int) -> str:
        return f"{path}, row {row + 1}"

    times = parse_times(frame["time"], reading, locate)
    notes.extend([times.note] if times.note else [])
    rows = pl.int_range(1, len(frame) + 1, dtype=pl.UInt32, eager=True)
    return settle_unknown(frame.with_columns(time=times.values, row=rows), "time", reading, locate, notes)


def _detect(path: Path, columns: Columns, reading: Reading) -> str:
    table = tables.find_table_format(path)
    if table is not None:
        return table
    suffix = inner_suffix(path)
    if suffix in (".inter", ".tsv") and "behaviors" not in path.name:
        return CSV
    beginning = next(read_chunks(path, limit=MAX_STREAM_BYTES), b"")
    blank = len(beginning) - len(beginning.lstrip())
    first_line = beginning[blank:].split(b"\n", 1)[0]
    if suffix in (".json", ".jsonl", ".ndjson") or first_line.startswith((b"{", b"[")):
        if not first_line:
            return jsonl.YELP  # every reader says that it is empty
        if first_line.startswith(b"["):
            return tables.JSON
        return jsonl.find_format(path, beginning.count(b"\n", 0, blank) + 1, first_line) or tables.JSON
    try:
        line = first_line.decode()
    except UnicodeDecodeError:
        return CSV
    if mind.is_mind(line):
        return mind.FORMAT
    # Headers that the user names are those of any CSV file.
    named = [name for name in (columns.user, columns.item, columns.time) if name and not name.isdecimal()]
    plain = reading.header != "auto" or reading.separator or reading.encoding or reading.order == "file"
    return amazon.FORMAT if amazon.is_amazon_ratings(line) and not named and not plain else CSV
