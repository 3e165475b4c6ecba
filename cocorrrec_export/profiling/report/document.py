"""``profile.json``: everything that a profile measured, and what made it."""

import datetime
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cocorrrec_export import __version__, strict_json
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.modeling.curves import FlopCurve
from cocorrrec_export.resources import PROFILE_SCHEMA
from cocorrrec_export.schema import problems

PROFILE = "profile.json"
SCHEMA_VERSION = 1
MAX_PROFILE_BYTES = 64 << 20


def assemble(
    *,
    artifact: dict[str, Any],
    machine: dict[str, Any],
    runner: dict[str, Any],
    settings: dict[str, Any],
    measured: dict[str, Any],
    flops: Sequence[FlopCurve],
    entry_flops: dict[str, Any],
    shapes: dict[str, Any] | None,
) -> dict[str, Any]:
    """The document, checked against its published schema.

    Raises:
        CocorrrecError: it is not what the schema says.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "toolkit_version": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "artifact": artifact,
        "machine": machine,
        "runner": runner,
        "settings": settings,
        **measured,
        "flops": [_curve(curve) for curve in flops],
        "entry_flops": entry_flops,
        "shapes": shapes,
    }
    wrong = _structure_problems(document)
    if wrong:
        raise CocorrrecError("the profile is not what its schema says: " + "; ".join(wrong))
    return document


def _curve(curve: FlopCurve) -> dict[str, Any]:
    return {
        "name": curve.name,
        "mini_batch": curve.mini_batch,
        "lengths": list(curve.lengths),
        "paper": [count.paper for count in curve.counts],
        "all": [count.all for count in curve.counts],
        "per_token": {"paper": curve.per_token.paper, "all": curve.per_token.all},
    }


def write_profile(folder: Path, document: dict[str, Any]) -> Path:
    """Write ``profile.json``; numbers of one list are on one line."""
    path = folder / PROFILE
    path.write_text(_compact(document) + "\n", encoding="utf-8")
    return path


def read_profile(path: Path) -> dict[str, Any]:
    """Read a profile: the file, or the folder that holds it.

    Raises:
        UsageError: no such file.
        CocorrrecError: it is not a profile, or damaged.
    """
    path = path / PROFILE if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a {PROFILE} that cocorr-profile wrote, or its folder")
    if path.stat().st_size > MAX_PROFILE_BYTES:
        raise CocorrrecError(f"{path}: larger than {MAX_PROFILE_BYTES} bytes, this is not a profile")
    try:
        document = strict_json.parse(path.read_bytes())
    except ValueError as error:
        raise CocorrrecError(f"{path}: damaged or truncated: {error}") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise CocorrrecError(f"{path}: schema version {version}, this version of the toolkit reads {SCHEMA_VERSION}")
    wrong = _structure_problems(document)
    if wrong:
        raise CocorrrecError(f"{path}: " + "; ".join(wrong))
    return document


def _structure_problems(document: Any) -> list[str]:
    wrong = problems(document, json.loads(PROFILE_SCHEMA.read_text(encoding="utf-8")))
    return wrong or _not_finite(document, "")


def _not_finite(value: Any, place: str) -> list[str]:
    """Places of numbers that are not numbers; JSON Schema has no word for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{place} is {value}"]
    if isinstance(value, list) and set(map(type, value)) == {int}:  # samples, of which there may be millions
        return []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [problem for key, item in inner for problem in _not_finite(item, f"{place}.{key}".lstrip("."))]


def _compact(value: Any, indent: str = "") -> str:
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        rows = [f"{deeper}{json.dumps(key)}: {_compact(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(deeper + _compact(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
