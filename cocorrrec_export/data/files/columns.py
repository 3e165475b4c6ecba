"""Which column of a file is the user, the item, the time: by the names that everyone has, by place, or as told."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from cocorrrec_export.data.files.reading import Reading
from cocorrrec_export.data.files.times import parse_times
from cocorrrec_export.errors import CocorrrecError, UsageError, listed, nearest
from cocorrrec_export.toml import check_types

NAMES = {
    "user": "user userid uid customerid customer visitorid reviewerid memberid accountid clientid username playerid "
    "personid deviceid sessionid session",
    "item": "item itemid iid movieid movie productid product articleid article parentasin asin businessid isbn songid "
    "trackid venueid poiid locationid gameid appid newsid bookid artistid videoid photoid animeid recipeid sku",
    "time": "timestamp time order ts datetime date eventtime eventtimestamp eventdate tdat unixreviewtime unixtime "
    "unixtimestamp createdat created createtime utctimestamp clicktime visittime checkintime viewedat watchedat "
    "playedat listenedat purchasedate purchasedat orderdate orderedat invoicedate transactiondate ratedat ratingtime "
    "timeframe occurredat epoch",
    "rating": "rating ratings stars overall score bookrating",
    "event": "event eventtype behavior behaviortype behaviour action type interactiontype",
}
"""Headers that are taken where the user names none, the likeliest first, in small letters and digits alone."""
KNOWN = {what: tuple(names.split()) for what, names in NAMES.items()}
"""The same, one by one."""
_ALL_NAMES = frozenset(name for names in KNOWN.values() for name in names)


@dataclass(frozen=True)
class Columns:
    """Header names or JSON keys in the user's file, or places from 1; an empty name is found by :data:`NAMES`."""

    user: str = ""
    item: str = ""
    time: str = ""
    rating: str = ""
    """Read only where ratings are filtered by."""

    def __post_init__(self) -> None:
        check_types(self)


def simplified(name: str) -> str:
    """A header as :data:`NAMES` has it."""
    return re.sub(r"[^a-z0-9]", "", name.split(":", 1)[0].lower())


def known_names(fields: Sequence[str]) -> int:
    """How many of some fields are headers that we know."""
    return sum(simplified(field) in _ALL_NAMES for field in fields)


def parse_keep(text: str) -> tuple[str, frozenset[str]] | None:
    """``event=view,addtocart``: a column, and the values that are kept of it.

    Raises:
        UsageError: it is something else.
    """
    if not text:
        return None
    column, equals, values = text.partition("=")
    kept = frozenset(value.strip() for value in values.split(",") if value.strip())
    if not equals or not column.strip() or not kept:
        raise UsageError(f"keep takes COLUMN=VALUE,VALUE such as event=view,addtocart, got '{text}'")
    return column.strip(), kept


@dataclass(frozen=True)
class Raw:
    """A file's columns before they are understood."""

    where: str
    frame: pl.DataFrame
    """Every column, named as in the header, or by place from 1 in a file without one."""
    has_header: bool
    locate: Callable[[int], str]
    """Names the place of a row, counted from 0, in an error."""


def interpret(
    raw: Raw, columns: Columns, reading: Reading, *, rating: bool = False, keep: str = "", notes: list[str]
) -> pl.DataFrame:
    """The interactions of a file.

    Args:
        raw: its columns.
        columns: which they are, where the names do not say.
        reading: how times are read.
        rating: read the ratings too.
        keep: as :func:`parse_keep` takes it.
        notes: what was found and counted is appended, a sentence each.

    Returns:
        Columns ``user`` and ``item`` (str), ``time`` (Datetime[ns]; Int64 or Float64 of an order that is not a date; or
        ``row`` again where rows count in order), ``row`` (UInt32, from 1, of the file's rows) and,
        if asked for, ``rating`` (Float64), in the order of the file.

    Raises:
        UsageError: a column is missing, or it is not clear which one orders the clicks.
        CocorrrecError: a bad value; the message names its place.
    """
    chosen = _choose(raw, columns, reading, rating=rating, notes=notes)
    frame = raw.frame.with_row_index("\0row", offset=1)
    kept = parse_keep(keep)
    if kept is not None:
        column = _find(raw, "event", kept[0])
        values = frame[column].cast(pl.String).str.strip_chars()
        chosen_rows = values.is_in(list(kept[1])).fill_null(value=False)
        if not chosen_rows.any():
            found = values.drop_nulls().unique(maintain_order=True).head(10).to_list()
            raise UsageError(f"{raw.where}: no row has {keep}; the values of {column} are {listed(found)}")
        notes.append(f"kept {int(chosen_rows.sum())} of {len(frame)} rows with {keep}")
        frame = frame.filter(chosen_rows)
    rows = frame["\0row"]

    def locate(place: int) -> str:
        return raw.locate(int(rows[place]) - 1)

    result = {what: _ids(frame[chosen[what]], what, locate, notes) for what in ("user", "item")}
    result["row"] = rows.alias("row")
    if "time" in chosen:
        times = parse_times(frame[chosen["time"]], reading, locate)
        result["time"] = times.values
        notes.extend([times.note] if times.note else [])
    else:
        result["time"] = rows
    if rating:
        result["rating"] = _ratings(frame[chosen["rating"]], locate)
    table = pl.DataFrame({what: values.alias(what) for what, values in result.items()})
    return settle_unknown(table, chosen.get("time", ""), reading, locate, notes)


