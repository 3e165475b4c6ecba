"""A file that computes something else, with a manifest and a digest made to match it: only running it can tell."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cocorrrec_export.artifact.manifest import open_artifact
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.export import pipeline
from cocorrrec_export.export.tflite import _serialize
from cocorrrec_export.modeling.store import ModelFolder
from cocorrrec_export.runtime.tflite import read_flatbuffer
from tests.exports import rehash

Mutation = Callable[[Path], None]


def replace(name: str, old: bytes, new: bytes) -> Mutation:
    """Other bytes of the same length, wherever they stand."""

    def mutate(folder: Path) -> None:
        data = (folder / name).read_bytes()
        assert old in data and len(old) == len(new)
        (folder / name).write_bytes(data.replace(old, new))

    return mutate


# ---------------------------------------------------------------------- ExecuTorch


def pte_constant(size: int) -> Mutation:
    """Turn the sign of every value of the first constant of ``size`` bytes, all of them int8 or float32."""

    def mutate(folder: Path) -> None:
        from cocorrrec_export.extras import quiet

        with quiet():
            from executorch.exir._serialize._program import deserialize_pte_binary

            file = deserialize_pte_binary((folder / "scn.pte").read_bytes())
        constants = [x.storage for x in file.program.constant_buffer] + list(file.named_data.buffers)
        constant = bytes(next(x for x in constants if len(x) == size))
        values = np.frombuffer(constant, np.int8 if size > 2048 else np.float32)
        replace("scn.pte", constant, (-values).astype(values.dtype).tobytes())(folder)

    return mutate


# ---------------------------------------------------------------------- LiteRT


def tflite(change: Callable[[Any, Any], None]) -> Mutation:
    """Change the ``rank`` subgraph."""

    def mutate(folder: Path) -> None:
        model = read_flatbuffer(folder / "scn.tflite")
        (signature,) = [x for x in model.signatureDefs if x.signatureKey == b"rank"]
        change(model, model.subgraphs[signature.subgraphIndex])
        (folder / "scn.tflite").write_bytes(_serialize(model))

    return mutate


def negate_largest(model: Any, _: Any) -> None:
    buffer = max((x for x in model.buffers if x.data is not None), key=lambda x: len(x.data))
    buffer.data = (-buffer.data.view(np.int8)).view(np.uint8)


def swap_tanh(model: Any, graph: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    codes = {x.builtinCode: i for i, x in enumerate(model.operatorCodes)}
    tanh, other = codes[schema.BuiltinOperator.TANH], codes[schema.BuiltinOperator.LOGISTIC]
    (operator,) = [x for x in graph.operators if x.opcodeIndex == tanh]
    operator.opcodeIndex = other


def change_scale(model: Any, _: Any) -> None:
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None:
                tensor.quantization.scale = np.asarray(tensor.quantization.scale) * np.float32(1.5)


# ---------------------------------------------------------------------- ONNX


def onnx_file(name: str, change: Callable[[Any], None]) -> Mutation:
    """Change a model, its external weights left where they are."""

    def mutate(folder: Path) -> None:
        import onnx

        model = onnx.load(folder / name, load_external_data=False)
        change(model)
        (folder / name).write_bytes(model.SerializeToString())

    return mutate


def swap_operator(old: str, new: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        nodes = [node for node in model.graph.node if node.op_type == old]
        assert nodes
        for node in nodes:
            node.op_type = new

    return change


def double_small_constants(model: Any) -> None:
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.data_type == 1 and not tensor.external_data:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))


def flip_signs(folder: Path) -> None:
    path = folder / "scn" / "weights.bin"
    path.write_bytes((-np.frombuffer(path.read_bytes(), np.int8)).tobytes())


MUTATIONS: dict[str, tuple[str, Mutation]] = {
    "executorch-table": ("scn_int8", pte_constant(60 * 64)),
    "executorch-state": ("scn_int8", pte_constant(640)),
    "executorch-operator": ("scn_int8", replace("scn.pte", b"aten::ne", b"aten::eq")),
    "tflite-table": ("tflite_int8", tflite(negate_largest)),
    "tflite-operator": ("tflite_int8", tflite(swap_tanh)),
    "tflite-scale": ("tflite_int8", tflite(change_scale)),
    "onnx-weights": ("onnx_int8", flip_signs),
    "onnx-operator": ("onnx_int8", onnx_file("scn/rank.onnx", swap_operator("Tanh", "Sigmoid"))),
    "onnx-constants": ("onnx_int8", onnx_file("scn/step.onnx", double_small_constants)),
    "gcn-operator": ("gcn_fp32", onnx_file("gcn.onnx", swap_operator("LeakyRelu", "Elu"))),
    "gcn-constants": ("gcn_fp32", onnx_file("gcn.onnx", double_small_constants)),
    "gcn-gru": ("gcn_fp32", onnx_file("gcn.onnx", swap_operator("ReduceSum", "ReduceMax"))),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_parity_sees_it(name: str, request: pytest.FixtureRequest, tiny: ModelFolder, tmp_path: Path) -> None:
    kind, mutate = MUTATIONS[name]
    folder = tmp_path / "export"
    shutil.copytree(request.getfixturevalue(kind).path, folder)
    mutate(folder)
    rehash(folder)
    open_artifact(folder)  # the hashes are right
    with pytest.raises(CocorrrecError) as raised:
        pipeline.check(folder, model=str(tiny.path), data=None)
    assert "does not compute" in str(raised.value), raised.value


def changed_row(seed: int, change: str) -> Mutation:
    """One row of the table of a ``.tflite`` or of ONNX's shared weights: replaced, or two rows swapped."""

    def mutate(folder: Path) -> None:
        generator = np.random.default_rng(seed)
        first, second = generator.choice(np.arange(1, 60), 2, replace=False)
        data = np.frombuffer(artifact_bytes(folder), np.int8).copy()
        start = table_start(folder, data)
        rows = data[start : start + 60 * 64].reshape(60, 64)
        if change == "swap":
            rows[[first, second]] = rows[[second, first]]
        else:
            rows[first] = generator.integers(-127, 128, 64)
        artifact_file(folder).write_bytes(data.tobytes())

    return mutate


