"""LiteRT: one ``.tflite`` with a signature for each entry point, the weights once."""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cocorrrec_export.artifact.recipe import Recipe
from cocorrrec_export.export.graphs import GraphSpec
from cocorrrec_export.export.memory import LARGE, StandIn, one_copy_of_tables, stand_ins
from cocorrrec_export.extras import quiet, require
from cocorrrec_export.forms.weights import HalfProjection, Int8Projection
from cocorrrec_export.runtime.tflite import METADATA_NAME, read_flatbuffer


def export(
    graphs: Sequence[GraphSpec],
    recipe: Recipe,  # noqa: ARG001  # the graphs hold all that it says,
    path: Path,
    *,
    metadata: dict[str, str | int],
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write a ``.tflite``, its metadata as JSON under :data:`METADATA_NAME`; see :class:`.exporter.Exporter`.

    Float16 tables must be given as the bits of int16 ones.
    """
    require("tflite")
    progress("importing LiteRT")
    with quiet():
        import litert_torch
    with one_copy_of_tables():
        modules = copy.deepcopy([graph.module for graph in graphs])  # in one, so that they continue sharing weights
    packed = _float_projections(modules, graphs)
    progress(f"converting {len(graphs)} entry points")
    with quiet(), one_copy_of_tables(), stand_ins(modules) as tables:
        _register_lowerings()
        _know_constants_by_content()
        converter = litert_torch.Converter()
        for graph, module in zip(graphs, modules, strict=True):
            inputs = dict(zip((spec.name for spec in graph.contract.inputs), graph.example, strict=True))
            converter.signature(graph.name, _Named(graph, module).eval(), sample_kwargs=inputs)
        converter.convert(strict_export=False).export(str(path))
    progress("packing weights")
    model = read_flatbuffer(path)
    _pack_weights(model, packed)
    _put_tables(model, tables)
    _dequantize_rows(model)
    _add_metadata(model, metadata)
    _tidy(model)
    with path.open("wb") as file:
        file.write(_serialize(model))
    return {}


class _Named(nn.Module):
    """An entry point whose inputs and outputs have the names of its contract."""

    def __init__(self, graph: GraphSpec, module: nn.Module) -> None:
        super().__init__()
        self.entry = module
        self.inputs = [spec.name for spec in graph.contract.inputs]
        self.outputs = [spec.name for spec in graph.contract.outputs]

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        outputs = self.entry(*(inputs[name] for name in self.inputs))
        return dict(zip(self.outputs, outputs, strict=True))


def _register_lowerings() -> None:
    """Teach the converter the two operators that LiteRT has and the converter writes worse, or not at all."""
    from litert_converter.mlir import ir
    from litert_torch.backend.experimental.torch_tfl import _lowerings as tfl
    from litert_torch.backend.lowerings import registry

    def operation(name: str, context: Any, operands: list[Any], attributes: dict[str, int]) -> Any:
        i32 = ir.IntegerType.get_signless(32)
        return tfl._ir_operation(
            name,
            results=tfl.lowering_utils.node_meta_to_ir_types(context.node),
            operands=operands,
            attributes={key: ir.IntegerAttr.get(i32, value) for key, value in attributes.items()},
        )

    def gather(context: Any, table: Any, dim: int, ids: Any) -> Any:
        # The stock form wraps negative ids and answers NaN outside the table; this operator refuses them.
        return operation("tfl.gather", context, [table, ids], {"axis": dim, "batch_dims": 0})

    def bitcast(context: Any, x: Any, dtype: torch.dtype) -> Any:  # noqa: ARG001
        return operation("tfl.bitcast", context, [x], {})

    registry.lower(torch.ops.aten.index_select.default)(gather)
    registry.lower(torch.ops.aten.view.dtype)(bitcast)


def _know_constants_by_content() -> None:
    """Let the converter share constants of the same bytes, not of the same address.

    It keeps addresses for longer than the tensors behind them live, and then takes one constant for another. A table
    lives as long as the conversion does.
    """
    from litert_torch.backend.inline_consts import _ConstantFingerprint as Fingerprint

    def from_tensor(cls: Any, tensor: Tensor) -> Any:
        own = (str(tensor.device), tuple(tensor.shape), tensor.stride())
        if tensor.numel() * tensor.element_size() >= LARGE:
            return cls(*own, tensor.untyped_storage().data_ptr(), tensor.storage_offset())
        values = tensor.detach().contiguous().cpu()
        data = values.view(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b""
        digest = hashlib.blake2b(data, digest_size=16, person=str(tensor.dtype).encode()[:16]).digest()
        return cls(*own, int.from_bytes(digest, "big"), 0)

    Fingerprint.from_tensor = classmethod(from_tensor)


# ---------------------------------------------------------------------- weights in fewer bytes

Packed = dict[bytes, tuple[NDArray[Any], NDArray[np.float32] | None]]
"""Bytes of a float32 constant, and what is stored instead: float16, or int8 with one scale a row."""


def _float_projections(modules: list[nn.Module], graphs: Sequence[GraphSpec]) -> Packed:
    """Put float32 projections in the place of packed ones, which the converter would unfold into float32 anyway.

    Returns:
        Those that the entry points use: of the others, the converter writes nothing.
    """
    used = _used(modules, graphs)
    packed: Packed = {}
    for owner in {id(x): x for module in modules for x in module.modules()}.values():
        for name, child in list(owner.named_children()):
            if isinstance(child, (HalfProjection, Int8Projection)):
                plain = child.as_float()
                setattr(owner, name, plain)
                if id(child) not in used:
                    continue
                key = plain.weight.numpy().tobytes()
                if isinstance(child, HalfProjection):
                    packed[key] = (plain.weight.numpy().astype(np.float16), None)
                else:
                    packed[key] = (child.quantized.numpy(), child.scale.numpy())
    return packed


@torch.no_grad()
def _used(modules: list[nn.Module], graphs: Sequence[GraphSpec]) -> set[int]:
    """Which modules, by ``id``, run when the entry points are called."""
    seen: set[int] = set()
    inner = {id(x): x for module in modules for x in module.modules()}
    handles = [x.register_forward_hook(lambda x, *_: seen.add(id(x))) for x in inner.values()]
    for module, graph in zip(modules, graphs, strict=True):
        module(*graph.example)
    for handle in handles:
        handle.remove()
    return seen


def _pack_weights(model: Any, packed: Packed) -> None:
    """Store the constants of ``packed`` in fewer bytes, each behind a DEQUANTIZE, which runtimes run once, at load.

    Raises:
        ValueError: one of them is not in the file.
    """
    from ai_edge_litert import schema_py_generated as schema

    sizes = {len(key) for key in packed}
    found = {
        i: key
        for i, buffer in enumerate(model.buffers)
        if buffer.data is not None and len(buffer.data) in sizes and (key := _bytes(buffer)) in packed
    }
    if set(found.values()) != packed.keys():
        raise ValueError("the converter did not write every projection as a float32 constant")
    opcode = _dequantize(model, schema, _BY_ROW)
    for index, key in found.items():
        model.buffers[index].data = np.frombuffer(packed[key][0].tobytes(), np.uint8)
    for graph in model.subgraphs:
        for index, tensor in enumerate(list(graph.tensors)):
            if tensor.buffer not in found:
                continue
            stored = _stored_tensor(schema, tensor, *packed[found[tensor.buffer]])
            graph.tensors.append(stored)
            tensor.buffer = 0  # by convention the empty one: the tensor is computed now
            operator = schema.OperatorT()
            operator.opcodeIndex = opcode
            operator.inputs, operator.outputs = [len(graph.tensors) - 1], [index]
            operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
            operator.builtinOptions = schema.DequantizeOptionsT()
            graph.operators.insert(0, operator)


def _put_tables(model: Any, tables: list[StandIn]) -> None:
    """Store tables in the place of what stood for them. One that no entry point reads is not in the file.

    Raises:
        ValueError: something else than a look-up reads one.
    """
    from ai_edge_litert import schema_py_generated as schema

    gathers = {i for i, x in enumerate(model.operatorCodes) if x.builtinCode == schema.BuiltinOperator.GATHER}
    by_bytes = {table.rows.tobytes(): table.table for table in tables}
    found = {
        index: by_bytes[key]
        for index, buffer in enumerate(model.buffers)
        if buffer.data is not None and (key := _bytes(buffer)) in by_bytes
    }
    for index, table in found.items():
        model.buffers[index].data = table.reshape(-1).view(np.uint8)
    for graph in model.subgraphs:
        places = {i for i, tensor in enumerate(graph.tensors) if tensor.buffer in found}
        for place in places:
            tensor = graph.tensors[place]
            tensor.shape = [len(found[tensor.buffer]), *tensor.shape[1:]]
        for operator in graph.operators:
            if operator.opcodeIndex not in gathers and not places.isdisjoint(operator.inputs):
                raise ValueError("a table is read by something else than a look-up")


def _bytes(buffer: Any) -> bytes:
    return np.asarray(buffer.data, np.uint8).tobytes()


_INT8, _BY_ROW = 2, 5
"""Versions of DEQUANTIZE from which on there are such values, and scales by row."""


def _dequantize(model: Any, schema: Any, version: int) -> int:
    """The new operator code's place."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _dequantize_rows(model: Any) -> None:
    """Make float32 of int8 rows by DEQUANTIZE with a scale of 1, in the place of CAST: XNNPACK has only the former."""
    from ai_edge_litert import schema_py_generated as schema

    casts = {i for i, x in enumerate(model.operatorCodes) if x.builtinCode == schema.BuiltinOperator.CAST}
    kinds = schema.TensorType
    rows = [
        (graph, operator)
        for graph in model.subgraphs
        for operator in graph.operators
        if operator.opcodeIndex in casts
        and graph.tensors[operator.inputs[0]].type == kinds.INT8
        and graph.tensors[operator.outputs[0]].type == kinds.FLOAT32
    ]
    if not rows:
        return
    opcode = _dequantize(model, schema, _INT8)
    for graph, operator in rows:
        operator.opcodeIndex = opcode
        operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
        operator.builtinOptions = schema.DequantizeOptionsT()
        graph.tensors[operator.inputs[0]].quantization = _quantization(schema, np.ones(1, np.float32))


def _stored_tensor(schema: Any, like: Any, values: NDArray[Any], scale: NDArray[np.float32] | None) -> Any:
    tensor = schema.TensorT()
    tensor.shape, tensor.buffer = like.shape, like.buffer
    tensor.type = schema.TensorType.INT8 if values.dtype == np.int8 else schema.TensorType.FLOAT16
    if scale is not None:
        tensor.quantization = _quantization(schema, scale)
    return tensor


def _quantization(schema: Any, scale: NDArray[np.float32]) -> Any:
    made = schema.QuantizationParametersT()
    made.scale = scale
    made.zeroPoint = np.zeros(len(scale), np.int64)
    made.quantizedDimension = 0
    return made


# ---------------------------------------------------------------------- the file


def _tidy(model: Any) -> None:
    """Drop what no runtime reads: names of inner tensors (long paths of modules), empty records and empty buffers."""
    for graph in model.subgraphs:
        named = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in named:
                tensor.name = None
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None
    kept = [0, *(i for i, buffer in enumerate(model.buffers) if i and buffer.data is not None)]
    moved = {old: new for new, old in enumerate(kept)}
    model.buffers = [model.buffers[i] for i in kept]
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = moved.get(tensor.buffer, 0)  # 0 is the empty one
    for entry in model.metadata:
        entry.buffer = moved[entry.buffer]


def _add_metadata(model: Any, metadata: dict[str, str | int]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]


def _serialize(model: Any) -> memoryview:
    """The file; large buffers are copied into it once."""
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc]  # a class of an untyped package
        def CreateNumpyVector(self, x: NDArray[Any]) -> Any:  # the name that it has there
            if x.dtype != np.uint8:
                return super().CreateNumpyVector(x)
            self.StartVector(1, x.size, 1)
            self.head -= x.size
            memoryview(self.Bytes)[self.head : self.head + x.size] = np.ascontiguousarray(x).data
            return self.EndVector()

    size = sum(buffer.data.nbytes for buffer in model.buffers if buffer.data is not None)
    builder = Builder(size + (1 << 20))  # so that it does not grow, which takes twice its size
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return memoryview(builder.Bytes)[builder.Head() :]
