"""One finding of a doctor, and the document of all of them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    ok: bool
    detail: str
    hint: str = ""
    """What to do; empty where nothing has to be done."""


def document(platform: str, checks: Sequence[Check]) -> dict[str, Any]:
    """What ``--json`` prints: ``{ok, platform, checks: [{name, ok, detail, hint}]}``."""
    return {
        "ok": all(check.ok for check in checks),
        "platform": platform,
        "checks": [dataclasses.asdict(check) for check in checks],
    }