def artifact_file(folder: Path) -> Path:
    return folder / "scn.tflite" if (folder / "scn.tflite").is_file() else folder / "scn" / "weights.bin"


def artifact_bytes(folder: Path) -> bytes:
    return artifact_file(folder).read_bytes()


def table_start(folder: Path, data: Any) -> int:
    """Where the int8 item table stands in a program."""
    if artifact_file(folder).suffix == ".bin":
        import onnx

        model = onnx.load(folder / "scn" / "rank.onnx", load_external_data=False)
        (tensor,) = [x for x in model.graph.initializer if list(x.dims) == [60, 64]]
        return int({entry.key: entry.value for entry in tensor.external_data}["offset"])
    model = read_flatbuffer(folder / "scn.tflite")
    tables = [x for x in model.buffers if x.data is not None and len(x.data) == 60 * 64]
    return data.tobytes().index(bytes(bytearray(tables[0].data)))


@pytest.mark.parametrize("change", ["replace", "swap"])
@pytest.mark.parametrize("kind", ["tflite_int8", "onnx_int8"])
def test_single_rows(kind: str, change: str, request: pytest.FixtureRequest, tiny: ModelFolder, tmp_path: Path) -> None:
    for seed in range(3):
        folder = tmp_path / str(seed)
        shutil.copytree(request.getfixturevalue(kind).path, folder)
        changed_row(seed, change)(folder)
        rehash(folder)
        with pytest.raises(CocorrrecError, match=r"does not compute"):
            pipeline.check(folder, model=str(tiny.path), data=None)
