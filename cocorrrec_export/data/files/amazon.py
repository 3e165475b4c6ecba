"""Amazon's files of ratings alone: CSV, read in pieces."""

import io
import re
import reprlib
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import polars as pl

from cocorrrec_export.data.encoding import collect
from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.files.streaming import Block, OnBytes, filled_lines, read_blocks
from cocorrrec_export.errors import CocorrrecError, UsageError, listed

FORMAT = "amazon-ratings"

_KNOWN = {
    "user": ("user_id", "UserId", "reviewerID", "user"),
    "item": ("parent_asin", "ProductId", "asin", "item"),
    "rating": ("rating", "Rating", "overall"),
    "time": ("timestamp", "Timestamp", "unixReviewTime"),
}
_ASIN = re.compile(r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]")  # an item that is a book has its ISBN
_SAMPLE = 1000
_WIDTH = 4
_KINDS = {"user": pl.String, "item": pl.String, "time": pl.Int64, "rating": pl.Float64}


class _Layout(NamedTuple):
    width: int
    has_header: bool
    places: dict[str, int]  # of user, item, time and rating, counted from 0
    names: dict[str, str]  # what an error calls them


def is_amazon_ratings(first_line: str) -> bool:
    """Whether a CSV file begins as one of Amazon's: their header, or a row of user and item in any order."""
    fields = _fields(first_line)
    if all(any(name in fields for name in _KNOWN[what]) for what in ("user", "rating", "time")):
        return any(name in fields for name in ("parent_asin", "ProductId", "asin"))
    is_item = [_ASIN.fullmatch(field) is not None for field in fields[:2]]
    return len(fields) == _WIDTH and sum(is_item) == 1 and all(_fits(_number, field) for field in fields[2:])


def read_amazon_ratings(
    path: Path, *, columns: Columns | None = None, rating: bool = False, progress: OnBytes | None = None
) -> pl.DataFrame:
    """Read a file of Amazon's ratings: ``user,item,rating,timestamp`` (2014), ``item,user,rating,timestamp`` (2018).

    Which of the first two is the item is told by the form of its ids. With a header (2023), by its name.

    Args:
        path: CSV without quotes, plain or gzipped.
        columns: header names; in a file without a header, places counted from 1.
        rating: read the ratings too.
        progress: receives the bytes read.

    Returns:
        Columns ``user`` and ``item`` (Categorical), ``time`` (Int64, as in the file) and, if asked for, ``rating``
        (Float64).

    Raises:
        UsageError: it does not exist, or users and items cannot be distinguished.
        CocorrrecError: it is damaged, or has a bad row; the message names the line.
    """
    return collect(path, _parts(path, columns or Columns(), rating, progress))


def _parts(path: Path, columns: Columns, rating: bool, progress: OnBytes | None) -> Iterator[pl.DataFrame]:
    blocks = (block for block in read_blocks(path, progress=progress) if not block.data.isspace())
    first = next(blocks)
    layout = _find_layout(path, first, columns, rating=rating)
    if layout.has_header:
        header, data = next(filled_lines(first))[0], first.data
        end = _end_of_line(data, header - first.line)
        first = Block(header + 1, data[end:], first.lines - (header - first.line) - 1)
    rows = 0
    for block in chain([first], blocks):
        part = _parse(path, block, layout)
        rows += len(part)
        yield part
    if not rows:
        raise CocorrrecError(f"{path}: holds a header and no row")


def _end_of_line(data: bytes, lines_before: int) -> int:
    end = 0
    for _ in range(lines_before + 1):
        end = data.find(b"\n", end) + 1 or len(data)
    return end


def _find_layout(path: Path, block: Block, columns: Columns, *, rating: bool) -> _Layout:
    sample = [_fields(text.decode()) for _, text in islice(filled_lines(block), _SAMPLE)]
    first = sample[0]
    wanted = ("user", "item", "time", *(["rating"] if rating else []))
    named = {what: getattr(columns, what) for what in wanted}
    known = {name for names in _KNOWN.values() for name in names} | {name for name in named.values() if name}
    has_header = any(field in known and not field.isdigit() for field in first)
    if has_header:
        places = {what: _find_column(path, first, what, named[what]) for what in wanted}
        return _Layout(len(first), has_header, places, {what: first[place] for what, place in places.items()})
    if len(first) < _WIDTH:
        raise CocorrrecError(
            f"{path}, line 1: {len(first)} fields, ratings of Amazon have {_WIDTH}: user, item, rating, timestamp"
        )
    places = {"rating": 2, "time": 3}
    if not (columns.user and columns.item):
        places["item"] = _item_column(path, sample)
        places["user"] = 1 - places["item"]
    places |= {what: _place(path, what, name, len(first)) for what, name in named.items() if name}
    return _Layout(len(first), has_header, {what: places[what] for what in wanted}, {what: what for what in wanted})


