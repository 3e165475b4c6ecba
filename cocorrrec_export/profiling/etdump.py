"""Per-operator times out of an ExecuTorch trace."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from cocorrrec_export.extras import quiet, require

_WHOLE = ("Method::init", "Method::execute", "Program::load_method", "DELEGATE_CALL", "OPERATOR_CALL")
"""Events that hold others."""


def operator_times(trace: bytes) -> list[dict[str, Any]]:
    """Each operator of a traced entry point, the slowest first.

    Args:
        trace: an ETDump.

    Returns:
        rows of ``name``, ``backend`` (None: ExecuTorch's own kernels), ``calls`` and ``median_us`` of one execution.

    Raises:
        CocorrrecError: ExecuTorch is not installed; its tools read the trace.
    """
    require("executorch")
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "trace.etdump"
        path.write_bytes(trace)
        from executorch.devtools import Inspector

        blocks = Inspector(etdump_path=str(path)).event_blocks
    rows = []
    for block in blocks:
        if block.name != "Execute":
            continue
        for event in block.events:
            if event.perf_data is None or event.name in _WHOLE or not event.perf_data.raw:
                continue
            rows.append(
                {
                    "name": str(event.name),
                    "backend": event.delegate_backend_name or None,
                    "calls": len(event.perf_data.raw),
                    "median_us": round(1000 * statistics.median(event.perf_data.raw), 3),  # from milliseconds
                }
            )
    return sorted(rows, key=lambda row: row["median_us"], reverse=True)
