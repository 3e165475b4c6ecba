"""Read TOML from strangers: strict keys, clear errors."""

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from cocorrrec_export.errors import CocorrrecError, UsageError, nearest

Config = TypeVar("Config")

MAX_TOML_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_INTEGER = 2**63 - 1
MAX_VALUES = 4096
"""Of all tables and arrays together."""
_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_\-]){_KEY}(?:[ \t]*\.[ \t]*{_KEY}){{{MAX_DEPTH}}}")
"""The parser makes a table for every part of a key, and copies them all: its time is cubic in the parts."""


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        UsageError: the file does not exist or is not a file.
        CocorrrecError: it is not TOML, not UTF-8, larger than 1 MiB, deeper than 16 tables, or holds more than 4,096
            values or a number of more than 64 bits.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.stat().st_size > MAX_TOML_BYTES:
        raise CocorrrecError(f"{path}: larger than {MAX_TOML_BYTES} bytes, this is not a file of ours")
    try:
        text = path.read_bytes().decode("utf-8")
        if _LONG_KEY.search(text):
            raise ValueError(f"a key of more than {MAX_DEPTH} parts")
        tables = tomllib.loads(text)
        if _count_values(tables, 0) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values")
    except (ValueError, OverflowError, RecursionError) as error:  # a TOMLDecodeError is a ValueError
        raise CocorrrecError(f"{path}: not valid TOML: {error}") from None
    return tables


def _count_values(value: Any, depth: int) -> int:
    """How many values there are in a table or array, and in those in it, each within its bounds."""
    if isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            raise ValueError(f"tables and arrays more than {MAX_DEPTH} deep")
        inside = value.values() if isinstance(value, dict) else value
        return 1 + sum(_count_values(inner, depth + 1) for inner in inside)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ValueError(f"the number {str(value)[:25]}... does not fit 64 bits")
    return 1


def from_table(cls: type[Config], values: dict[str, Any], *, where: str) -> Config:
    """Build the dataclass ``cls`` from a parsed table; ``where`` names the file and table in errors.

    Raises:
        UsageError: every unknown or missing key at once, or what the dataclass itself refuses.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    problems = [f"unknown key '{key}' ({nearest(key, fields)})" for key in values if key not in fields]
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in values and not optional:
            problems.append(f"missing key '{name}'")
    if problems:
        raise UsageError(f"{where}: " + "; ".join(problems))
    try:
        return cls(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def override(tables: dict[str, Any], values: dict[str, Any], *, where: str) -> None:
    """Set ``values``, by dotted key, in ``tables``; ``where`` names the file in errors.

    Raises:
        UsageError: what a key goes through is not a table.
    """
    for dotted, value in values.items():
        *parents, key = dotted.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise UsageError(f"{where}: {parent} must be a table")
        table[key] = value


Range = tuple[float, float]
"""Least and largest value, both allowed."""


def check_ranges(config: object, ranges: dict[str, Range]) -> None:
    """Check numbers of a dataclass against a table of ranges; NaN is in none.

    Raises:
        UsageError: every field that is outside, with the value it has.
    """
    problems = [
        f"{name} must be {_bound(low)} to {_bound(high)}, got {value}"
        for name, (low, high) in ranges.items()
        if not low <= (value := getattr(config, name)) <= high
    ]
    if problems:
        raise UsageError("; ".join(problems))


def _bound(value: float) -> str:
    if 0 < value < 1e-300:
        return "above 0"
    return "below 1" if 0 < 1 - value < 1e-12 else str(value)


def check_types(config: object) -> None:
    """Check each field of a flat dataclass of bool, int, float, str and Literal fields against its type.

    Raises:
        UsageError: every field that does not fit, with the value it has.
    """
    problems = [
        problem
        for field in dataclasses.fields(config)  # type: ignore[arg-type]
        if (problem := _type_problem(field.name, getattr(config, field.name), field.type))
    ]
    if problems:
        raise UsageError("; ".join(problems))


def _type_problem(name: str, value: object, expected: Any) -> str | None:
    if get_origin(expected) is Literal:
        choices = get_args(expected)
        return None if value in choices else f"{name} must be one of {', '.join(choices)}, got {value!r}"
    if expected is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if is_number else f"{name} must be a number, got {value!r}"
    return None if type(value) is expected else f"{name} must be {expected.__name__}, got {value!r}"
