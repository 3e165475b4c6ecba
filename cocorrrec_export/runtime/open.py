"""Which runtime runs which target, and what it can be asked of a program."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.runtime.base import ProgramFacts, Runtime
from cocorrrec_export.runtime.seal import check_seal


def open_runtime(target: str, program: Path, entry_points: Sequence[EntryPoint]) -> Runtime:
    """Load an exported file in its own runtime.

    Args:
        target: as in the manifest.
        program: the exported file; its digest must have been checked.
        entry_points: its contract.

    Raises:
        CocorrrecError: the runtime is not installed, or cannot load the file.
    """
    if target == "executorch":
        from cocorrrec_export.runtime.executorch import ExecuTorchRuntime

        return ExecuTorchRuntime(program, entry_points)
    if target == "onnx":
        from cocorrrec_export.runtime.onnx import OnnxRuntime

        return OnnxRuntime(program, entry_points)
    if target == "tflite":
        from cocorrrec_export.runtime.litert import LiteRTRuntime

        return LiteRTRuntime(program, entry_points)
    raise CocorrrecError(f"{program}: this version runs executorch, tflite and onnx files, not {target}")


def describe(target: str, program: Path) -> ProgramFacts:
    """What a program says of itself. Native readers may crash on what a stranger sent: see :mod:`isolation`.

    Raises:
        CocorrrecError: the runtime is not installed, or the program is damaged.
    """
    if target == "executorch":
        from cocorrrec_export.runtime import executorch

        facts = executorch.describe(program)
    elif target == "tflite":
        from cocorrrec_export.runtime import litert

        facts = litert.describe(program)
    else:
        from cocorrrec_export.runtime import onnx

        facts = onnx.describe(program)
    check_seal(program, facts.metadata)
    return facts


def rehearse(target: str, program: Path, entry_points: Sequence[EntryPoint]) -> None:
    """Load a program and run each entry point once, on zeros: for a process that may crash, before ours does.

    Raises:
        CocorrrecError: it cannot be loaded or run.
    """
    runtime = open_runtime(target, program, entry_points)
    for entry in entry_points:
        shapes = {spec: [size if isinstance(size, int) else 1 for size in spec.shape] for spec in entry.inputs}
        runtime.run(entry.name, {spec.name: np.zeros(shape, spec.dtype) for spec, shape in shapes.items()})
