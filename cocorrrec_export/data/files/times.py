"""Times as people write them: numbers of any unit, and dates of many forms, of which one must fit every row."""

import reprlib
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import polars as pl

from cocorrrec_export.data.files.reading import Reading
from cocorrrec_export.errors import CocorrrecError, UsageError

UNITS = {"seconds": 1_000_000_000, "milliseconds": 1_000_000, "microseconds": 1000, "nanoseconds": 1}
"""Nanoseconds of each unit."""
NUMBER = "number"
FIRST, LAST = datetime(1990, 1, 1), datetime(2100, 1, 1)
"""Plausible dates of an interaction."""
_FIRST_S, _LAST_S = 631_152_000, 4_102_444_800
_UNKNOWN_TEXT = ("", "0", "-1", "0.0", "-1.0", "null", "none", "nan", "nat", "na", "n/a", "\\n", "0000-00-00")
_CLOCKS = ("", " %H:%M", " %H:%M:%S%.f")
_CLOCKS_12 = (*_CLOCKS, " %I:%M %p", " %I:%M:%S %p")
_ISO = tuple(f"%Y-%m-%d{clock}" for clock in _CLOCKS)
_ISO_ZONE = tuple(f"%Y-%m-%d{clock}%#z" for clock in _CLOCKS[1:])
_FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("2014-07-23 12:34:56", _ISO),
    ("2014-07-23T12:34:56+02:00", _ISO_ZONE),
    ("20140723", ("%Y%m%d", "%Y%m%d %H%M%S", "%Y%m%d%H%M%S")),
    ("2014/07/23 12:34", tuple(f"%Y/%m/%d{clock}" for clock in _CLOCKS)),
    ("07/23/2014 12:34 PM", tuple(f"%m/%d/%Y{clock}" for clock in _CLOCKS_12)),
    ("23/07/2014 12:34", tuple(f"%d/%m/%Y{clock}" for clock in _CLOCKS_12)),
    ("07/23/14 12:34", tuple(f"%m/%d/%y{clock}" for clock in _CLOCKS_12)),
    ("23/07/14 12:34", tuple(f"%d/%m/%y{clock}" for clock in _CLOCKS_12)),
    ("23.07.2014 12:34", tuple(f"%d.%m.%Y{clock}" for clock in _CLOCKS)),
    ("23-07-2014 12:34", tuple(f"%d-%m-%Y{clock}" for clock in _CLOCKS)),
    ("07-23-2014 12:34", tuple(f"%m-%d-%Y{clock}" for clock in _CLOCKS)),
    ("Tue Jul 23 12:34:56 +0000 2014", ("%a %b %d %H:%M:%S %z %Y",)),
    ("23 Jul 2014 12:34", tuple(f"%d %b %Y{clock}" for clock in _CLOCKS)),
    ("Jul 23, 2014 12:34", tuple(f"%b %d, %Y{clock}" for clock in _CLOCKS_12)),
    ("07 23, 2014", ("%m %d, %Y",)),
)
_SWAPPED = {"%m/%d/": "%d/%m/", "%d/%m/": "%m/%d/", "%d-%m-": "%m-%d-", "%m-%d-": "%d-%m-"}
KNOWN_FORMS = "numbers since 1970 in seconds to nanoseconds, or dates as " + ", ".join(x for x, _ in _FAMILIES[:6])

Locate = Callable[[int], str]
"""Where a row, counted from 0, is in a file, as a message names it."""


class Times(NamedTuple):
    """What a column of times is."""

    values: pl.Series  # Datetime[ns], or Int64 or Float64 of numbers that are not dates; null: unknown
    note: str


def parse_times(raw: pl.Series, reading: Reading, locate: Locate) -> Times:
    """Read a column of text, numbers or dates.

    Args:
        raw: the column.
        reading: says the form, where it is not to be found.
        locate: names a row in an error.

    Raises:
        CocorrrecError: values of several units, out of range, rounded, or of no known form; the message has the first.
        UsageError: day and month cannot be told apart, or ``time_format`` does not fit.
    """
    if raw.dtype.is_temporal() and raw.dtype != pl.Time:
        dated = raw.dt.replace_time_zone(None) if _zone(raw) == "UTC" else raw
        dated = dated.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if _zone(dated) else dated
        return _check_range(raw, dated.cast(pl.Datetime("ns"), strict=False), locate, "dates")
    text = raw.cast(pl.String).str.strip_chars()
    unknown = text.is_null() | text.str.to_lowercase().is_in(_UNKNOWN_TEXT)
    if unknown.all():
        if text.is_in(["0", "-1", "0.0"]).all():
            return Times(pl.zeros(len(raw), pl.Int64, eager=True), "every time is 0 or -1")
        raise CocorrrecError(f"{locate(0)}: {raw.name} is {_shown(raw, 0)}, expected {KNOWN_FORMS}")
    form = reading.time_format
    if form and form not in UNITS and form != NUMBER:
        return _parse_pattern(raw, text, unknown, form, locate)
    whole, number = text.cast(pl.Int64, strict=False), text.cast(pl.Float64, strict=False)
    finite = number.is_finite().fill_null(value=False)
    number = number.set(~finite, None)
    if (finite | unknown).all():
        return _parse_numbers(raw, text, whole, number, form, locate)
    if form:
        row = int((~(finite | unknown)).arg_true()[0])
        raise UsageError(f"{locate(row)}: {raw.name} is {_shown(raw, row)}, no number as --time-format {form} says")
    return _parse_dates(raw, text, unknown, finite, locate)


