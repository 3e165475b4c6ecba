"""What is inside a ``.mlpackage``: one file, the weights once, in their precision, and it ranks the same."""

import json
import shutil
from collections import Counter
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from cocorrrec_export.artifact.manifest import open_artifact
from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.contract import POSITION
from cocorrrec_export.errors import ParityError
from cocorrrec_export.export import coreml, pipeline
from cocorrrec_export.export.graphs import GraphSpec, scn_contracts, scn_graphs
from cocorrrec_export.modeling.store import load_model
from cocorrrec_export.parity.verdict import stream_parity
from cocorrrec_export.resources import MANIFEST_SCHEMA
from cocorrrec_export.runtime.coreml import describe
from cocorrrec_export.runtime.mlpackage import Package, open_package, tensor_type
from cocorrrec_export.runtime.seal import check_seal
from tests.conftest import ROOT
from tests.coreml import MODEL, WEIGHTS, CoreMLExports, change_model, operations, recipe
from tests.exports import rehash
from tests.models import CONFIG, random_model

KINDS = [
    ("fp32", "computed"),
    ("fp16", "computed"),
    ("int8", "computed"),
    ("int4", "computed"),
    ("int8", "folded"),
]
kinds = pytest.mark.parametrize(("precision", "item_side"), KINDS)
ARITHMETIC = {"linear", "matmul", "mul", "add", "sub", "tanh", "sigmoid", "gather"}


