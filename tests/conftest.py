"""Fixtures that more than one folder of tests uses."""

import importlib.util
import os
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

# Small tensors and few cores: more threads only wait for each other. Set before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.children", "tests.commands", "tests.exports"]

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse two tests of one name: pytest-xdist runs one of them, and says nothing of the other."""
    names = Counter(item.nodeid for item in items)
    if shared := [name for name, count in names.items() if count > 1]:
        raise pytest.UsageError(f"more than one test is named {shared[0]}")


def script(name: str, folder: str) -> ModuleType:
    """A script of the project as a module: it is not part of the package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
