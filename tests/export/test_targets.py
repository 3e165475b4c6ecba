"""What every target promises, held to the exported files."""

import copy
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cocorrrec_export.artifact.inspect import inspect
from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.artifact.recipe import Recipe, choose_recipe, shipped_recipes
from cocorrrec_export.contract import new_stream
from cocorrrec_export.errors import CocorrrecError, ParityError
from cocorrrec_export.export import onnx, pipeline
from cocorrrec_export.export.graphs import GraphSpec
from cocorrrec_export.forms.weights import CODEBOOKS
from cocorrrec_export.modeling.store import ModelFolder, load_model
from cocorrrec_export.runtime.base import score_list
from cocorrrec_export.runtime.open import describe, open_runtime
from tests.models import model_folder


def test_the_facts_stand_inside_the_files_too(phone_int8: Artifact, gcn_fp32: Artifact, tiny: ModelFolder) -> None:
    facts = describe(phone_int8.target, phone_int8.program)
    expected = {
        "kind": "scn",
        "precision": "int8",
        "model_name": "tiny",
        "model_sha256": tiny.sha256,
        "toolkit_version": phone_int8.manifest["toolkit_version"],
        "vocab_size": 60,
        "sequence_length": 10,
        "candidates": 100,
        "item_side": "computed",
        "entry_points": "encode,rank,rank_corrected,step,score",
    }
    assert expected.items() <= facts.metadata.items()
    assert {entry.name: entry for entry in facts.entry_points} == {x.name: x for x in phone_int8.entry_points}
    inside = describe("onnx", gcn_fp32.program)
    assert inside.metadata["model_sha256"] == tiny.sha256
    assert inside.entry_points == gcn_fp32.entry_points


def test_sizes_by_part(phone_int8: Artifact) -> None:
    parts = inspect(phone_int8.path).parts
    assert parts["table"] == 60 * 66  # a byte a feature, two of the scale
    assert 8192 < parts["item_side"] < 8192 + 1200  # two int8 projections, their scales and biases
    assert sum(parts.values()) == phone_int8.bytes
    assert parts["graph"] > 0


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("scn_fp32", 1e-5), ("scn_int8", 0.05), ("tflite_int8", 0.05), ("onnx_int8", 0.05)]
)
def test_streaming_through_the_file(
    kind: str, tolerance: float, request: pytest.FixtureRequest, tiny: ModelFolder
) -> None:
    artifact = request.getfixturevalue(kind)
    model = load_model(tiny)
    runtime = open_runtime(artifact.target, artifact.program, artifact.entry_points)
    state = new_stream(runtime.entry_points["step"])
    items = torch.randint(1, 60, (1, 35), generator=torch.Generator().manual_seed(3))
    for item in items[0]:
        outputs = runtime.run("step", {"item": np.array([item], dtype=np.int32)} | state)
        state = {name: outputs[f"{name}_next"] for name in state}
    candidates = torch.arange(1, 60)
    scores = score_list(runtime, "score", {"user": outputs["user"]}, candidates.numpy())
    expected = model(items, candidates[None], corrected=False)[0].detach()
    np.testing.assert_allclose(scores, expected.numpy(), atol=tolerance)


@pytest.mark.parametrize("item", [60, -1, 2**31 - 1, -(2**31)])
def test_an_item_outside_the_vocabulary_is_an_error_and_not_a_crash(phone_int8: Artifact, item: int) -> None:
    runtime = open_runtime(phone_int8.target, phone_int8.program, phone_int8.entry_points)
    ids = np.ones((1, 10), dtype=np.int32)
    good = runtime.run("encode", {"ids": ids})["H"]
    bad = ids.copy()
    bad[0, 3] = item
    with pytest.raises(CocorrrecError, match=rf"encode: ids holds {item} at \[0, 3\]: item ids are 1 to"):
        runtime.run("encode", {"ids": bad})
    np.testing.assert_array_equal(runtime.run("encode", {"ids": ids})["H"], good)


def test_no_path_of_this_machine_is_inside(phone_int8: Artifact, gcn_fp32: Artifact) -> None:
    root = str(Path(__file__).resolve().parents[2]).encode()
    for artifact in (phone_int8, gcn_fp32):
        for path in artifact.path.rglob("*"):
            data = path.read_bytes() if path.is_file() else b""
            assert root not in data and b"cocorrrec_export/" not in data, path


def test_two_exports_are_the_same_bytes(tmp_path: Path, tflite_int8: Artifact, tiny: ModelFolder) -> None:
    again = pipeline.export(
        pipeline.open_source(str(tiny.path), None), choose_recipe("scn", "tflite", precision="int8"), tmp_path
    )
    assert again.manifest["files"] == tflite_int8.manifest["files"]


