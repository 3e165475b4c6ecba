"""Run a ``.pte`` with the ExecuTorch runtime."""

import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cocorrrec_export.contract import TENSOR_NAMES, EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet, require_runtime
from cocorrrec_export.runtime.base import (
    Arrays,
    ProgramFacts,
    check_inputs,
    first_line,
    in_order,
    named_outputs,
    vocab_size,
)

LIBRARIES = ("torch", "executorch.extension.pybindings._C")

METADATA_PREFIX = "meta_"
"""Constant methods of the program that carry its metadata; each returns a string or an integer."""
_DTYPES = {3: "int32", 4: "int64", 6: "float32"}  # by ExecuTorch's numbers


class ExecuTorchRuntime:
    """A loaded program, on one thread: the graphs are too small to share among several.

    Args:
        path: the file. Its digest must have been checked, or the process must be one that may crash.
        entry_points: their contracts; the file itself does not know the names of inputs.

    Raises:
        CocorrrecError: the extra is not installed, or the file is not a program of this runtime.
    """

    def __init__(self, path: Path, entry_points: Iterable[EntryPoint]) -> None:
        self._program = _load(path)
        self.entry_points = {entry.name: entry for entry in entry_points}
        self.executed_by = f"executorch {importlib.metadata.version('executorch')}"
        methods = set(self._program.method_names())
        name = f"{METADATA_PREFIX}vocab_size"
        self._vocab_size = vocab_size({"vocab_size": self._program.run_method(name, ())[0]} if name in methods else {})
        missing = self.entry_points.keys() - methods
        if missing:
            raise CocorrrecError(f"{path}: lacks the entry points {', '.join(sorted(missing))}")

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        """Run one entry point; see :class:`cocorrrec_export.runtime.base.Runtime`."""
        import torch

        contract = check_inputs(self.entry_points, entry_point, inputs, vocab_size=self._vocab_size)
        tensors = tuple(torch.from_numpy(array) for array in in_order(contract, inputs))
        try:
            outputs = self._program.run_method(entry_point, tensors)
        except RuntimeError as error:
            raise CocorrrecError(f"{entry_point}: the ExecuTorch runtime failed: {first_line(error)}") from None
        # The arena is used again by the next call.
        return named_outputs(contract, [np.array(output.numpy(), copy=True) for output in outputs])


def load(program: Path, entry_points: Sequence[EntryPoint]) -> ExecuTorchRuntime:
    """The runtime of an exported file: see :class:`cocorrrec_export.runtime.open.RuntimeModule`."""
    return ExecuTorchRuntime(program, entry_points)


def describe(path: Path) -> ProgramFacts:
    """Entry points and metadata of a ``.pte``. Tensors have no names in it: they are those that the metadata give.

    Raises:
        CocorrrecError: the extra is not installed, or the file is not a program of this runtime.
    """
    program = _load(path)
    names = program.method_names()
    metadata = {
        name.removeprefix(METADATA_PREFIX): program.run_method(name, ())[0]
        for name in sorted(names)
        if name.startswith(METADATA_PREFIX)
    }
    tensor_names = json.loads(str(metadata.get(TENSOR_NAMES, "{}")))
    entry_points = []
    for name in names:
        if not name.startswith(METADATA_PREFIX):
            meta = program.method_meta(name)
            inputs, outputs = tensor_names.get(name, ([], []))
            entry_points.append(
                EntryPoint(
                    name,
                    _specs("input", inputs, [meta.input_tensor_meta(i) for i in range(meta.num_inputs())]),
                    _specs("output", outputs, [meta.output_tensor_meta(i) for i in range(meta.num_outputs())]),
                )
            )
    return ProgramFacts(tuple(entry_points), metadata)


def _specs(side: str, names: list[str], tensors: list[Any]) -> tuple[TensorSpec, ...]:
    if len(names) != len(tensors):
        names = [f"{side}{index}" for index in range(len(tensors))]
    return tuple(
        TensorSpec(name, _DTYPES.get(tensor.dtype(), f"scalar type {tensor.dtype()}"), tuple(tensor.sizes()))
        for name, tensor in zip(names, tensors, strict=True)
    )


def _load(path: Path) -> Any:
    require_runtime("executorch")
    with quiet():
        from executorch.extension.pybindings import _C

        _C._unsafe_reset_threadpool(1)
    try:
        return _C._load_for_executorch(str(path))
    except RuntimeError as error:
        raise CocorrrecError(f"{path}: the ExecuTorch runtime cannot load it: {first_line(error)}") from None
