"""tflite-runtime 2.14, the older package that many apps still carry, on the same files: ``make test-tflite-runtime``.

It needs numpy below 2, so it lives in an environment of its own.
"""

import dataclasses
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export.artifact.recipe import Recipe, shipped_recipes
from cocorrrec_export.export import pipeline
from cocorrrec_export.parity.vectors import read_vectors
from cocorrrec_export.resources import DEFAULT_MODEL
from cocorrrec_export.runtime.open import open_runtime
from tests.conftest import ROOT

PYTHON = Path(os.environ.get("TFLITE_RUNTIME_PYTHON", ROOT / ".venv-tflite-runtime" / "bin" / "python"))
RECIPES = [recipe for recipe in shipped_recipes() if recipe.target == "tflite"]


def with_room(recipe: Recipe) -> Recipe:
    """Product quantization loses more of the default model than its recipe allows; here two versions are compared."""
    if not recipe.precision.startswith("pq"):
        return recipe
    allowed = {
        "max_abs": 2 * recipe.limits.max_abs,
        "top10_overlap": 0.5,
        "metrics_abs": 0.1,
        "ndcg10_rel": 0.1,
        "ties": 0.1,
    }
    return dataclasses.replace(recipe, limits=dataclasses.replace(recipe.limits, **allowed))


@pytest.mark.tflite_runtime
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_same_outputs(recipe: Recipe, tmp_path: Path) -> None:
    assert PYTHON.is_file(), "run 'make test-tflite-runtime', which makes the environment"
    recipe = with_room(recipe)
    artifact = pipeline.export(pipeline.open_source(DEFAULT_MODEL, None), recipe, tmp_path)
    contracts = {entry.name: entry for entry in artifact.entry_points}
    cases = read_vectors(artifact.vectors, contracts)
    feeds = {f"{case.entry_point}|{case.name}|{name}": value for case in cases for name, value in case.inputs.items()}
    np.savez(tmp_path / "inputs.npz", **feeds)
    program = Path(__file__).with_name("tflite_runtime_program.py")
    files = (artifact.program, tmp_path / "inputs.npz", tmp_path / "outputs.npz")
    subprocess.run([PYTHON, program, *files], check=True, timeout=300)
    runtime = open_runtime("tflite", artifact.program, artifact.entry_points)
    with np.load(tmp_path / "outputs.npz") as older:
        assert {key.split("|")[0] for key in older.files} == contracts.keys()
        for case in cases:
            newer = runtime.run(case.entry_point, case.inputs)
            for name, expected in case.expected.items():
                actual = older[f"{case.entry_point}|{case.name}|{name}"]
                largest = max(1.0, float(np.abs(newer[name]).max()))
                # Two versions of one library: the same numbers, but for the order in which they are added.
                np.testing.assert_allclose(actual, newer[name], rtol=0, atol=2e-5 * largest)
                if name == "scores":
                    assert np.abs(actual - expected).max() <= recipe.limits.max_abs
