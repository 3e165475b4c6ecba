"""A file that computes something else, with a manifest and a digest made to match it: only running it can tell."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cocorrrec_export.artifact.manifest import Artifact, open_artifact
from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.errors import CocorrrecError, ParityError
from cocorrrec_export.export import pipeline
from cocorrrec_export.export.tflite import _serialize
from cocorrrec_export.forms.weights import Int8Projection, Int8Table
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.store import ModelFolder
from cocorrrec_export.parity.verdict import judge
from cocorrrec_export.runtime.open import open_runtime
from cocorrrec_export.runtime.tflite import read_flatbuffer
from tests.coreml import CoreMLExports
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


# ---------------------------------------------------------------------- matrices, by their content


Matrix = NDArray[Any]
Change = Callable[[Matrix, np.random.Generator], list[int]]
"""Changes a matrix in place; returns the rows that are others now, none where all may be."""


def random_row(matrix: Matrix, generator: np.random.Generator) -> Matrix:
    """Values as the matrix has them, for one of its rows."""
    return generator.choice(matrix.reshape(-1), matrix.shape[1])


def replace_row(matrix: Matrix, generator: np.random.Generator) -> list[int]:
    row = int(generator.integers(1, len(matrix)))
    matrix[row] = random_row(matrix, generator)
    return [row]


def swap_rows(matrix: Matrix, generator: np.random.Generator) -> list[int]:
    rows = [int(row) for row in generator.choice(np.arange(1, len(matrix)), 2, replace=False)]
    matrix[rows] = matrix[rows[::-1]]
    return rows


def copy_row(matrix: Matrix, generator: np.random.Generator) -> list[int]:
    first, second = (int(row) for row in generator.choice(np.arange(1, len(matrix)), 2, replace=False))
    matrix[first] = matrix[second]
    return [first]


def drop_row(matrix: Matrix, generator: np.random.Generator) -> list[int]:
    row = int(generator.integers(1, len(matrix)))
    matrix[row] = 0
    return [row]


def halve_row(matrix: Matrix, generator: np.random.Generator) -> list[int]:
    row = int(generator.integers(1, len(matrix)))
    matrix[row] = (matrix[row] / 2).astype(matrix.dtype)
    return [row]


def replace_column(matrix: Matrix, generator: np.random.Generator) -> list[int]:
    matrix[1:, int(generator.integers(matrix.shape[1]))] = random_row(matrix.T[:, 1:], generator)
    return []


def swap_columns(matrix: Matrix, generator: np.random.Generator) -> list[int]:
    columns = generator.choice(matrix.shape[1], 2, replace=False)
    matrix[:, columns] = matrix[:, columns[::-1]]
    return []


def shift_rows(matrix: Matrix, _: np.random.Generator) -> list[int]:
    matrix[1:] = np.roll(matrix[1:], 1, axis=0)
    return []


def shift_columns(matrix: Matrix, _: np.random.Generator) -> list[int]:
    matrix[:] = np.roll(matrix, 1, axis=1)
    return []


def negate(matrix: Matrix, _: np.random.Generator) -> list[int]:
    matrix[:] = -matrix
    return []


def reverse(matrix: Matrix, _: np.random.Generator) -> list[int]:
    matrix[1:] = matrix[:0:-1].copy()
    return []


def transpose(matrix: Matrix, _: np.random.Generator) -> list[int]:
    size = min(matrix.shape)
    matrix[:size, :size] = matrix[:size, :size].T.copy()
    return []


CHANGES: tuple[Change, ...] = (
    replace_row, swap_rows, copy_row, drop_row, halve_row, replace_column, swap_columns, shift_rows, shift_columns,
    negate, reverse, transpose,
)  # fmt: skip


def change_content(program: Path, content: Matrix, changed: Matrix) -> None:
    """Put a matrix in the place of another, wherever a program has that, as it is or transposed."""
    assert not np.array_equal(content, changed), "nothing changed"
    files = {path: path.read_bytes() for path in [program, *program.rglob("*")] if path.is_file()}
    ways = ((content.tobytes(), changed.tobytes()), (content.T.tobytes(), changed.T.tobytes()))
    found = {path: (old, new) for path, data in files.items() for old, new in ways if old in data}
    assert found, f"{program} does not hold the matrix"
    for path, (old, new) in found.items():
        path.write_bytes(files[path].replace(old, new))


class Judge:
    """The gate alone, without what is around it in a command: fast enough for many changes of one file."""

    def __init__(self, artifact: Artifact, tiny: ModelFolder) -> None:
        self.artifact = artifact
        self.source = pipeline.open_source(str(tiny.path), None)
        self.graph = pipeline.GraphRuntime(pipeline._graphs(self.source, artifact.recipe))
        self.cases = pipeline._cases(self.source, artifact.entry_points, probability=False)

    def __call__(self, program: Path) -> None:
        judge(
            open_runtime(self.artifact.target, program, self.artifact.entry_points),
            self.source.model,
            self.source.folder.config,
            self.cases,
            self.artifact.limits,
            self.source.held_out,
            graph=self.graph,
        )


def matrices(model: Ranker, precision: str) -> dict[str, Matrix]:
    """What a file of a precision stores of some weights."""
    assert isinstance(model, CoCorrRec)
    table, output = model.item_embedding.weight, model.scn.ttt.o_proj.weight
    if precision == "fp32":
        return {"table": table.detach().numpy(), "output": output.detach().numpy()}
    quantized = Int8Table(table)
    return {
        "table": quantized.quantized.numpy(),
        "scales": quantized.scale.values.numpy(),
        "output": Int8Projection(output).quantized.numpy(),
    }


TARGETS = ("executorch", "tflite", "onnx", "coreml")


@pytest.fixture(scope="module")
def judge_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Judge]:
    """The gate of the tiny model's export to a target in a precision, each made once."""
    made = {("executorch", "fp32"): "scn_fp32", ("executorch", "int8"): "scn_int8"}
    made |= {("tflite", "int8"): "tflite_int8", ("onnx", "int8"): "onnx_int8"}
    tiny: ModelFolder = request.getfixturevalue("tiny")

    @functools.cache
    def judge_of(target: str, precision: str) -> Judge:
        if target == "coreml":
            exports: CoreMLExports = request.getfixturevalue("coreml_exports")
            return Judge(exports.artifact(precision), exports.model)
        if (target, precision) in made:
            return Judge(request.getfixturevalue(made[target, precision]), tiny)
        recipe = choose_recipe("scn", target, precision=precision)
        source = pipeline.open_source(str(tiny.path), None)
        return Judge(pipeline.export(source, recipe, tmp_path_factory.mktemp("dist")), tiny)

    return judge_of


