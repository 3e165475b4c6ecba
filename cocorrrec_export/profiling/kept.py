"""Figures that were measured are not lost, whatever fails after it."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.report.document import PROFILE


@dataclass
class Kept:
    """What has been measured so far."""

    figures: dict[str, Any] = field(default_factory=dict)


@contextmanager
def keep_on_failure() -> Iterator[Kept]:
    """Write what the block put into the object that this yields to a file of its own, if the block fails.

    Raises:
        CocorrrecError: in place of the error, Ctrl-C included, once there were figures; says where they are.
    """
    kept = Kept()
    try:
        yield kept
    except (Exception, KeyboardInterrupt) as error:
        if not kept.figures:
            raise
        place = Path(tempfile.mkdtemp(prefix="cocorr-profile-")) / PROFILE
        place.write_text(json.dumps(kept.figures, indent=1, default=str), encoding="utf-8")
        said = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        raise CocorrrecError(f"{said}; what was measured until then is kept in {place}") from error
