"""Run a ``.onnx`` with ONNX Runtime."""

from pathlib import Path

from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet, require
from cocorrrec_export.runtime.base import Arrays, check_inputs, in_order, named_outputs


class OnnxRuntime:
    """A loaded ONNX model with one entry point.

    Args:
        path: the file. Its digest must have been checked, or the process must be one that may crash.
        entry_point: its contract.
        threads: threads of one call.

    Raises:
        CocorrrecError: the extra is not installed, or the file is no ONNX model.
    """

    def __init__(self, path: Path, entry_point: EntryPoint, *, threads: int = 1) -> None:
        require("onnx")
        with quiet():
            import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base but this
            raise CocorrrecError(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error
        self.entry_points = {entry_point.name: entry_point}
        self.executed_by = f"onnxruntime {onnxruntime.__version__}"

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        """Run one entry point; see :class:`cocorrrec_export.runtime.base.Runtime`."""
        contract = check_inputs(self.entry_points, entry_point, inputs)
        arrays = in_order(contract, inputs)
        feeds = {spec.name: array for spec, array in zip(contract.inputs, arrays, strict=True)}
        return named_outputs(contract, self._session.run([spec.name for spec in contract.outputs], feeds))

    def metadata(self) -> dict[str, str]:
        """The facts that the file carries in ``metadata_props``."""
        return dict(self._session.get_modelmeta().custom_metadata_map)