def blocked(judge: Judge, folder: Path, name: str, change: Change, seed: int) -> None:
    """Change a matrix of a copy of the program; the gate must refuse it, and name each row."""
    precision = judge.artifact.manifest["precision"]
    content = matrices(judge.source.model, precision)[name]
    changed = content.copy()
    rows = change(changed, np.random.default_rng(seed))
    program = folder / judge.artifact.program.name
    copy = shutil.copytree if judge.artifact.program.is_dir() else shutil.copy
    copy(judge.artifact.program, program)  # type: ignore[operator]
    change_content(program, content, changed)
    with pytest.raises(ParityError, match="does not compute") as raised:
        judge(program)
    said = str(raised.value)
    if name != "output":
        named = said.partition("rows of the item table that are others: ")[2].partition("\n")[0].split(", ")
        assert {str(row) for row in rows} <= set(named), said


ROW_CHANGES = (replace_row, swap_rows, halve_row)


@pytest.mark.parametrize("target", ["executorch", "tflite", "onnx"])
def test_single_rows(target: str, judge_of: Callable[[str, str], Judge], tmp_path: Path) -> None:
    """One row replaced, two swapped, one with half its scale: refused, and the rows named."""
    judge = judge_of(target, "int8")
    for seed, change in enumerate(ROW_CHANGES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        blocked(judge, folder, "scales" if change is halve_row else "table", change, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("change", CHANGES, ids=[x.__name__ for x in CHANGES])
@pytest.mark.parametrize("name", ["table", "output"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("target", TARGETS)
def test_matrices(
    target: str,
    precision: str,
    name: str,
    change: Change,
    seed: int,
    judge_of: Callable[[str, str], Judge],
    tmp_path: Path,
) -> None:
    blocked(judge_of(target, precision), tmp_path, name, change, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("change", [replace_row, halve_row, swap_rows], ids=["replace", "halve", "swap"])
@pytest.mark.parametrize("target", TARGETS)
def test_scales_of_rows(
    target: str, change: Change, seed: int, judge_of: Callable[[str, str], Judge], tmp_path: Path
) -> None:
    blocked(judge_of(target, "int8"), tmp_path, "scales", change, seed)
