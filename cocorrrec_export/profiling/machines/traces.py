"""Per-operator times out of a runner's trace: an ETDump of ExecuTorch, or the sums of LiteRT's runner."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet, require

_WHOLE = ("OPERATOR_CALL", "DELEGATE_CALL", "Method::execute")
"""Events of ExecuTorch that hold others."""


def operator_times(trace: bytes) -> list[dict[str, Any]]:
    """Time of one call by kind of operator, the most expensive first.

    Args:
        trace: of many calls of one entry point.

    Returns:
        rows of ``name``, ``backend`` (None: the runtime's own kernels), ``operators`` (how many of this kind one call
        runs) and ``mean_us`` (all of them together, in one call). Means, since the clocks of XNNPACK and of LiteRT
        tick in microseconds.

    Raises:
        CocorrrecError: the trace is damaged, or ExecuTorch is not installed: its tools read an ETDump.
    """
    rows = _litert(trace) if trace.startswith(b"{") else _executorch(trace)
    return sorted(rows, key=lambda row: row["mean_us"], reverse=True)


def _litert(trace: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(trace)
        return [
            {
                "name": name,
                "backend": "XNNPACK" if inside else None,
                "operators": round(count / found["calls"]),
                "mean_us": round(total_us / found["calls"], 3),
            }
            for name, inside, count, total_us in found["kinds"]
        ]
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise CocorrrecError(f"the runner's trace is damaged: {error!r}") from None


def _executorch(trace: bytes) -> list[dict[str, Any]]:
    require("executorch")
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "trace.etdump"
        path.write_bytes(trace)
        from executorch.devtools import Inspector

        blocks = Inspector(etdump_path=str(path)).event_blocks
    kinds: dict[tuple[str, str | None], dict[str, Any]] = {}
    for event in (event for block in blocks if block.name == "Execute" for event in block.events):
        if event.perf_data is None or event.name in _WHOLE:
            continue
        name = re.sub(r" #\d+$", "", str(event.name)).removeprefix("native_call_")
        backend = "XNNPACK" if event.is_delegated_op else None
        row = kinds.setdefault((name, backend), {"name": name, "backend": backend, "operators": 0, "mean_us": 0.0})
        row["operators"] += 1
        row["mean_us"] += 1000 * float(np.mean(event.perf_data.raw))  # from milliseconds
    for row in kinds.values():
        row["mean_us"] = round(row["mean_us"], 3)
    return list(kinds.values())