def settle_unknown(
    table: pl.DataFrame, name: str, reading: Reading, locate: Callable[[int], str], notes: list[str]
) -> pl.DataFrame:
    """``table`` with no null in ``time``, as ``reading`` says; ``name`` is that of the column in the file.

    Raises:
        CocorrrecError: there are some, and what to do is not said.
    """
    unknown = table["time"].is_null()
    count = int(unknown.sum())
    if not count:
        return table
    if reading.unknown_times == "refuse":
        raise CocorrrecError(
            f"{locate(int(unknown.arg_true()[0]))}: {name} is 0, -1 or empty in {count} of {len(table)} rows, "
            f"which would sort them first; leave them out with --unknown-times drop, or confirm with "
            f"--unknown-times first"
        )
    if reading.unknown_times == "drop":
        notes.append(f"left out {count} of {len(table)} rows without a known time")
        return table.filter(~unknown)
    notes.append(f"{count} of {len(table)} rows without a known time count as the oldest")
    known = table["time"].dtype
    return table.with_columns(pl.col("time").fill_null(pl.lit(0).cast(known)))


def _ids(values: pl.Series, what: str, locate: Callable[[int], str], notes: list[str]) -> pl.Series:
    if values.dtype.is_float():  # as nullable whole numbers become
        whole = values.cast(pl.Int64, strict=False)
        values = whole if (whole == values).fill_null(value=True).all() else values
    if values.dtype.is_nested():
        raise UsageError(f"{locate(0)}: {values.name} holds lists or objects, expected one {what}; name another column")
    text = values.cast(pl.String)
    ids = text.str.strip_chars()
    empty = (ids == "").fill_null(value=True)
    if empty.any():
        row = int(empty.arg_true()[0])
        raise CocorrrecError(f"{locate(row)}: {values.name} is {text[row] or ''!r}, expected a value")
    blanks = int((ids != text).sum())
    if blanks:
        notes.append(f"stripped the blanks around {blanks} of {len(ids)} {what} ids")
    missing = int(ids.str.to_lowercase().is_in(["na", "nan", "null", "none", "n/a", "undefined"]).sum())
    if missing:
        notes.append(
            f"{missing} of {len(ids)} rows have a {what} id such as 'NA' or 'null', which counts as one {what}"
        )
    return ids


def _ratings(values: pl.Series, locate: Callable[[int], str]) -> pl.Series:
    text = values.cast(pl.String).str.strip_chars()
    ratings = text.cast(pl.Float64, strict=False)
    bad = ratings.is_null() | ratings.is_nan()
    if bad.any():
        row = int(bad.arg_true()[0])
        raise CocorrrecError(f"{locate(row)}: {values.name} is {text[row] or ''!r}, expected a number")
    return ratings


def _find(raw: Raw, what: str, name: str) -> str:
    """The column that the user names, by its header or by its place."""
    header = raw.frame.columns
    if name in header:
        return name
    if name.isdecimal():
        if not raw.has_header and not 1 <= int(name) <= len(header):
            raise UsageError(f"{raw.where}: has {len(header)} columns and no header: no column {name}")
        if 1 <= int(name) <= len(header):
            return header[int(name) - 1]
    short = {column.split(":", 1)[0].strip(): column for column in header}
    if name.strip() in short:
        return short[name.strip()]
    option = "--keep" if what == "event" else f"--{what}-column"
    if not raw.has_header:
        raise UsageError(f"{raw.where}: has no header: {option} takes a place from 1 to {len(header)}, got '{name}'")
    raise UsageError(f"{raw.where}: no column '{name}' ({nearest(name, short)}); give another {option}")


