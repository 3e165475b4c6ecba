"""Read TOML from strangers: strict keys, clear errors."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from cocorrrec_export.errors import CocorrrecError, UsageError, nearest

Config = TypeVar("Config")

MAX_TOML_BYTES = 1 << 20


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        UsageError: the file does not exist or is no file.
        CocorrrecError: it is no TOML, not UTF-8, or larger than 1 MiB.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.stat().st_size > MAX_TOML_BYTES:
        raise CocorrrecError(f"{path}: larger than {MAX_TOML_BYTES} bytes, this is no file of ours")
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CocorrrecError(f"{path}: not valid TOML: {error}") from None


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
        UsageError: what a key goes through is no table.
    """
    for dotted, value in values.items():
        *parents, key = dotted.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise UsageError(f"{where}: {parent} must be a table")
        table[key] = value


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
