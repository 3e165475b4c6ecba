"""Fixtures that more than one folder of tests uses."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cocorrrec_export.export.artifact import Artifact
    from cocorrrec_export.modeling.store import ModelFolder

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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> "ModelFolder":
    """A random model with held-out users."""
    from tests.models import model_folder

    return model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def gcn_fp32(tiny: "ModelFolder", tmp_path_factory: pytest.TempPathFactory) -> "Artifact":
    """The cloud's half, exported."""
    from tests.models import export_model

    return export_model(tiny, tmp_path_factory.mktemp("dist"), "gcn", "onnx", "fp32")


@pytest.fixture(scope="session")
def scn_fp32(tiny: "ModelFolder", tmp_path_factory: pytest.TempPathFactory) -> "Artifact":
    """The phone's half in float32, exported."""
    from tests.models import export_model

    return export_model(tiny, tmp_path_factory.mktemp("dist"), "scn", "executorch", "fp32")
