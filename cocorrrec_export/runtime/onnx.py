"""Run ``.onnx`` files with ONNX Runtime."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet, require
from cocorrrec_export.runtime.base import Arrays, check_inputs, first_line, in_order, named_outputs


class OnnxRuntime:
    """A loaded ONNX model with one entry point, or a folder with one file an entry point.

    Args:
        path: the file or folder. Its digests must have been checked, or the process must be one that may crash.
        entry_points: their contracts.
        threads: threads of one call.

    Raises:
        CocorrrecError: the extra is not installed, or a file is no ONNX model.
    """

    def __init__(self, path: Path, entry_points: Iterable[EntryPoint], *, threads: int = 1) -> None:
        require("onnx")
        with quiet():
            import onnxruntime

        self.entry_points = {entry.name: entry for entry in entry_points}
        self.executed_by = f"onnxruntime {onnxruntime.__version__}"
        self._sessions = {name: _load(program_file(path, name), threads) for name in self.entry_points}

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        """Run one entry point; see :class:`cocorrrec_export.runtime.base.Runtime`."""
        contract = check_inputs(self.entry_points, entry_point, inputs)
        arrays = in_order(contract, inputs)
        feeds = {spec.name: array for spec, array in zip(contract.inputs, arrays, strict=True)}
        names = [spec.name for spec in contract.outputs]
        try:
            outputs = self._sessions[entry_point].run(names, feeds)
        except Exception as error:  # ONNX Runtime's errors have no common base but this
            raise CocorrrecError(f"{entry_point}: ONNX Runtime failed: {first_line(error)}") from error
        return named_outputs(contract, outputs)


def program_file(path: Path, entry_point: str) -> Path:
    """The file of an entry point: in a folder one of its name, else the file itself."""
    return path / f"{entry_point}.onnx" if path.is_dir() else path


def read_metadata(path: Path) -> dict[str, str]:
    """The facts that a ``.onnx`` file carries in its ``metadata_props``.

    Raises:
        CocorrrecError: the extra is not installed, or the file is no ONNX model.
    """
    return dict(_load(path, 1).get_modelmeta().custom_metadata_map)


def _load(path: Path, threads: int) -> Any:
    require("onnx")
    with quiet():
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base but this
        raise CocorrrecError(f"{path}: ONNX Runtime cannot load it: {first_line(error)}") from error
