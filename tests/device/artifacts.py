"""A small export that the tests of the profiler share."""

import dataclasses
from pathlib import Path

from cocorrrec_export.export import pipeline
from cocorrrec_export.export.recipes import choose_recipe
from tests.models import model_folder


def tiny_artifact(out: Path) -> Path:
    """Export ``encode`` and ``rank`` of a random model for ExecuTorch; the folder's path."""
    folder = model_folder(out / "tiny")
    recipe = choose_recipe("scn", "executorch", precision="int8")
    recipe = dataclasses.replace(recipe, entry_points=("encode", "rank"), candidates=20)
    return pipeline.export(pipeline.open_source(str(folder.path), None), recipe, out).path