def _find_column(path: Path, header: list[str], what: str, name: str) -> int:
    for known in [name] if name else _KNOWN[what]:
        if known in header:
            return header.index(known)
    raise UsageError(f"{path}: no column '{name or what}' (known: {listed(header)}); give --{what}-column NAME")


def _place(path: Path, what: str, name: str, width: int) -> int:
    if not name.isdecimal() or not 1 <= int(name) <= width:
        raise UsageError(f"{path}: has no header: --{what}-column takes a place from 1 to {width}, got '{name}'")
    return int(name) - 1


def _item_column(path: Path, sample: list[list[str]]) -> int:
    """0 or 1: where the items of a sample of rows are."""
    pairs = [row[:2] for row in sample if len(row) > 1 and all(row[:2])]
    shares = [sum(_ASIN.fullmatch(pair[place]) is not None for pair in pairs) / max(len(pairs), 1) for place in (0, 1)]
    likely = int(shares[1] > shares[0])
    if shares[likely] < 0.9 or shares[1 - likely] > 0.1:
        raise UsageError(
            f"{path}: users and items cannot be distinguished by their form: give --user-column 1 --item-column 2 "
            f"(as in the release of 2014), or --user-column 2 --item-column 1 (2018)"
        )
    return likely


def _parse(path: Path, block: Block, layout: _Layout) -> pl.DataFrame:
    """The rows of one block; the slow look at single lines happens only where something is amiss."""
    if block.data.isspace() or not block.data:
        return _empty(layout)
    try:
        frame = _read_csv(block.data, layout)
    except pl.exceptions.PolarsError:
        _check_lines(path, block, layout)
        # Every line is sound: the block begins with a blank one, from which no columns can be told.
        frame = _read_csv(block.data.lstrip(), layout)
    numbers = {"time": _whole(pl.col("time"))} | ({"rating": _number(pl.col("rating"))} if "rating" in frame else {})
    parsed = frame.with_columns(**numbers)
    if any(parsed.null_count().row(0)):
        _check_lines(path, block, layout)
        parsed = parsed.drop_nulls()  # blank lines
        if len(parsed) != sum(1 for _ in filled_lines(block)):
            raise CocorrrecError(f"{path}, line {block.line} or later: cannot be read")
    return parsed


def _read_csv(data: bytes, layout: _Layout) -> pl.DataFrame:
    # The columns have no names but their places.
    names = {place: f"column_{place + 1}" for place in range(layout.width)}
    used = {what: names[place] for what, place in layout.places.items()}
    schema = dict.fromkeys(names.values(), pl.String)
    frame = pl.read_csv(io.BytesIO(data), has_header=False, schema=schema, columns=list(used.values()), quote_char=None)
    return frame.select(**used)


def _empty(layout: _Layout) -> pl.DataFrame:
    return pl.DataFrame(schema={what: kind for what, kind in _KINDS.items() if what in layout.places})


def _check_lines(path: Path, block: Block, layout: _Layout) -> None:
    """Raise for the first line that is not a row."""
    for number, text in filled_lines(block):
        fields, where = _fields(text.decode()), f"{path}, line {number}"
        if len(fields) != layout.width:
            raise CocorrrecError(f"{where}: {len(fields)} fields, expected {layout.width}")
        for what, place in layout.places.items():
            value, name = fields[place], layout.names[what]
            if what in ("user", "item") and not value:
                raise CocorrrecError(f"{where}: {name} is '', expected a value")
            if what == "time" and not _fits(_whole, value):
                raise CocorrrecError(
                    f"{where}: {name} is {reprlib.repr(value)}, expected whole seconds or milliseconds"
                )
            if what == "rating" and not _fits(_number, value):
                raise CocorrrecError(f"{where}: {name} is {reprlib.repr(value)}, expected a number")


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split(",")]


def _whole(text: pl.Expr) -> pl.Expr:
    return text.str.strip_chars().cast(pl.Int64, strict=False)


def _number(text: pl.Expr) -> pl.Expr:
    return text.str.strip_chars().cast(pl.Float64, strict=False).fill_nan(None)


def _fits(parse: Callable[[pl.Expr], pl.Expr], text: str) -> bool:
    return pl.select(parse(pl.lit(text))).item() is not None