def _zone(series: pl.Series) -> str | None:
    return getattr(series.dtype, "time_zone", None)


def _shown(raw: pl.Series, row: int) -> str:
    value = raw[row]
    return reprlib.repr("" if value is None else value if isinstance(value, str) else str(value))


def _parse_pattern(raw: pl.Series, text: pl.Series, unknown: pl.Series, form: str, locate: Locate) -> Times:
    try:
        values = _to_datetime(text, form)
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"--time-format '{form}': {str(error).splitlines()[0]}") from None
    bad = values.is_null() & ~unknown
    if bad.any():
        row = int(bad.arg_true()[0])
        raise UsageError(f"{locate(row)}: {raw.name} is {_shown(raw, row)}, it does not fit --time-format '{form}'")
    return _check_range(raw, values, locate, form)


def _to_datetime(text: pl.Series, form: str) -> pl.Series:
    zoned = "%z" in form or "%#z" in form
    if "%H" not in form and "%I" not in form:
        return text.str.to_date(form, strict=False).cast(pl.Datetime("ns"), strict=False)  # the year 1000 has none
    values = text.str.to_datetime(form, strict=False, time_unit="ns", time_zone="UTC" if zoned else None)
    return values.dt.replace_time_zone(None) if zoned else values


def _parse_numbers(
    raw: pl.Series, text: pl.Series, whole: pl.Series, number: pl.Series, form: str, locate: Locate
) -> Times:
    values = whole if whole.null_count() == number.null_count() else number
    if form == NUMBER:
        return Times(values, "")
    if form:
        return _check_range(raw, _in_unit(values, form), locate, form)
    magnitude = number.abs()
    rounded = text.str.contains(r"(?i)e\+?[0-9]") & (magnitude >= _FIRST_S)
    digits = text.str.replace(r"(?i)e.*", "").str.replace_all(r"[^0-9]", "").str.strip_chars_end("0").str.len_chars()
    rounded &= digits < 8
    if rounded.sum() > len(raw) // 2:
        row = int(rounded.arg_true()[0])
        raise CocorrrecError(
            f"{locate(row)}: {raw.name} is {_shown(raw, row)}: {int(rounded.sum())} of {len(raw)} times are rounded, "
            f"as a spreadsheet writes them, and no longer order the clicks; export the file again with whole numbers, "
            f"or confirm with --time-format number"
        )
    fits = {unit: _is_date(number, float(ns)).fill_null(value=False) for unit, ns in UNITS.items()}
    counts = {unit: int(found.sum()) for unit, found in fits.items()}
    if not any(counts.values()):
        return _parse_ordinals(raw, text, values, locate)
    unknown = (number <= 0) & ((number == 0) | (number == -1))
    other = number.is_not_null() & ~unknown
    for found in fits.values():
        other &= ~found
    present = {unit: count for unit, count in counts.items() if count}
    if len(present) > 1 or other.any():
        least = min(present, key=lambda unit: present[unit])
        row = int((other if other.any() else fits[least]).arg_true()[0])
        shares = [f"{count} in {unit}" for unit, count in present.items()]
        shares += [f"{int(other.sum())} of no unit since 1970"] if other.any() else []
        raise CocorrrecError(
            f"{locate(row)}: {raw.name} is {_shown(raw, row)}: the times are of mixed magnitude ({', '.join(shares)}); "
            f"mend the file, or confirm that they order as they are with --time-format number"
        )
    (unit,) = present
    dated = _in_unit(values, unit).set(unknown.fill_null(value=False), None)
    return Times(dated, f"{raw.name} is in {unit} since 1970")


def _is_date(number: pl.Series, ns: float) -> pl.Series:
    return (number * ns >= _FIRST_S * 1e9) & (number * ns < _LAST_S * 1e9)


def _parse_ordinals(raw: pl.Series, text: pl.Series, values: pl.Series, locate: Locate) -> Times:
    """Numbers that no unit turns into a plausible date: days as 20140723, or places in an order."""
    days = _to_datetime(text, "%Y%m%d")
    if not days.null_count() and days.min() >= FIRST and days.max() < LAST:  # type: ignore[operator]
        return Times(days, f"{raw.name} holds days as 20140723")
    if values.null_count():
        return Times(values, f"{raw.name} holds numbers that are not dates")
    low, high = float(values.min() or 0), float(values.max() or 0)  # type: ignore[arg-type]
    if low < 0 or high >= _FIRST_S:
        row = int(values.arg_min() or 0) if low < 0 else int(values.arg_max() or 0)
        raise CocorrrecError(
            f"{locate(row)}: {raw.name} is {_shown(raw, row)}: no unit since 1970 makes the {len(raw)} times, "
            f"{low:g} to {high:g}, dates from {FIRST.year} to {LAST.year}; name another column with --time-column, or "
            f"confirm that they order as they are with --time-format number"
        )
    return Times(values, f"{raw.name} holds numbers from {low:g} to {high:g} that are not dates; they order the clicks")


