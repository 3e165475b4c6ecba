"""Files of interactions as people have them: which format it is, and the reader of it."""

from pathlib import Path

import polars as pl

from cocorrrec_export.data.files import amazon, jsonl
from cocorrrec_export.data.files.csv import Columns, inner_suffix, read_interactions
from cocorrrec_export.data.files.streaming import MAX_STREAM_BYTES, Progress, read_chunks
from cocorrrec_export.errors import UsageError, nearest

AUTO, CSV = "auto", "csv"
FORMATS = (AUTO, CSV, amazon.FORMAT, *jsonl.KEYS)


def check_format(name: str) -> None:
    """Raise a UsageError for a name that is not in :data:`FORMATS`."""
    if name not in FORMATS:
        raise UsageError(f"format '{name}' ({nearest(name, FORMATS)})")


def read_file(
    path: Path,
    *,
    format: str = AUTO,
    columns: Columns | None = None,
    rating: bool = False,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Read a file of interactions of any known format.

    Args:
        path: the file, plain or gzipped.
        format: one of :data:`FORMATS`; ``auto`` tells it by the file's name and first line.
        columns: header names or keys, where they are not the usual ones.
        rating: read the ratings too.
        progress: hears of the bytes read.

    Returns:
        Columns ``user`` and ``item`` (str or Categorical), ``time`` and, if asked for, ``rating``, in the order of the
        file.

    Raises:
        UsageError: the file does not exist, or has no such columns.
        CocorrrecError: it is damaged, or has a bad row; the message names the line.
    """
    check_format(format)
    columns = columns or Columns()
    if format == AUTO:
        format = _detect(path, columns)
    if format == CSV:
        return read_interactions(path, columns=columns, rating=rating, progress=progress)
    if format == amazon.FORMAT:
        return amazon.read_amazon_ratings(path, columns=columns, rating=rating, progress=progress)
    return jsonl.read_reviews(path, format=format, columns=columns, rating=rating, progress=progress)


def _detect(path: Path, columns: Columns) -> str:
    suffix = inner_suffix(path)
    if suffix in (".inter", ".tsv"):
        return CSV
    beginning = next(read_chunks(path, limit=MAX_STREAM_BYTES), b"")
    blank = len(beginning) - len(beginning.lstrip())
    first_line = beginning[blank:].split(b"\n", 1)[0]
    if suffix in (".json", ".jsonl", ".ndjson") or first_line.startswith((b"{", b"[")):
        if not first_line:
            return jsonl.YELP  # every reader says that it is empty
        return jsonl.find_format(path, beginning.count(b"\n", 0, blank) + 1, first_line)
    try:
        is_amazon = amazon.is_amazon_ratings(first_line.decode())
    except UnicodeDecodeError:
        return CSV
    # Headers that the user names are those of any CSV file.
    named = [name for name in (columns.user, columns.item) if name and not name.isdecimal()]
    return amazon.FORMAT if is_amazon and not named else CSV
