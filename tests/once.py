"""Exports that all processes of a test run share: the first that needs one makes it, the others wait and read it."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cocorrrec_export.artifact.manifest import Artifact, open_artifact


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run, the same in every process of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exports"
    folder.mkdir(exist_ok=True)
    return folder


def once(path: Path, make: Callable[[], Artifact]) -> Artifact:
    """The export at ``path``, which ``make`` publishes there if nothing is there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent.parent / f"{path.parent.name}-{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return open_artifact(path) if path.exists() else make()
