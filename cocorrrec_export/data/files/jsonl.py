"""Reviews of Amazon and Yelp: one JSON object a line, read in pieces; nothing but ids, rating and time is kept."""

import reprlib
from collections.abc import Iterator, Mapping
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import polars as pl

from cocorrrec_export.data.encoding import collect
from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.files.streaming import Block, OnBytes, filled_lines, read_blocks
from cocorrrec_export.errors import CocorrrecError, UsageError, listed


class Keys(NamedTuple):
    """Where one release of reviews keeps what we read."""

    user: str
    item: str
    rating: str
    time: str


AMAZON, YELP = "amazon-reviews", "yelp-reviews"
KEYS = {
    AMAZON: (
        Keys("user_id", "parent_asin", "rating", "timestamp"),  # 2023; an asin is there too, of one color or size
        Keys("reviewerID", "asin", "overall", "unixReviewTime"),  # 2014 and 2018
        Keys("user_id", "asin", "rating", "timestamp"),
    ),
    YELP: (Keys("user_id", "business_id", "stars", "date"),),
}
"""The keys of each format; of several the first that fits."""

DATE, DATE_AND_TIME = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f"
_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_ID = Annotated[str, msgspec.Meta(min_length=1)]
_LOOSE = (
    "holds a Python literal, not JSON, as some of Amazon's files of 2014 do; it is not evaluated. Convert it once: "
    'python -c "import ast, json, sys; [print(json.dumps(ast.literal_eval(x))) for x in sys.stdin]" < OLD > NEW'
)


def find_format(path: Path, number: int, first_line: bytes) -> str | None:
    """Which of :data:`KEYS` a file of JSON lines has, by its first line that is not blank; None: other keys.

    Raises:
        CocorrrecError: that line is not JSON.
    """
    found = _read_object(f"{path}, line {number}", first_line)
    for name, releases in KEYS.items():
        if any(all(key in found for key in keys) for keys in releases):
            return name
    return None


def read_reviews(
    path: Path, *, format: str, columns: Columns | None = None, rating: bool = False, progress: OnBytes | None = None
) -> pl.DataFrame:
    """Read a file of reviews.

    Args:
        path: JSON lines, plain or gzipped.
        format: one of :data:`KEYS`.
        columns: keys to read instead of the usual ones.
        rating: read the ratings too.
        progress: receives the bytes read.

    Returns:
        Columns ``user`` and ``item`` (Categorical), ``time`` (Int64: what the file has, or microseconds since 1970 of a
        date) and, if asked for, ``rating`` (Float64).

    Raises:
        UsageError: it does not exist, or its first line lacks a key.
        CocorrrecError: it is damaged, or a line is not a review; the message names the line.
    """
    return collect(path, _parts(path, format, columns or Columns(), rating, progress))


def _parts(path: Path, format: str, columns: Columns, rating: bool, progress: OnBytes | None) -> Iterator[pl.DataFrame]:
    decoder = None
    for block in read_blocks(path, progress=progress):
        if decoder is None:
            first = next(filled_lines(block), None)
            if first is None:
                continue
            keys = _find_keys(f"{path}, line {first[0]}", first[1], format, columns, rating=rating)
            decoder = _decoder(keys, has_dates=format == YELP)
        rows = _decode(path, block, decoder)
        part = pl.DataFrame([_series(what, list(map(attrgetter(what), rows)), format) for what in keys])
        yield _parse_dates(path, block, part, keys["time"]) if format == YELP else part


def _find_keys(where: str, line: bytes, format: str, columns: Columns, *, rating: bool) -> dict[str, str]:
    """The key of each of user, item, time and, if asked for, rating."""
    found, wanted = _read_object(where, line), ("user", "item", "time", *(["rating"] if rating else []))
    tries = []
    for keys in KEYS[format]:
        tries.append({what: getattr(columns, what) or getattr(keys, what) for what in wanted})
        if all(key in found for key in tries[-1].values()):
            return tries[-1]
    # The release that is the nearest tells what is missing.
    nearest = min(tries, key=lambda keys: sum(key not in found for key in keys.values()))
    missing = ", ".join(f"'{key}'" for key in nearest.values() if key not in found)
    raise UsageError(f"{where}: no key {missing} as {format} have (found: {listed(found)})")


def _read_object(where: str, line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except UnicodeDecodeError:
        raise CocorrrecError(f"{where}: not UTF-8") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CocorrrecError(f"{where}: {_reason(line, error)}") from None


def _decoder(keys: Mapping[str, str], *, has_dates: bool) -> "msgspec.json.Decoder[Any]":
    kinds = {"user": _ID | int, "item": _ID | int, "time": str if has_dates else _INT64 | float, "rating": float}
    fields = [(what, kinds[what]) for what in keys]
    return msgspec.json.Decoder(msgspec.defstruct("Review", fields, rename=keys, gc=False))


def _series(what: str, values: list[Any], format: str) -> pl.Series:
    if what == "rating":
        return pl.Series(what, values, dtype=pl.Float64)
    if what == "time" and format != YELP:
        is_whole = all(isinstance(value, int) for value in values)
        return pl.Series(what, values, dtype=pl.Int64 if is_whole else pl.Float64, strict=False)
    try:
        return pl.Series(what, values, dtype=pl.String)
    except TypeError:  # whole numbers among the ids
        return pl.Series(what, list(map(str, values)), dtype=pl.String)


def _decode(path: Path, block: Block, decoder: "msgspec.json.Decoder[Any]") -> list[Any]:
    """The reviews of a block; the slow look at single lines happens only where something is amiss."""
    try:
        rows = decoder.decode_lines(block.data)
        if len(rows) == block.lines:
            return rows
    except (msgspec.MsgspecError, RecursionError):
        pass
    rows = []
    for number, text in filled_lines(block):
        try:
            rows.append(decoder.decode(text))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise CocorrrecError(f"{path}, line {number}: {_reason(text, error)}") from None
    return rows


def _reason(line: bytes, error: Exception) -> str:
    if line.lstrip().startswith((b"{'", b"{u'")):
        return _LOOSE
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        return str(error).replace("`", "'").replace("Object missing required field", "no key")
    return f"not JSON: {str(error).removeprefix('JSON is malformed: ')}"


def _parse_dates(path: Path, block: Block, part: pl.DataFrame, key: str) -> pl.DataFrame:
    """Microseconds since 1970; older files have days alone, so each date may be of another form."""
    times = _to_microseconds(part["time"], DATE_AND_TIME)
    if times.null_count():
        times = times.zip_with(times.is_not_null(), _to_microseconds(part["time"], DATE))
    if times.null_count():
        row = int(times.is_null().arg_true()[0])
        line = next(islice(filled_lines(block), row, None))[0]
        raise CocorrrecError(
            f"{path}, line {line}: {key} is {reprlib.repr(part['time'][row])}, expected a date as 2014-07-23 12:34:56"
        )
    return part.with_columns(time=times)


def _to_microseconds(text: pl.Series, form: str) -> pl.Series:
    return text.str.to_datetime(form, strict=False, time_unit="us").cast(pl.Int64)