TARGETS = ("executorch", "tflite", "coreml", "onnx")
SHIPPED = [
    *((target, precision, "computed") for target in TARGETS for precision in ("pq16", "pq8")),
    *((target, "int8", "folded") for target in TARGETS),
    # The shipped models and the baselines are exported by the other recipes on every target; here each is taken once.
    *zip(TARGETS, ("fp32", "int8", "fp16", "int4"), ["computed"] * 4, strict=True),
]


def test_the_shipped_recipes_are_those_that_the_tests_export() -> None:
    """A recipe that is added belongs in one of their lists."""
    shipped = {(recipe.target, recipe.precision) for recipe in shipped_recipes() if recipe.kind == "scn"}
    assert shipped == set(itertools.product(TARGETS, ("fp32", "fp16", "int8", "int4", "pq16", "pq8")))


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision", "item_side"), SHIPPED)
def test_shipped_recipes_export(tiny: ModelFolder, tmp_path: Path, target: str, precision: str, item_side: str) -> None:
    recipe = choose_recipe("scn", target, precision=precision)
    # A random model of 60 items ranks by differences that fewer bits do not keep; the loss is judged on trained ones.
    wide = dataclasses.replace(recipe.limits, top10_overlap=0.5, metrics_abs=0.2, ndcg10_rel=0.5)
    limits = recipe.limits if recipe.precision == "fp32" else wide
    recipe = dataclasses.replace(recipe, item_side=item_side, limits=limits)  # type: ignore[arg-type]
    artifact = pipeline.export(pipeline.open_source(str(tiny.path), None), recipe, tmp_path)
    facts = inspect(artifact.path)
    bytes_a_row = {"fp32": 256, "fp16": 128, "int8": 66, "int4": 34, "pq16": 17, "pq8": 8}[recipe.precision]
    size = 60 * bytes_a_row
    if recipe.precision.startswith("pq"):
        number = 2 if target == "coreml" else 4  # Core ML computes in fp16 below fp32
        books = CODEBOOKS[recipe.embedding]
        size += 256 * 64 + (64 * 64 + books) * number  # codebooks, rotation, where each codebook starts
    assert facts.parts["table"] == size
    if item_side == "folded":
        assert facts.parts["item_side"] == 60 * bytes_a_row
    assert artifact.manifest["recipe"]["item_side"] == facts.facts.metadata["item_side"] == item_side


def test_a_failing_file_names_its_hop(tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter that writes another model: the export graph and the traced program are right, the file is not."""
    right = onnx.export

    def wrong(graphs: list[GraphSpec], recipe: Recipe, program: Path, **options: object) -> dict[str, int]:
        modules = copy.deepcopy([graph.module for graph in graphs])
        modules[0].device.ln_weight.mul_(1.5)
        changed = [dataclasses.replace(graph, module=x) for graph, x in zip(graphs, modules, strict=True)]
        return right(changed, recipe, program, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(onnx, "export", wrong)
    with pytest.raises(ParityError, match="the exported file in onnxruntime"):
        pipeline.export(pipeline.open_source(str(tiny.path), None), choose_recipe("scn", "onnx"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_trace_names_its_hop(tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace that is wrong for every converter."""
    traced = torch.export.export

    def wrong(module: torch.nn.Module, *args: object, **options: object) -> object:
        module = copy.deepcopy(module)
        module.device.ln_weight.mul_(1.5)  # type: ignore[union-attr, operator]
        return traced(module, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.export, "export", wrong)
    with pytest.raises(ParityError, match="the traced program, before conversion,"):
        pipeline.export(pipeline.open_source(str(tiny.path), None), choose_recipe("scn", "onnx"), tmp_path)


def test_the_verdict_of_each_file_is_repeated_by_parity(phone_int8: Artifact, tiny: ModelFolder) -> None:
    verdict = pipeline.check(phone_int8.path, model=str(tiny.path), data=None)
    assert verdict.as_dict() == json.loads((phone_int8.path / "manifest.json").read_text())["parity"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "length"), [("executorch", 25), ("executorch", 15), ("tflite", 25), ("onnx", 25), ("coreml", 25)]
)
def test_several_mini_batches(tmp_path: Path, target: str, length: int) -> None:
    folder = model_folder(tmp_path / "model", sequence_length=length)
    entry_points = ("rank", "rank_corrected")
    recipe = dataclasses.replace(choose_recipe("scn", target), entry_points=entry_points, candidates=20)
    artifact = pipeline.export(pipeline.open_source(str(folder.path), None), recipe, tmp_path / "dist")
    assert artifact.manifest["parity"]["tensors"]["max_abs"] < 1e-4


@pytest.mark.slow
def test_an_entry_point_that_scores_nothing_exports_alone(tmp_path: Path, tiny: ModelFolder) -> None:
    recipe = dataclasses.replace(choose_recipe("scn", "tflite", precision="int8"), entry_points=("step",))
    artifact = pipeline.export(pipeline.open_source(str(tiny.path), None), recipe, tmp_path)
    assert [entry.name for entry in artifact.entry_points] == ["step"]
