"""Processes for damaged files, hundreds of them: each starts in milliseconds from one that has the readers imported."""

import multiprocessing
from multiprocessing import forkserver

import pytest

READERS = (
    "torch",
    "onnx",
    "flatbuffers",
    "ai_edge_litert.schema_py_generated",
    "executorch.extension.pybindings._C",
    "cocorrrec_export.runtime.coreml",
    "cocorrrec_export.runtime.executorch",
    "cocorrrec_export.runtime.tflite",
    "cocorrrec_export.runtime.onnx",
    "cocorrrec_export.runtime.open",
)


@pytest.fixture(scope="module")
def warm_children() -> None:
    """From now on; a process that starts others already, without the readers, is replaced."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    multiprocessing.set_forkserver_preload(["__main__", *READERS])
