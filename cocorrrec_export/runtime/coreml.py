"""Run a ``.mlpackage``: with Core ML on macOS, elsewhere by computing its program with numpy."""

import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from cocorrrec_export import __version__
from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet
from cocorrrec_export.runtime.base import Arrays, ProgramFacts, check_inputs, first_line, metadata_value, named_outputs
from cocorrrec_export.runtime.mil import Function, compile_functions
from cocorrrec_export.runtime.mlpackage import Package, open_package

LIBRARIES: tuple[str, ...] = ()

Predict = Callable[[Arrays], Arrays]


class CoreMLRuntime:
    """A loaded package, on the CPU: the graphs are too small to be worth the way to another unit.

    Args:
        path: the package.
        entry_points: their contracts.

    Raises:
        CocorrrecError: the extra is not installed, the package is damaged, or it is not what the contracts say.
    """

    def __init__(self, path: Path, entry_points: Iterable[EntryPoint]) -> None:
        package = open_package(path)
        self.entry_points = {entry.name: entry for entry in entry_points}
        _check_contracts(package, self.entry_points)
        self._vocab_size = _vocab_size(package)
        self._functions: dict[str, Predict]
        if platform.system() == "Darwin":
            self.executed_by = f"coreml {platform.mac_ver()[0]}"
            self._functions = {name: apple_function(path, name) for name in self.entry_points}
        else:
            self.executed_by = f"mil-numpy {__version__}"
            functions = compile_functions(package, list(self.entry_points))
            _check_functions(package, functions, self.entry_points)
            self._functions = dict(functions)

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        """Run one entry point; see :class:`cocorrrec_export.runtime.base.Runtime`."""
        contract = check_inputs(self.entry_points, entry_point, inputs, vocab_size=self._vocab_size or None)
        outputs = self._functions[entry_point](inputs)
        return named_outputs(contract, [outputs[spec.name] for spec in contract.outputs])


def load(program: Path, entry_points: Sequence[EntryPoint]) -> CoreMLRuntime:
    """The runtime of an exported file: see :class:`cocorrrec_export.runtime.open.RuntimeModule`."""
    return CoreMLRuntime(program, entry_points)


def describe(path: Path) -> ProgramFacts:
    """Entry points and metadata of a package.

    Raises:
        CocorrrecError: no package, or a damaged one.
    """
    package = open_package(path)
    metadata = {key: metadata_value(value) for key, value in package.metadata.items()}
    return ProgramFacts(tuple(package.entry_points().values()), metadata)


def _vocab_size(package: Package) -> int:
    text = package.metadata.get("vocab_size", "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise CocorrrecError(f"{package.path}: its metadata says vocab_size {text[:60]!r}, which is not a number")
    return int(text)


def _check_contracts(package: Package, wanted: dict[str, EntryPoint]) -> None:
    """Hold the file's own description to the contracts."""
    described = package.entry_points()
    missing = wanted.keys() - described.keys()
    if missing:
        raise CocorrrecError(f"{package.path}: lacks the entry points {', '.join(sorted(missing))}")
    for name, contract in wanted.items():
        for side in ("inputs", "outputs"):
            inside, asked = getattr(described[name], side), getattr(contract, side)
            if inside != asked:
                raise CocorrrecError(f"{package.path}: {name} has {_show(inside)} as {side}, expected {_show(asked)}")


def _check_functions(package: Package, functions: dict[str, Function], wanted: dict[str, EntryPoint]) -> None:
    """Hold the programs to the contracts too."""
    for name, contract in wanted.items():
        for inside, asked in (
            (functions[name].inputs, contract.inputs),
            (functions[name].outputs, contract.outputs),
        ):
            if {key: (x.dtype, x.shape) for key, x in inside.items()} != {x.name: (x.dtype, x.shape) for x in asked}:
                raise CocorrrecError(f"{package.path}: the program of {name} is not what its description says")


def _show(specs: Iterable[object]) -> str:
    return ", ".join(f"{ascii(x.name[:60])[1:-1]} {x.dtype} {list(x.shape)}" for x in specs)  # type: ignore[attr-defined]


def apple_function(path: Path, function: str) -> Predict:
    """One function, loaded by Core ML, which only macOS has.

    Raises:
        CocorrrecError: Core ML cannot load it.
    """
    with quiet():
        import coremltools as ct

        try:
            model = ct.models.MLModel(str(path), function_name=function, compute_units=ct.ComputeUnit.CPU_ONLY)
        except Exception as error:  # Core ML's errors have no common base but this
            raise CocorrrecError(f"{path}: Core ML cannot load {function}: {first_line(error)}") from error

    def predict(inputs: Arrays) -> Arrays:
        try:
            outputs = model.predict(inputs)
        except Exception as error:  # as above
            raise CocorrrecError(f"{function}: Core ML failed: {first_line(error)}") from error
        return {name: np.asarray(x) for name, x in outputs.items()}

    return predict