def _in_unit(values: pl.Series, unit: str) -> pl.Series:
    if values.dtype == pl.Int64:
        limit = ((1 << 63) - 1) // UNITS[unit]
        safe = values.set((values.abs() >= limit).fill_null(value=False), None)
        return (safe * UNITS[unit]).cast(pl.Datetime("ns"))
    # Whole nanoseconds of a float of seconds are not exact: microseconds are what it can hold.
    return ((values * (UNITS[unit] / 1000)).round().cast(pl.Int64, strict=False) * 1000).cast(pl.Datetime("ns"))


def _parse_dates(raw: pl.Series, text: pl.Series, unknown: pl.Series, finite: pl.Series, locate: Locate) -> Times:
    plain = text.str.replace(r"^(\d{4}-\d{2}-\d{2})[Tt]", "${1} ").str.replace(r"\s*(?:UTC|GMT|Z|z)$", "+00:00")
    plain = plain.str.replace(r"\s+([+-]\d{2}:?\d{2})$", "${1}")
    tries: list[tuple[str, pl.Series, str]] = []
    for example, forms in _FAMILIES:
        values, first = _family(plain, unknown, forms)
        if values is not None:
            tries.append((example, values, first))
    wanted = len(raw) - int(unknown.sum())
    fitting = [each for each in tries if len(each[1]) - each[1].null_count() >= wanted and _plausible(each[1])]
    if not fitting:
        best = max(tries, key=lambda each: len(each[1]) - each[1].null_count(), default=None)
        bad = ~unknown if best is None or best[1].null_count() == len(raw) else best[1].is_null() & ~unknown
        if finite.any() and not finite.all():  # most rows are numbers: the dates are the odd ones
            bad = ~(finite | unknown) if finite.sum() * 2 >= len(raw) else bad
        row = int(bad.arg_true()[0]) if bad.any() else 0
        raise CocorrrecError(
            f"{locate(row)}: {raw.name} is {_shown(raw, row)}, expected {KNOWN_FORMS}, the same in every row; say "
            f"another form with --time-format"
        )
    example, values, form = fitting[0]
    for swapped in (form.replace(a, b) for a, b in _SWAPPED.items() if form.startswith(a)):
        others = [each for each in fitting[1:] if each[2] == swapped]
        if others and not values.equals(others[0][1]):
            raise UsageError(
                f"{locate(0)}: {raw.name} is {_shown(raw, 0)}: day and month look alike in every row; give "
                f"--time-format '{form}' or --time-format '{swapped}'"
            )
    return _check_range(raw, values, locate, example)


def _family(text: pl.Series, unknown: pl.Series, forms: tuple[str, ...]) -> tuple[pl.Series | None, str]:
    """Dates of any of some forms that differ in their clock alone, and the one of most rows."""
    head = text.filter(~unknown).head(50)
    known = [form for form in forms if _to_datetime(head, form).is_not_null().any()]
    if not known:
        return None, ""
    values = _to_datetime(text, known[0])
    for form in forms if values.null_count() > unknown.sum() else ():
        if form != known[0]:
            values = values.zip_with(values.is_not_null(), _to_datetime(text, form))
    return values.set(unknown, None), known[0]


def _plausible(values: pl.Series) -> bool:
    low, high = values.min(), values.max()
    if not isinstance(low, datetime) or not isinstance(high, datetime):
        return False
    return low >= datetime(1900, 1, 1) and high < datetime(2200, 1, 1)


def _check_range(raw: pl.Series, values: pl.Series, locate: Locate, form: str) -> Times:
    is_zero = (values == datetime(1970, 1, 1)).fill_null(value=False)
    values = values.set(is_zero, None)
    bad = ((values < FIRST) | (values >= LAST)).fill_null(value=False)
    exact = raw.dtype.is_numeric() or raw.dtype.is_temporal()  # else unknown ones are text
    lost = values.is_null() & raw.is_not_null() & ~is_zero if exact else bad
    if (bad | lost).any():
        row = int((bad | lost).arg_true()[0])
        raise CocorrrecError(
            f"{locate(row)}: {raw.name} is {_shown(raw, row)}: {int((bad | lost).sum())} of {len(raw)} times are not "
            f"between {FIRST.year} and {LAST.year}; mend them, or say another --time-format"
        )
    return Times(values, f"{raw.name} holds {form if form == 'dates' else f'times as {form}'}")
