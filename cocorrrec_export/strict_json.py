"""Read JSON from strangers, and digest what is written: one meaning for each text, and no number that surprises."""

import hashlib
import json
import math
import re
from collections import Counter
from typing import Any

MAX_INTEGER = 2**63 - 1
_LONG_NUMBER = re.compile(r"(?:^|[-,:\[\s])[0-9]{19}")
"""Without one, every integer fits, and millions of samples need not be looked at one by one."""


def parse(data: bytes | str) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: no JSON, nested too deep, a key twice in one object, or a number that is none or that 64 bits do
            not hold.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
            parse_int=_bounded_integer if _LONG_NUMBER.search(text) else None,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("nested too deep") from None


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON: keys sorted, no blanks, ASCII."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"a key is given twice: {next(name for name in counts if counts[name] > 1)!r}")
    return table


def _bounded_integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
        raise ValueError(f"the number {text[:25]}... does not fit 64 bits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:25]} is too large")
    return value
