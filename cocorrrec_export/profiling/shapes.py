"""The model of an artifact exported again in other shapes: what memory and latency over lengths are measured on.

Weights do not depend on the sequence length, nor on the number of candidates, so a program of another shape is the same
graphs over a config of another ``sequence_length`` and a recipe of other ``candidates``. The inner mini-batch stays the
model's.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cocorrrec_export.artifact.recipe import Recipe
from cocorrrec_export.contract import NEW_STREAM, POSITION, EntryPoint
from cocorrrec_export.errors import UsageError
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.export.graphs import scn_contracts, scn_graphs
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.store import ModelFolder, load_model
from cocorrrec_export.profiling.machines.runs import Program
from cocorrrec_export.profiling.measure import Shape
from cocorrrec_export.runtime.base import Arrays
from cocorrrec_export.targets import find_target

ENTRY_POINTS = ("encode", "rank")
"""What is exported for other shapes, by default: each entry point takes seconds to lower."""


def export_shapes(
    folder: ModelFolder,
    recipe: Recipe,
    shapes: Sequence[tuple[int, int]],
    entry_points: Sequence[str],
    out: Path,
    *,
    progress: Callable[[str], None],
) -> list[Shape]:
    """Export a model for each of ``shapes``.

    Args:
        folder: the model.
        recipe: of the artifact.
        shapes: pairs of sequence length and candidates.
        entry_points: of each file.
        out: folder to write into.
        progress: receives what is being done.

    Raises:
        UsageError: not an SCN: the GCN has no other shapes.
    """
    if recipe.kind != "scn":
        raise UsageError("--lengths and --candidates are for the on-device model, not for the cloud's")
    model = load_model(folder)
    made = []
    for length, candidates in shapes:
        config = dataclasses.replace(folder.config, sequence_length=length)
        names = _known(config, entry_points, with_candidates=candidates != recipe.candidates)
        own = dataclasses.replace(recipe, candidates=candidates, entry_points=names)
        graphs = scn_graphs(model, config, own)
        path = out / f"length{length}-candidates{candidates}" / find_target(recipe.target).programs["scn"].name
        path.parent.mkdir()
        progress(f"exporting {length} clicks, {candidates} candidates")
        find_exporter(recipe.target).export(graphs, own, path, metadata={"kind": "scn"})
        program = Program(path, tuple(graph.contract for graph in graphs))
        made.append(Shape(length, candidates, program, {e.name: _full(e, config) for e in program.entry_points}))
    return made


def _known(config: ModelConfig, entry_points: Sequence[str], *, with_candidates: bool) -> tuple[str, ...]:
    """Those entry points that the architecture has, or of them those whose cost depends on the candidates."""
    return tuple(
        name
        for name, contract in scn_contracts(config, candidates=1).items()
        if name in entry_points and (not with_candidates or any(x.name == "candidates" for x in contract.inputs))
    )


def _full(contract: EntryPoint, config: ModelConfig) -> Arrays:
    """A case with clicks and candidates at random from the whole vocabulary, and a new stream's state."""
    generator = np.random.default_rng(0)
    case: Arrays = {}
    for spec in contract.inputs:
        shape = tuple(int(n) for n in spec.shape)
        if spec.name == POSITION:
            case[spec.name] = np.full(shape, NEW_STREAM, dtype=np.int32)
        elif spec.dtype == "int32":
            case[spec.name] = generator.integers(1, config.vocab_size, shape, dtype=np.int32)
        else:
            case[spec.name] = generator.standard_normal(shape, dtype=np.float32)
    return case
