"""Which runtime runs which target."""

from collections.abc import Sequence
from pathlib import Path

from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.runtime.base import Runtime


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
