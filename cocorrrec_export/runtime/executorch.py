"""Run a ``.pte`` with the ExecuTorch runtime."""

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet, require
from cocorrrec_export.runtime.base import Arrays, check_inputs, in_order, named_outputs

METADATA_PREFIX = "meta_"
"""Constant methods of the program that carry its metadata; each returns a string or an integer."""


class ExecuTorchRuntime:
    """A loaded program, on one thread: the graphs are too small to share among several.

    Args:
        path: the file. Its digest must have been checked, or the process must be one that may crash.
        entry_points: their contracts; the file itself knows no names of inputs.

    Raises:
        CocorrrecError: the extra is not installed, or the file is no program of this runtime.
    """

    def __init__(self, path: Path, entry_points: Iterable[EntryPoint]) -> None:
        self._program = _load(path)
        self.entry_points = {entry.name: entry for entry in entry_points}
        self.executed_by = f"executorch {importlib.metadata.version('executorch')}"
        missing = self.entry_points.keys() - set(self._program.method_names())
        if missing:
            raise CocorrrecError(f"{path}: lacks the entry points {', '.join(sorted(missing))}")

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        """Run one entry point; see :class:`cocorrrec_export.runtime.base.Runtime`."""
        import torch

        contract = check_inputs(self.entry_points, entry_point, inputs)
        tensors = tuple(torch.from_numpy(array) for array in in_order(contract, inputs))
        try:
            outputs = self._program.run_method(entry_point, tensors)
        except RuntimeError as error:
            raise CocorrrecError(f"{entry_point}: the ExecuTorch runtime failed: {error}") from None
        # The arena is used again by the next call.
        return named_outputs(contract, [np.array(output.numpy(), copy=True) for output in outputs])


def read_metadata(path: Path) -> dict[str, str | int]:
    """The facts that a ``.pte`` carries in its constant methods.

    Raises:
        CocorrrecError: the file is no program of this runtime.
    """
    program = _load(path)
    names = [name for name in program.method_names() if name.startswith(METADATA_PREFIX)]
    return {name.removeprefix(METADATA_PREFIX): program.run_method(name, ())[0] for name in sorted(names)}


def _load(path: Path) -> Any:
    require("executorch")
    with quiet():
        from executorch.extension.pybindings import _C

        _C._unsafe_reset_threadpool(1)
    try:
        return _C._load_for_executorch(str(path))
    except RuntimeError as error:
        raise CocorrrecError(f"{path}: the ExecuTorch runtime cannot load it: {error}") from None