@kinds
@torch.no_grad()
def test_the_file_computes_the_device_form(coreml_exports: CoreMLExports, precision: str, item_side: str) -> None:
    """Every entry point, on histories of every length and streams at every position."""
    runtime = coreml_exports.runtime(precision, item_side)
    generator = torch.Generator().manual_seed(0)
    tolerance = 1e-6 if precision == "fp32" else 5e-3
    for graph in coreml_exports.graphs(precision, item_side):
        for case in range(CONFIG.sequence_length + 1):
            inputs = []
            for spec in graph.contract.inputs:
                shape = tuple(map(int, spec.shape))
                if spec.name == POSITION:
                    inputs.append(torch.full(shape, case - 1, dtype=torch.int32))
                elif spec.dtype == "int32":
                    ids = torch.randint(1, CONFIG.vocab_size, shape, generator=generator, dtype=torch.int32)
                    inputs.append(torch.where(torch.arange(shape[-1]) < case, ids, 0) if spec.name == "ids" else ids)
                else:
                    inputs.append(torch.randn(shape, generator=generator))
            if graph.name == "step" and case == 0:
                inputs[1:5] = [torch.zeros_like(x) for x in inputs[1:5]]
            names = [spec.name for spec in graph.contract.inputs]
            outputs = runtime.run(graph.name, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
            for spec, expected in zip(graph.contract.outputs, graph.module(*inputs), strict=True):
                largest = max(float(expected.abs().max()), 1e-3)
                np.testing.assert_allclose(
                    outputs[spec.name] / largest, expected.numpy() / largest, atol=tolerance, err_msg=graph.name
                )


@kinds
def test_the_verdict(coreml_exports: CoreMLExports, precision: str, item_side: str) -> None:
    artifact = coreml_exports.artifact(precision, item_side)
    assert open_artifact(artifact.path).manifest == artifact.manifest
    jsonschema.validate(artifact.manifest, json.loads(MANIFEST_SCHEMA.read_text()))
    assert artifact.manifest["backends"].keys() == {"torch", "coremltools"}
    parity = artifact.manifest["parity"]
    assert parity["executed_by"].startswith(("mil-numpy ", "coreml "))
    if precision == "fp32":
        assert parity["tensors"]["max_rel"] <= 1e-5
    if precision == "fp16":
        assert parity["tensors"]["max_rel"] <= 1e-2
    assert artifact.bytes == sum(x.stat().st_size for x in artifact.program.rglob("*") if x.is_file())


def test_streaming_through_the_file(coreml_exports: CoreMLExports) -> None:
    """35 clicks through ``step``, then ``score``, against the float32 model's dual form."""
    stream = stream_parity(coreml_exports.runtime("fp32"), load_model(coreml_exports.model), CONFIG, None)
    assert stream.max_rel <= 1e-5


@kinds
def test_names_dtypes_and_shapes_are_the_contracts(
    coreml_exports: CoreMLExports, precision: str, item_side: str
) -> None:
    package = open_package(coreml_exports.artifact(precision, item_side).program)
    contracts = scn_contracts(CONFIG, candidates=100)
    asked = recipe(precision, item_side).entry_points
    assert package.entry_points() == {name: contracts[name] for name in asked if name in contracts}
    assert package.model.description.defaultFunctionName == "rank"
    assert package.model.specificationVersion == 9  # iOS 18, macOS 15
    for name, function in package.functions.items():
        # The program says what the description says.
        declared = [(x.name, *tensor_type(x.type)) for x in function.inputs]
        assert declared == [(x.name, x.dtype, x.shape) for x in contracts[name].inputs]
        block = function.block_specializations[function.opset]
        assert list(block.outputs) == [x.name for x in contracts[name].outputs]


def test_the_facts_stand_inside_the_file(coreml_exports: CoreMLExports) -> None:
    artifact = coreml_exports.artifact("int8")
    assert (
        open_package(artifact.program).metadata.items()
        >= {
            "kind": "scn",
            "precision": "int8",
            "model_name": "tiny",
            "model_sha256": coreml_exports.model.sha256,
            "toolkit_version": artifact.manifest["toolkit_version"],
            "vocab_size": "60",
            "sequence_length": "10",
            "candidates": "100",
            "entry_points": "encode,rank,rank_corrected,step,score",
        }.items()
    )
    assert check_seal(artifact.program, describe(artifact.program).metadata)


def test_weights_are_stored_once_and_in_their_precision(coreml_exports: CoreMLExports) -> None:
    parameters = sum(x.numel() for x in load_model(coreml_exports.model).scn.parameters())
    table = CONFIG.vocab_size * CONFIG.hidden_size
    bytes_of = {}
    for precision, item_side in KINDS:
        package = open_package(coreml_exports.artifact(precision, item_side).program)
        bytes_of[precision, item_side] = package.weight_bytes()
    # Rotary tables, masks and constant rows come on top; a second copy of any projection would be 16 KiB, 8 in float16
    # and 4 in int8.
    extra = 5500
    assert sum(bytes_of["fp32", "computed"].values()) < 4 * (parameters + extra)
    assert sum(bytes_of["fp16", "computed"].values()) < 2 * (parameters + extra)
    assert sum(bytes_of["int8", "computed"].values()) < parameters + 4 * extra
    assert bytes_of["fp32", "computed"]["table"] == 4 * table
    assert bytes_of["fp16", "computed"]["table_values"] == 2 * table
    for item_side, tables in (("computed", ["table"]), ("folded", ["table", "item_table"])):
        for name in tables:
            assert bytes_of["int8", item_side][f"{name}_quantized"] == table
            assert bytes_of["int8", item_side][f"{name}_scale_values"] == 2 * CONFIG.vocab_size
    assert bytes_of["int4", "computed"]["table_packed"] == table // 2
    assert bytes_of["int4", "computed"]["table_scale_values"] == 2 * CONFIG.vocab_size


def dtypes_of(package: Package) -> Counter[tuple[str, str]]:
    """How often each operator gives each dtype."""
    return Counter(
        (operation.type, tensor_type(operation.outputs[0].type)[0])
        for function in package.functions
        for operation in operations(package, function)
    )


def test_what_is_computed_in_which_precision(coreml_exports: CoreMLExports) -> None:
    whole = dtypes_of(open_package(coreml_exports.artifact("fp32").program))
    assert not any(dtype == "float16" for _, dtype in whole)
    for precision in ("fp16", "int8", "int4"):
        half = dtypes_of(open_package(coreml_exports.artifact(precision).program))
        assert {kind for kind, dtype in half if dtype == "float32"} <= {
            *("const", "cast", "linear", "mul", "add", "rsqrt", "sqrt", "real_div")
        }
        # The squares, their means, and the divisors.
        roots = sum(half[kind, "float32"] for kind in ("rsqrt", "sqrt"))
        assert half["linear", "float32"] == half["mul", "float32"] == roots
        assert half["add", "float32"] <= half["real_div", "float32"]  # a layer norm adds within the mean
        in_half = sum(half[kind, "float16"] for kind in ARITHMETIC)
        assert in_half > 4 * sum(half[kind, "float32"] for kind in ARITHMETIC)


def test_padding_needs_no_subnormal_number(coreml_exports: CoreMLExports) -> None:
    """The Neural Engine takes subnormal float16 numbers for zero: no value of 1e-6 may be one."""
    package = open_package(coreml_exports.artifact("fp16").program)
    for function in package.functions:
        for operation in operations(package, function):
            value = operation.attributes["val"] if operation.type == "const" else None
            if value is not None and tensor_type(value.type)[0] == "float16" and value.HasField("immediateValue"):
                numbers = np.abs(np.frombuffer(value.immediateValue.tensor.bytes.values, np.float16))
                assert ((numbers == 0) | (numbers >= np.finfo(np.float16).tiny)).all(), operation.outputs[0].name


def test_no_path_of_this_machine_is_in_the_package(coreml_exports: CoreMLExports) -> None:
    for path in coreml_exports.artifact("int8").program.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for word in (str(ROOT), str(coreml_exports.folder), "site-packages", ".py"):
                assert word.encode() not in content, (path.name, word)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        graphs = one_graph("int8")
        path = tmp_path / name / "scn.mlpackage"
        path.parent.mkdir()
        coreml.export(graphs, choose_recipe("scn", "coreml", precision="fp16"), path, metadata={"kind": "scn"})
        contents.append({x.relative_to(path): x.read_bytes() for x in path.rglob("*") if x.is_file()})
        assert [x.name for x in path.parent.iterdir()] == ["scn.mlpackage"]
    assert contents[0] == contents[1]


def one_graph(precision: str) -> list[GraphSpec]:
    """The smallest: ``score``."""
    return scn_graphs(random_model(), CONFIG, recipe(precision))[-1:]


def damage_a_weight(path: Path) -> None:
    """Eight numbers of the output projection."""
    package = open_package(path)
    weight = next(x for x in operations(package, "rank") if x.outputs[0].name == "o_proj")
    offset = weight.attributes["val"].blobFileValue.offset
    file = path / WEIGHTS
    data = bytearray(file.read_bytes())
    start = int.from_bytes(data[offset + 16 : offset + 24], "little")
    data[start : start + 32] = np.full(8, 1.5, np.float32).tobytes()
    file.write_bytes(data)


def swap_an_operator(path: Path) -> None:
    """tanh of the item side becomes the sigmoid."""

    def change(package: Package) -> None:
        next(x for x in operations(package, "score") if x.type == "tanh").type = "sigmoid"

    change_model(path, change)


def change_a_constant(path: Path) -> None:
    """The divisor of the step size, 16."""

    def change(package: Package) -> None:
        (value,) = (
            x.attributes["val"].immediateValue.tensor.floats
            for x in operations(package, "rank_corrected")
            if x.type == "const" and list(x.attributes["val"].immediateValue.tensor.floats.values) == [0.0625]
        )
        value.values[0] = 0.125

    change_model(path, change)


@pytest.mark.parametrize(
    ("damage", "tensor"),
    [(damage_a_weight, r"\w+"), (swap_an_operator, "score"), (change_a_constant, "rank_corrected")],
    ids=["weight", "operator", "constant"],
)
def test_only_parity_can_see_a_file_that_computes_something_else(
    coreml_exports: CoreMLExports, tmp_path: Path, damage: object, tensor: str
) -> None:
    forged = tmp_path / "forged"
    shutil.copytree(coreml_exports.artifact("fp32").path, forged)
    damage(forged / "scn.mlpackage")  # type: ignore[operator]
    rehash(forged)
    open_artifact(forged)
    with pytest.raises(ParityError, match=rf"exported file.* does not compute[\s\S]*  {tensor}\.\w+\.\w+ \["):
        pipeline.check(forged, model=str(coreml_exports.model.path), data=None)


def test_check_repeats_the_verdict(coreml_exports: CoreMLExports) -> None:
    artifact = coreml_exports.artifact("int8")
    verdict = pipeline.check(artifact.path, model=str(coreml_exports.model.path), data=None)
    assert verdict.as_dict() == artifact.manifest["parity"]


def test_half_an_export_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cocorrrec_export.export import coreml

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(coreml, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        coreml.export(one_graph("fp32"), choose_recipe("scn", "coreml"), tmp_path / "scn.mlpackage", metadata={})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_shipped_model_is_small_and_ranks_the_same(tmp_path: Path) -> None:
    source = pipeline.open_source("cocorrrec-movielens", None)
    sizes, changes = {}, {}
    for precision in ("fp32", "fp16", "int8", "int4"):
        artifact = pipeline.export(source, choose_recipe("scn", "coreml", precision=precision), tmp_path)
        sizes[precision] = artifact.bytes
        ranking = artifact.manifest["parity"]["ranking"]
        changes[precision] = max(
            abs(pair["artifact"] - pair["eager"]) / pair["eager"]
            for pair in (ranking[way]["ndcg@10"] for way in ("metrics", "metrics_corrected"))
        )
        assert (artifact.program / MODEL).stat().st_size < 100_000
    assert sizes["fp16"] <= 0.55 * sizes["fp32"]
    assert sizes["int8"] <= 0.30 * sizes["fp32"]
    assert sizes["int4"] <= 0.18 * sizes["fp32"]
    assert changes["fp32"] <= 1e-4 and changes["fp16"] <= 0.001 and changes["int8"] <= 0.005
