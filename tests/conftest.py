"""Fixtures that more than one folder of tests uses."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.coreml import CoreMLExports

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
def coreml_exports(tmp_path_factory: pytest.TempPathFactory) -> "CoreMLExports":
    """A random model's exports to Core ML, each made once."""
    from tests.coreml import CoreMLExports

    return CoreMLExports(tmp_path_factory.mktemp("coreml"))
