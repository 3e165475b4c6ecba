"""The runner for ``.mlpackage`` on macOS, through coremltools: on the CPU, as everywhere; threads are Core ML's own."""

import argparse
import platform
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.machines import worker
from cocorrrec_export.runtime.base import Arrays
from cocorrrec_export.runtime.coreml import apple_function, describe


def runtime() -> str:
    """What runs the packages.

    Raises:
        CocorrrecError: this machine has no Core ML.
    """
    if platform.system() != "Darwin":
        raise CocorrrecError("coreml files are profiled on a Mac: Core ML is a part of macOS")
    return f"coreml {platform.mac_ver()[0]}"


def load(options: argparse.Namespace) -> worker.Loaded:
    """One function of a package."""
    path = Path(options.model)
    contract = next(entry for entry in describe(path).entry_points if entry.name == options.entry)
    specs = {spec.name: spec for spec in contract.inputs}
    inputs = [
        (name, specs[name].dtype, tuple(int(n) for n in specs[name].shape)) for name in options.input_names.split(",")
    ]
    dtypes = {spec.name: spec.dtype for spec in contract.outputs}
    predict = apple_function(path, options.entry)

    def call(case: Arrays) -> list[NDArray[Any]]:
        found = predict(case)
        return [found[name].astype(dtypes[name]) for name in options.output_names.split(",")]

    return worker.Loaded(inputs, call)


if __name__ == "__main__":
    worker.main(load)
