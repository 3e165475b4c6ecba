"""Read and write what is inside a ``.mlpackage``: messages of Core ML's model format, and the file of weights.

A package is a folder: ``Manifest.json`` names the items in ``Data/``, ``model.mlmodel`` is a protobuf message, and
``weights/weight.bin`` holds the large constants. The messages are those of Core ML Tools, loaded without the rest of
that package, whose import takes many seconds.
"""

import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import require_runtime
from cocorrrec_export.files import contained_path

PACKAGE_MANIFEST = "Manifest.json"
DATA = "Data"
MAX_MANIFEST_BYTES = 1 << 20
MAX_MODEL_BYTES = 1 << 26
MAX_ELEMENTS = 1 << 28
"""Of one tensor: a file that claims more is damaged."""

_MESSAGES = "_cocorrrec_coreml_messages"
_FEATURE_DTYPES = {65568: "float32", 131104: "int32"}
_WEIGHT_FILE = "@model_path/"
_BLOB_VERSION, _BLOB_SENTINEL = 2, 0xDEADBEEF
_BLOB_PAGE = 64
_BLOB_HEADER = np.dtype([("sentinel", "<u4"), ("dtype", "<u4"), ("bytes", "<u8"), ("offset", "<u8")])
_BLOB_DTYPES = {1: "float16", 2: "float32", 3: "uint8", 4: "int8", 14: "int32"}


