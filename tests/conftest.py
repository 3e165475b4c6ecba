"""Fixtures that more than one folder of tests uses."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cocorrrec_export.export.recipes import Kind

# Small tensors and few cores: more threads only wait for each other. Set before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def need(path: Path) -> Path:
    """``path``, or skip the test: the development data is not part of the project."""
    if not path.exists():
        pytest.skip(f"development data absent: {path} does not exist")
    return path


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Tensors computed by the authors' implementation."""
    return need(SHARED / "golden")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real interaction data."""
    return need(SHARED / "data")


def absent(reason: str) -> None:
    """Skip a test for a thing that a laptop may lack; CI has it, or fails."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must run this: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def tiny_scn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 ExecuTorch export of ``encode`` and ``rank`` of a small random model; ``tiny`` beside it is the model."""
    return _tiny(tmp_path_factory.mktemp("dist"), "scn", "executorch", "int8")


@pytest.fixture(scope="session")
def tiny_tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for LiteRT."""
    return _tiny(tmp_path_factory.mktemp("dist"), "scn", "tflite", "int8")


@pytest.fixture(scope="session")
def tiny_gcn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cloud's half of the same model."""
    return _tiny(tmp_path_factory.mktemp("dist"), "gcn", "onnx", "fp32")


def _tiny(out: Path, kind: "Kind", target: str, precision: str) -> Path:
    import dataclasses

    from cocorrrec_export.export import pipeline
    from cocorrrec_export.export.recipes import choose_recipe
    from tests.models import model_folder

    recipe = choose_recipe(kind, target, precision=precision)
    if kind == "scn":
        recipe = dataclasses.replace(recipe, entry_points=("encode", "rank"), candidates=20)
    return pipeline.export(pipeline.open_source(str(model_folder(out / "tiny").path), None), recipe, out).path
