"""The check of an export by the test vectors that came with it: needs neither the model nor torch."""

from collections.abc import Callable
from pathlib import Path

from cocorrrec_export.artifact.manifest import VECTORS, Artifact
from cocorrrec_export.contract import ParityLimits
from cocorrrec_export.isolation import in_child
from cocorrrec_export.parity.outcome import Verdict, judge_vectors
from cocorrrec_export.parity.vectors import read_vectors
from cocorrrec_export.runtime.base import Runtime
from cocorrrec_export.runtime.open import open_runtime, rehearse


def check_vectors(
    artifact: Artifact,
    program: Path,
    progress: Callable[[str], None] = lambda _: None,
    *,
    limits: ParityLimits | None = None,
) -> tuple[Runtime, Verdict]:
    """Run an export on its own vectors, through its own runtime.

    Args:
        artifact: an export whose hashes were checked.
        program: the copy of its program that is loaded: see :func:`~cocorrrec_export.artifact.copies.checked_copy`.
        progress: called with each step.
        limits: what must hold; None takes those of the recipe that ships for such a file.

    Returns:
        The loaded file, and what was found.

    Raises:
        ParityError: the outputs are beyond the limits of its recipe.
        CocorrrecError: the runtime is not installed, or the file is damaged.
    """
    contracts = {entry.name: entry for entry in artifact.entry_points}
    vectors = read_vectors(artifact.vectors, contracts, sha256=artifact.digest(VECTORS))
    progress("loading the file in a process of its own")
    in_child(f"running {artifact.program}", rehearse, artifact.target, program, artifact.entry_points)
    runtime = open_runtime(artifact.target, program, artifact.entry_points)
    progress("parity of the shipped vectors")
    return runtime, judge_vectors(runtime, vectors, contracts, limits or artifact.limits)