def _by_name(raw: Raw, what: str) -> list[str]:
    found = {simplified(column): column for column in reversed(raw.frame.columns)}
    return [found[name] for name in KNOWN[what] if name in found]


def _choose(raw: Raw, columns: Columns, reading: Reading, *, rating: bool, notes: list[str]) -> dict[str, str]:
    _refuse_split_files(raw)
    wanted = ("user", "item", *(["rating"] if rating else []))
    chosen = {what: _find(raw, what, name) for what in wanted if (name := getattr(columns, what))}
    if raw.has_header:
        for what in wanted:
            found = [] if what in chosen else _by_name(raw, what)
            if what not in chosen and not found:
                known = nearest(what, [column.split(":", 1)[0] for column in raw.frame.columns])
                raise UsageError(f"{raw.where}: no column '{what}' ({known}); name it with --{what}-column")
            chosen.setdefault(what, found[0] if found else "")
            if len(found) > 1:
                notes.append(f"the {what} is '{found[0]}', not '{found[1]}'")
    else:
        _choose_by_place(raw, columns, reading, chosen, rating=rating)
    if chosen["user"] == chosen["item"]:
        raise UsageError(f"{raw.where}: user and item are both column '{chosen['user']}'")
    time = _choose_time(raw, columns, reading, chosen, notes)
    if time is not None:
        chosen["time"] = time
    if not raw.has_header:
        notes.append(
            "line 1 is not a header; by place: "
            + ", ".join(f"{what} is column {name}" for what, name in chosen.items())
        )
    return chosen


def _refuse_split_files(raw: Raw) -> None:
    lists = [name for name in raw.frame.columns if name.endswith(":token_seq") and "list" in name]
    if lists:
        raise UsageError(
            f"{raw.where}: column '{lists[0]}' holds a history in every row: the file is split already, one row for "
            f"each target, and would count clicks many times or lose them; give the .inter file that it was made from"
        )


def _choose_time(raw: Raw, columns: Columns, reading: Reading, chosen: dict[str, str], notes: list[str]) -> str | None:
    if reading.order == "file":
        if columns.time:
            raise UsageError(f"{raw.where}: --file-order and --time-column {columns.time} exclude each other")
        notes.append("rows count in the order of the file")
        return None
    if columns.time:
        return _find(raw, "time", columns.time)
    rest = [name for name in raw.frame.columns if name not in chosen.values()]
    found = [name for name in (_by_name(raw, "time") if raw.has_header else _time_like(raw, reading)) if name in rest]
    if len(found) == 1 or (found and simplified(found[0]) == "timestamp"):
        return found[0]
    if found:
        raise UsageError(
            f"{raw.where}: {' and '.join(found)} may each be the time: say which one orders the clicks with "
            f"--time-column NAME, or --file-order"
        )
    if rest:
        raise UsageError(
            f"{raw.where}: none of the columns {listed(rest)} is known as a time: name the one that orders the clicks "
            f"with --time-column NAME, or say --file-order where the rows are in order already"
        )
    notes.append("there is no time: rows count in the order of the file")
    return None


def _time_like(raw: Raw, reading: Reading) -> list[str]:
    """The columns whose first rows are all plausible dates."""
    found = []
    for name in raw.frame.columns:
        try:
            values = parse_times(raw.frame[name].head(1000), reading, raw.locate).values
        except CocorrrecError:
            continue
        if values.dtype == pl.Datetime("ns") and values.null_count() * 2 < len(values):
            found.append(name)
    return found


def _choose_by_place(raw: Raw, columns: Columns, reading: Reading, chosen: dict[str, str], *, rating: bool) -> None:
    header = raw.frame.columns
    times = [] if reading.order == "file" else _time_like(raw, reading)
    time = _find(raw, "time", columns.time) if columns.time else times[0] if len(times) == 1 else ""
    likely = len(header) == 2 or (len(header) in (3, 4) and time == header[-1])
    if not likely and "item" not in chosen:
        shown = ", ".join(f"{name} {str(raw.frame[name][0])[:24]!r}" for name in header[:12])
        raise UsageError(
            f"{raw.where}: line 1 is not a known header, and its columns are {shown}: say which one the item is "
            f"with --item-column PLACE, and the user with --user-column PLACE where it is not column 1"
        )
    chosen.setdefault("user", header[0])
    chosen.setdefault("item", header[1])
    if rating and "rating" not in chosen:
        if len(header) != 4 or time != header[-1]:
            raise UsageError(f"{raw.where}: has no header: say which column the rating is with --rating-column PLACE")
        chosen["rating"] = header[2]
