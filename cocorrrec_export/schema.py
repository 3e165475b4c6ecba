"""Check JSON against the part of JSON Schema that our published schemas use: manifests and profiles."""

import math
import re
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
    "boolean": bool,
}
_CHECKED = {
    "type", "const", "enum", "required", "properties", "additionalProperties", "items", "minItems", "maxItems",
    "minLength", "maxLength", "pattern", "minimum", "maximum", "$ref",
}  # fmt: skip
_DESCRIPTIVE = {"$schema", "$id", "$defs", "title", "description"}
MAX_PROBLEMS = 20
_AT_ONCE = 4096


def problems(value: Any, schema: dict[str, Any]) -> list[str]:
    """What is wrong with ``value``, one line each with its place; at most :data:`MAX_PROBLEMS`.

    Raises:
        ValueError: the schema uses a keyword that this does not check.
    """
    found: list[str] = []
    _check(value, schema, schema, "", found)
    return found[:MAX_PROBLEMS]


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and isinstance(value, bool) == (name == "boolean")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _check(value: Any, schema: dict[str, Any], root: dict[str, Any], place: str, found: list[str]) -> None:
    unchecked = schema.keys() - _CHECKED - _DESCRIPTIVE
    if unchecked:
        raise ValueError(f"the schema uses {sorted(unchecked)}, which is not checked here")
    if "$ref" in schema:
        _check(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, place, found)
    here = place or "the document"
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(_is(value, name) for name in types):
        found.append(f"{here} must be {' or '.join(types)}, got {_show(value)}")
        return
    if "const" in schema and (value != schema["const"] or type(value) is not type(schema["const"])):
        found.append(f"{here} must be {schema['const']!r}, got {_show(value)}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{here} must be one of {', '.join(map(str, schema['enum']))}, got {_show(value)}")
    if isinstance(value, str):
        _check_string(value, schema, here, found)
    elif isinstance(value, (int, float)):
        # Written so that NaN, which compares false with everything, is refused.
        if "minimum" in schema and not value >= schema["minimum"]:
            found.append(f"{here} must be at least {schema['minimum']}, got {_show(value)}")
        if "maximum" in schema and not value <= schema["maximum"]:
            found.append(f"{here} must be at most {schema['maximum']}, got {_show(value)}")
    elif isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{here} holds {len(value)} elements")
        if "items" in schema:
            _check_items(value, _followed(schema["items"], root), root, place, found)
    elif isinstance(value, dict):
        _check_object(value, schema, root, place, found)


def _check_items(values: list[Any], schema: dict[str, Any], root: dict[str, Any], place: str, found: list[str]) -> None:
    for start in range(0, len(values), _AT_ONCE):
        some = values[start : start + _AT_ONCE]
        if _integers_fit(some, schema):
            continue
        for index, item in enumerate(some, start):
            if len(found) >= MAX_PROBLEMS:
                return
            _check(item, schema, root, f"{place}[{index}]", found)


def _followed(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """What a schema that is only a reference stands for."""
    while schema.keys() == {"$ref"}:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return schema


def _integers_fit(values: list[Any], schema: dict[str, Any]) -> bool:
    """Whether all are integers that fit, in a time in which millions of samples can be looked at."""
    if not schema.keys() <= {"type", "minimum", "maximum"} | _DESCRIPTIVE or schema.get("type") != "integer":
        return False
    if set(map(type, values)) != {int}:
        return False
    return schema.get("minimum", -math.inf) <= min(values) and max(values) <= schema.get("maximum", math.inf)


def _check_string(value: str, schema: dict[str, Any], here: str, found: list[str]) -> None:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        found.append(f"{here} is {len(value)} characters long")
    # fullmatch, since Python's $ also matches before a final newline
    if "pattern" in schema and not re.fullmatch(schema["pattern"].removeprefix("^").removesuffix("$"), value):
        found.append(f"{here} must match {schema['pattern']}, got {_show(value)}")


def _check_object(
    value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], place: str, found: list[str]
) -> None:
    properties, other = schema.get("properties", {}), schema.get("additionalProperties", {})
    prefix = f"{place}." if place else ""
    found.extend(f"missing key '{prefix}{key}'" for key in schema.get("required", []) if key not in value)
    for key, inner in value.items():
        if key in properties:
            _check(inner, properties[key], root, f"{prefix}{key}", found)
        elif other is False:
            found.append(f"unknown key {_show(prefix + key)}")
        else:
            _check(inner, other, root, f"{prefix}{key}", found)
