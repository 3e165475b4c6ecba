"""Run ``.onnx`` files with ONNX Runtime."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet, require_modules, require_runtime
from cocorrrec_export.files import contained_path
from cocorrrec_export.runtime.base import (
    Arrays,
    ProgramFacts,
    check_inputs,
    first_line,
    in_order,
    metadata_value,
    named_outputs,
    vocab_size,
)
from cocorrrec_export.targets import find_target

LIBRARIES = ("onnx", "onnxruntime")


class OnnxRuntime:
    """A loaded ONNX model with one entry point, or a folder with one file per entry point.

    Args:
        path: the file or folder. Its digests must have been checked, or the process must be one that may crash.
        entry_points: their contracts.
        threads: threads of one call.

    Raises:
        CocorrrecError: the extra is not installed, or a file is not an ONNX model.
    """

    def __init__(self, path: Path, entry_points: Iterable[EntryPoint], *, threads: int = 1) -> None:
        require_runtime("onnx")
        with quiet():
            import onnxruntime

        self.entry_points = {entry.name: entry for entry in entry_points}
        self.executed_by = f"onnxruntime {onnxruntime.__version__}"
        files = {name: program_file(path, name) for name in self.entry_points}
        shared = _SharedWeights() if len(set(files.values())) > 1 else None
        self._sessions = {name: _load(file, threads, shared) for name, file in files.items()}
        self._shared = shared  # sessions read its memory
        self._vocab_sizes = {
            name: vocab_size(session.get_modelmeta().custom_metadata_map) for name, session in self._sessions.items()
        }

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        """Run one entry point; see :class:`cocorrrec_export.runtime.base.Runtime`."""
        contract = check_inputs(self.entry_points, entry_point, inputs, vocab_size=self._vocab_sizes[entry_point])
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


def load(program: Path, entry_points: Sequence[EntryPoint]) -> OnnxRuntime:
    """The runtime of an exported file: see :class:`cocorrrec_export.runtime.open.RuntimeModule`."""
    return OnnxRuntime(program, entry_points)


def describe(path: Path) -> ProgramFacts:
    """Entry points and metadata of a ``.onnx`` file, or of every one in a folder.

    Raises:
        CocorrrecError: the extra is not installed, a file is damaged, or its weights are not in its own folder.
    """
    require_modules(("onnx",), find_target("onnx").runtime_extra)
    files = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
    if not files:
        raise CocorrrecError(f"{path}: a folder without .onnx files")
    entry_points = []
    metadata: dict[str, str | int] = {}
    for file in files:
        model = _read_model(file)
        _check_external(file, model)
        properties = {entry.key: metadata_value(entry.value) for entry in model.metadata_props}
        metadata |= properties
        name = file.stem if path.is_dir() else str(properties.get("entry_points", file.stem))
        entry_points.append(EntryPoint(name, _specs(model.graph.input), _specs(model.graph.output)))
    return ProgramFacts(tuple(entry_points), metadata)


def _read_model(path: Path) -> Any:
    with quiet():
        import onnx
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors have no common base but this
        raise CocorrrecError(f"{path}: damaged, or no ONNX model: {first_line(error)}") from error
    if not model.graph.node:  # no bytes at all are a message without fields
        raise CocorrrecError(f"{path}: damaged, or no ONNX model: it has no operators")
    return model


def _check_external(path: Path, model: Any) -> list[tuple[Any, Path, int, int]]:
    """Weights outside of the file must be inside of its folder, and there: each tensor, its file, offset and bytes."""
    found = []
    for tensor in model.graph.initializer:
        where = {entry.key: entry.value for entry in tensor.external_data}
        if not where:
            continue
        file = contained_path(path.parent, where.get("location", ""), where=str(path))
        offset, size = int(where.get("offset", 0)), int(where.get("length", 0))
        if not file.is_file() or offset + size > file.stat().st_size:
            raise CocorrrecError(f"{path}: the weights {tensor.name} are not in {file.name}: missing or truncated")
        found.append((tensor, file, offset, size))
    return found


def _specs(values: Any) -> tuple[TensorSpec, ...]:
    import onnx

    def shape(value: Any) -> tuple[int | str, ...]:
        return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)

    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()} | {1: "float32"}
    return tuple(TensorSpec(x.name, names.get(x.type.tensor_type.elem_type, "unknown"), shape(x)) for x in values)


class _SharedWeights:
    """Weights outside of the files of one folder, mapped once for all sessions: each would map them again."""

    def __init__(self) -> None:
        self._values: dict[tuple[Any, ...], Any] = {}

    def add_to(self, options: Any, path: Path) -> None:
        """Give a session of the file ``path`` its outside weights."""
        import onnxruntime

        for tensor, file, offset, size in _check_external(path, _read_model(path)):
            dtype, shape = _dtype(tensor), tuple(tensor.dims)
            if dtype is None or offset < 0 or min(shape, default=1) < 1 or size != math.prod(shape) * dtype.itemsize:
                continue  # the session says what is wrong with it, if anything
            key = (file, offset, dtype, shape)
            if key not in self._values:
                mapped = np.memmap(file, dtype, "r", offset, shape)
                self._values[key] = onnxruntime.OrtValue.ortvalue_from_numpy(mapped)
            options.add_initializer(tensor.name, self._values[key])


def _dtype(tensor: Any) -> np.dtype[Any] | None:
    """The type of an initializer's numbers; None where they are none."""
    import onnx

    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except KeyError:
        return None
    return None if dtype.hasobject else dtype


def _load(path: Path, threads: int, shared: _SharedWeights | None) -> Any:
    require_runtime("onnx")
    with quiet():
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if shared is not None:
        shared.add_to(options, path)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base but this
        raise CocorrrecError(f"{path}: ONNX Runtime cannot load it: {first_line(error)}") from error
