"""Time ``rank`` of the Python runner, for the figures of the demos' tests: ``rank_p50.py ARTIFACT ...``.

The same calls as in Kotlin and Swift: the sequence length's clicks, all candidates of one call, the median of 300 calls
after 100 that are not counted.
"""

import sys
import time
from pathlib import Path

import numpy as np

from cocorrrec_export.artifact.manifest import Artifact, open_artifact
from cocorrrec_export.runtime.base import score_list
from cocorrrec_export.runtime.open import open_runtime

CALLS, NOT_COUNTED = 400, 100


def rank_micros(artifact: Artifact) -> float:
    """Median of a ranking in microseconds."""
    runtime = open_runtime(artifact.target, artifact.program, artifact.entry_points)
    lengths = {spec.name: int(spec.shape[1]) for spec in runtime.entry_points["rank"].inputs}
    ids = np.arange(1, lengths["ids"] + 1, dtype=np.int32)[None]
    candidates = np.arange(1, lengths["candidates"] + 1, dtype=np.int32)
    nanos = []
    for _ in range(CALLS):
        start = time.perf_counter_ns()
        score_list(runtime, "rank", {"ids": ids}, candidates)
        nanos.append(time.perf_counter_ns() - start)
    return float(np.median(nanos[NOT_COUNTED:])) / 1000


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        print(f"Python runner, {path.name}: rank p50 {rank_micros(open_artifact(path)):.0f} us")
