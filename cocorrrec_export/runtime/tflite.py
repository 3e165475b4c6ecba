"""Run a ``.tflite`` with the LiteRT interpreter."""

import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cocorrrec_export.contract import EntryPoint, TensorSpec
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

LIBRARIES = ("ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated")

METADATA_NAME = "cocorrrec"
"""Name of the metadata entry that holds the facts about the model, as a JSON object."""


class LiteRTRuntime:
    """A loaded ``.tflite``, on one thread: the graphs are too small to share among several.

    Args:
        path: the file. Its digest must have been checked, or the process must be one that may crash.
        entry_points: their contracts.

    Raises:
        CocorrrecError: the extra is not installed, or the file is not a program of this runtime.
    """

    def __init__(self, path: Path, entry_points: Iterable[EntryPoint]) -> None:
        require_runtime("tflite")
        with quiet():
            from ai_edge_litert.interpreter import Interpreter
        self.entry_points = {entry.name: entry for entry in entry_points}
        self.executed_by = f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
        try:
            with quiet():
                self._interpreter = Interpreter(str(path), num_threads=1)
                names = self._interpreter.get_signature_list()
                missing = self.entry_points.keys() - names.keys()
                if not missing:
                    self._runners = {name: self._interpreter.get_signature_runner(name) for name in self.entry_points}
        except (ValueError, RuntimeError) as error:
            raise CocorrrecError(f"{path}: LiteRT cannot load it: {first_line(error)}") from None
        if missing:
            raise CocorrrecError(f"{path}: lacks the entry points {', '.join(sorted(missing))}")
        self._vocab_size = vocab_size(_metadata_of(path))
        for name, contract in self.entry_points.items():
            _check_contract(path, contract, self._runners[name])

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        """Run one entry point; see :class:`cocorrrec_export.runtime.base.Runtime`."""
        contract = check_inputs(self.entry_points, entry_point, inputs, vocab_size=self._vocab_size)
        arrays = in_order(contract, inputs)
        try:
            outputs = self._runners[entry_point](
                **{spec.name: array for spec, array in zip(contract.inputs, arrays, strict=True)}
            )
        except (ValueError, RuntimeError) as error:
            raise CocorrrecError(f"{entry_point}: LiteRT failed: {first_line(error)}") from None
        return named_outputs(contract, [outputs[spec.name] for spec in contract.outputs])


def _check_contract(path: Path, contract: EntryPoint, runner: Any) -> None:
    """The runner resizes inputs to what it is given: hold the file's own shapes and types to the contract first."""
    for side, specs, details in (
        ("input", contract.inputs, runner.get_input_details()),
        ("output", contract.outputs, runner.get_output_details()),
    ):
        for spec in specs:
            detail = details.get(spec.name)
            if detail is None:
                raise CocorrrecError(f"{path}: {contract.name} has no {side} {spec.name}")
            have = (np.dtype(detail["dtype"]).name, tuple(int(n) for n in detail["shape"]))
            if have != (spec.dtype, spec.shape):
                raise CocorrrecError(
                    f"{path}: {contract.name} has {spec.name} as {have[0]} {list(have[1])}, "
                    f"expected {spec.dtype} {list(spec.shape)}"
                )


def read_flatbuffer(path: Path) -> Any:
    """The whole file as an object of the TFLite schema.

    Raises:
        CocorrrecError: the extra is not installed, or the file is not a flatbuffer of this schema.
    """
    require_runtime("tflite")
    with quiet():
        from ai_edge_litert import schema_py_generated as schema
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise CocorrrecError(f"{path}: not a .tflite file")
    try:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    except Exception as error:  # the generated reader checks nothing: whatever it trips over, the file is damaged
        raise CocorrrecError(f"{path}: damaged or truncated: {first_line(error)}") from error


def load(program: Path, entry_points: Sequence[EntryPoint]) -> LiteRTRuntime:
    """The runtime of an exported file: see :class:`cocorrrec_export.runtime.open.RuntimeModule`."""
    return LiteRTRuntime(program, entry_points)


def describe(path: Path) -> ProgramFacts:
    """Entry points and metadata of a ``.tflite``.

    Raises:
        CocorrrecError: the extra is not installed, or the file is damaged.
    """
    model = read_flatbuffer(path)
    try:
        return ProgramFacts(_entry_points(model), _metadata(model))
    except Exception as error:  # what it refers to need not be there in a damaged file
        raise CocorrrecError(f"{path}: damaged: {type(error).__name__}: {first_line(error)}") from error


def _entry_points(model: Any) -> tuple[EntryPoint, ...]:
    from ai_edge_litert import schema_py_generated as schema

    types = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}

    def specs(graph: Any, maps: list[Any]) -> tuple[TensorSpec, ...]:
        tensors = [(entry.name.decode(), graph.tensors[entry.tensorIndex]) for entry in maps]
        return tuple(TensorSpec(name, types[x.type], tuple(int(n) for n in x.shape)) for name, x in tensors)

    entry_points = []
    for signature in model.signatureDefs or []:
        graph = model.subgraphs[signature.subgraphIndex]
        inputs = sorted(signature.inputs, key=lambda entry: list(graph.inputs).index(entry.tensorIndex))
        outputs = sorted(signature.outputs, key=lambda entry: list(graph.outputs).index(entry.tensorIndex))
        name = signature.signatureKey.decode()
        entry_points.append(EntryPoint(name, specs(graph, inputs), specs(graph, outputs)))
    return tuple(entry_points)


def _metadata_of(path: Path) -> dict[str, str | int]:
    """The metadata alone: the weights of a large file are not unpacked for them."""
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(path.read_bytes())
        for index in range(model.MetadataLength()):
            entry = model.Metadata(index)
            if entry.Name() == METADATA_NAME.encode():
                return _facts(bytes(model.Buffers(entry.Buffer()).DataAsNumpy()))
    except Exception as error:  # the generated reader checks nothing: whatever it trips over, the file is damaged
        raise CocorrrecError(f"{path}: damaged or truncated: {first_line(error)}") from error
    return {}


def _facts(data: bytes) -> dict[str, str | int]:
    return {str(key): value for key, value in json.loads(data.decode()).items()}


def _metadata(model: Any) -> dict[str, str | int]:
    for entry in model.metadata or []:
        if entry.name == METADATA_NAME.encode():
            return _facts(bytes(bytearray(model.buffers[entry.buffer].data)))
    return {}
