"""The runner for ONNX files, on ONNX Runtime's Python API: its wheel has no C++ headers."""

import argparse
import importlib.metadata
from pathlib import Path

from cocorrrec_export.extras import require_runtime
from cocorrrec_export.profiling.machines import worker
from cocorrrec_export.runtime.onnx import program_file

_TYPES = {"tensor(float)": "float32", "tensor(int32)": "int32", "tensor(int64)": "int64"}


def runtime() -> str:
    """What runs the files.

    Raises:
        CocorrrecError: it is not installed.
    """
    require_runtime("onnx")
    return f"onnxruntime {importlib.metadata.version('onnxruntime')}"


def load(options: argparse.Namespace) -> worker.Loaded:
    """A session of one file."""
    program = program_file(Path(options.model), options.entry)
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(program), settings, providers=["CPUExecutionProvider"])
    found = {x.name: x for x in session.get_inputs()}
    shapes = {name: tuple(d if isinstance(d, int) else 1 for d in x.shape) for name, x in found.items()}
    inputs = [(name, _TYPES[found[name].type], shapes[name]) for name in options.input_names.split(",")]
    outputs = options.output_names.split(",")
    return worker.Loaded(inputs, lambda case: session.run(outputs, case))


if __name__ == "__main__":
    worker.main(load)