def _messages(name: str) -> Any:
    """A module of message classes, ``Model_pb2`` or ``MIL_pb2``.

    Raises:
        CocorrrecError: the extra is not installed.
    """
    if _MESSAGES not in sys.modules:
        require_runtime("coreml")
        found = importlib.util.find_spec("coremltools")
        assert found is not None and found.submodule_search_locations
        folder = Path(found.submodule_search_locations[0]) / "proto"
        spec = importlib.util.spec_from_file_location(
            _MESSAGES, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        sys.modules[_MESSAGES] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{_MESSAGES}.{name}")


@dataclass(frozen=True)
class Package:
    """A package whose outer form is sound; of what is inside, nothing has been checked."""

    path: Path
    model: Any
    """The message ``Model``."""
    model_path: Path

    @property
    def metadata(self) -> dict[str, str]:
        """The user-defined metadata."""
        return dict(self.model.description.metadata.userDefined)

    @property
    def functions(self) -> dict[str, Any]:
        """Messages ``Function`` of the program, by name."""
        return dict(self.model.mlProgram.functions)

    def entry_points(self) -> dict[str, EntryPoint]:
        """What the description says of the functions.

        Raises:
            CocorrrecError: a tensor of another kind than this toolkit writes.
        """
        return {
            function.name: EntryPoint(function.name, self._specs(function.input), self._specs(function.output))
            for function in self.model.description.functions
        }

    def _specs(self, features: Any) -> tuple[TensorSpec, ...]:
        specs = []
        for feature in features:
            array = feature.type.multiArrayType
            dtype = _FEATURE_DTYPES.get(array.dataType)
            if feature.type.WhichOneof("Type") != "multiArrayType" or dtype is None:
                raise CocorrrecError(f"{self.path}: {feature.name[:60]!r} is not an array of float32 or int32")
            specs.append(TensorSpec(feature.name, dtype, tuple(array.shape)))
        return tuple(specs)

    def weight_files(self) -> "WeightFiles":
        """The large constants, read when they are asked for."""
        return WeightFiles(self.path, self.model_path.parent)

    def weight_bytes(self) -> dict[str, int]:
        """Name and size of each constant in the file of weights; of a shared one, the name that comes first.

        Raises:
            CocorrrecError: a constant lies outside of the file.
        """
        files = self.weight_files()
        sizes: dict[tuple[str, int], tuple[str, int]] = {}
        for name, value in self._stored():
            size = files.read(value.fileName, value.offset).nbytes
            sizes.setdefault((value.fileName, value.offset), (name, size))
        return dict(sizes.values())

    def put_tables(self, tables: dict[bytes, NDArray[Any]]) -> None:
        """Store tables in the place of constants of a few rows, which are found by their bytes.

        The file of weights is written again, in its order, and the program says the heights and the new places. A table
        that no function reads is not in it.
        """
        if not tables:
            return
        files, moved = self.weight_files(), dict[tuple[str, int], tuple[int, NDArray[Any] | None]]()
        places = sorted({(value.fileName, value.offset) for _, value in self._stored()})
        for name in sorted({name for name, _ in places}):
            path, own = files.path_of(name), [offset for file, offset in places if file == name]
            with path.with_suffix(".new").open("wb") as file:
                file.write(np.array([len(own), _BLOB_VERSION], "<u4").tobytes().ljust(_BLOB_PAGE, b"\0"))
                for offset in own:
                    found = files.read(name, offset)
                    table = tables.get(found.tobytes())
                    written = found if table is None else table
                    moved[name, offset] = _write_blob(file, files.header(name, offset), written), table
            path.with_suffix(".new").replace(path)
        self._point_to(moved)

    def _point_to(self, moved: dict[tuple[str, int], tuple[int, NDArray[Any] | None]]) -> None:
        """Let constants say where they are now, and how high those are that became tables."""
        for operation, key, value in self._constants():
            place = value.blobFileValue
            place.offset, table = moved[place.fileName, place.offset]
            if table is None:
                continue
            value.type.tensorType.dimensions[0].constant.size = len(table)
            if not key:
                operation.outputs[0].type.tensorType.dimensions[0].constant.size = len(table)

    def _stored(self) -> Iterator[tuple[str, Any]]:
        """Name and place of every constant that lies in a file of weights."""
        for operation, key, value in self._constants():
            name = operation.outputs[0].name if operation.outputs else ""
            yield f"{name}_{key}" if key else name, value.blobFileValue

    def _constants(self) -> Iterator[tuple[Any, str, Any]]:
        """Every constant in a file of weights: operation, the operand or "" for its result, and the message Value."""
        for function in self.functions.values():
            for block in function.block_specializations.values():
                for operation in block.operations:
                    values = [("", operation.attributes["val"])] if "val" in operation.attributes else []
                    for key, operand in operation.inputs.items():
                        values += [(key, x.value) for x in operand.arguments if x.HasField("value")]
                    yield from ((operation, key, x) for key, x in values if x.HasField("blobFileValue"))


def _write_blob(file: BinaryIO, header: NDArray[np.uint8], values: NDArray[Any]) -> int:
    """Write a constant behind a header like ``header``; where it starts."""
    file.write(bytes(-file.tell() % _BLOB_PAGE))
    start, own = file.tell(), header.copy()
    facts = own[: _BLOB_HEADER.itemsize].view(_BLOB_HEADER)
    facts["bytes"], facts["offset"] = values.nbytes, start + _BLOB_PAGE
    file.write(own.tobytes())
    file.write(np.ascontiguousarray(values).data)
    return start


class WeightFiles:
    """Constants by file and offset; every offset and size is checked against the file.

    Args:
        package: for messages.
        folder: that of the model, which file names are relative to.
    """

    def __init__(self, package: Path, folder: Path) -> None:
        self._package, self._folder = package, folder
        self._files: dict[str, NDArray[np.uint8]] = {}
        self._read: dict[tuple[str, int], NDArray[np.generic]] = {}

    def read(self, name: str, offset: int) -> NDArray[np.generic]:
        """The constant at ``offset`` of the file that the program calls ``name``: a flat array.

        Raises:
            CocorrrecError: no such file, or nothing sound at that offset of it.
        """
        key = (name, offset)
        if key not in self._read:
            self._read[key] = self._read_once(name, offset)
        return self._read[key]

    def path_of(self, name: str) -> Path:
        """Where the file is that the program calls ``name``.

        Raises:
            CocorrrecError: not inside the package.
        """
        if not name.startswith(_WEIGHT_FILE):
            raise CocorrrecError(f"{self._package}: file of weights {name[:60]!r}: not inside the package")
        return contained_path(self._folder, name.removeprefix(_WEIGHT_FILE), where=str(self._package))

    def header(self, name: str, offset: int) -> NDArray[np.uint8]:
        """The bytes in front of a constant that :meth:`read` found sound."""
        return self._file(name)[offset : offset + _BLOB_PAGE]

    def _read_once(self, name: str, offset: int) -> NDArray[np.generic]:
        data = self._file(name)
        where = f"{self._package}: constant at byte {offset} of {name.removeprefix(_WEIGHT_FILE)[:60]}"
        if offset + _BLOB_HEADER.itemsize > len(data):
            raise CocorrrecError(f"{where}: outside of the file")
        header = data[offset : offset + _BLOB_HEADER.itemsize].view(_BLOB_HEADER)[0]
        dtype = _BLOB_DTYPES.get(int(header["dtype"]))
        start, size = int(header["offset"]), int(header["bytes"])
        if header["sentinel"] != _BLOB_SENTINEL or dtype is None:
            raise CocorrrecError(f"{where}: no constant starts there, or one of an unknown dtype")
        if start + size > len(data) or size % np.dtype(dtype).itemsize:
            raise CocorrrecError(f"{where}: {size} bytes from byte {start} lead outside of the file")
        return data[start : start + size].view(dtype)

    def _file(self, name: str) -> NDArray[np.uint8]:
        if name not in self._files:
            where = f"{self._package}: file of weights {name[:60]!r}"
            path = self.path_of(name)
            if not path.is_file():
                raise CocorrrecError(f"{where}: missing")
            data = np.frombuffer(path.read_bytes(), np.uint8)
            if len(data) < 64 or data[4:8].view("<u4")[0] != _BLOB_VERSION:
                raise CocorrrecError(f"{where}: truncated, or not of version {_BLOB_VERSION}")
            self._files[name] = data
        return self._files[name]


def open_package(path: Path) -> Package:
    """Read a package's manifest and model.

    Raises:
        CocorrrecError: the extra is not installed; a file is missing, damaged or no ML program.
    """
    model_path = _model_path(path)
    if not model_path.is_file():
        raise CocorrrecError(f"{path}: {model_path.relative_to(path)} is missing")
    if model_path.stat().st_size > MAX_MODEL_BYTES:
        raise CocorrrecError(f"{path}: {model_path.relative_to(path)} is larger than {MAX_MODEL_BYTES} bytes")
    messages = _messages("Model_pb2")
    from google.protobuf.message import DecodeError

    try:
        model = messages.Model.FromString(model_path.read_bytes())
    except DecodeError:
        raise CocorrrecError(f"{path}: {model_path.relative_to(path)} is damaged or truncated") from None
    if model.WhichOneof("Type") != "mlProgram":
        raise CocorrrecError(f"{path}: holds no ML program")
    return Package(path, model, model_path)


def _model_path(path: Path) -> Path:
    """Path of the model that the manifest names."""
    where = path / PACKAGE_MANIFEST
    if not where.is_file():
        raise CocorrrecError(f"{path}: no Core ML package: it has no {PACKAGE_MANIFEST}")
    with where.open("rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    try:
        manifest = json.loads(data[:MAX_MANIFEST_BYTES].decode("utf-8"))
        name = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        if not isinstance(name, str):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CocorrrecError(f"{where}: damaged or truncated, it names no model") from None
    return contained_path(path / DATA, name, where=str(where))


def write_model(package: Package) -> None:
    """Write the model's message back; the same message always gives the same bytes."""
    package.model_path.write_bytes(package.model.SerializeToString(deterministic=True))


def tensor_type(type_: Any) -> tuple[str, tuple[int, ...]]:
    """Dtype, as numpy calls it, and shape of a message ``ValueType``.

    Raises:
        ValueError: no tensor of a fixed shape and a known dtype, or one of absurd size.
    """
    if type_.WhichOneof("type") != "tensorType":
        raise ValueError("not a tensor")
    tensor = type_.tensorType
    names = _messages("MIL_pb2").DataType
    try:
        dtype = names.Name(tensor.dataType).lower()
    except ValueError:
        raise ValueError(f"unknown dtype {tensor.dataType}") from None
    if any(dimension.WhichOneof("dimension") != "constant" for dimension in tensor.dimensions):
        raise ValueError("a dimension is not fixed")
    shape = tuple(int(dimension.constant.size) for dimension in tensor.dimensions)
    if len(shape) > 8 or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"absurd size {list(shape[:8])}")
    return dtype, shape
