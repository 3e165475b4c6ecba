"""Exported files, through their own runtimes."""

import dataclasses
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from cocorrrec_export.artifact.manifest import Artifact, open_artifact, sealed
from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.errors import CocorrrecError, ParityError, UsageError
from cocorrrec_export.export import pipeline
from cocorrrec_export.modeling.store import ModelFolder, load_model
from cocorrrec_export.resources import MANIFEST_SCHEMA
from cocorrrec_export.runtime.base import score_list
from cocorrrec_export.runtime.onnx import OnnxRuntime
from cocorrrec_export.runtime.open import open_runtime
from tests.models import model_folder


def test_fp32_scores_are_the_float32_models(scn_fp32: Artifact) -> None:
    tensors = scn_fp32.manifest["parity"]["tensors"]
    assert tensors["max_rel"] <= 1e-4
    assert tensors["top10_overlap"] == 1.0
    for metrics in ("metrics", "metrics_corrected"):
        for pair in scn_fp32.manifest["parity"]["ranking"][metrics].values():
            assert round(pair["eager"], 4) == round(pair["artifact"], 4)


def test_gcn_corrections_are_the_float32_models(gcn_fp32: Artifact, tiny: ModelFolder) -> None:
    assert gcn_fp32.manifest["parity"]["tensors"]["max_rel"] <= 1e-4
    model = load_model(tiny)
    runtime = OnnxRuntime(gcn_fp32.program, gcn_fp32.entry_points)
    for users in (1, 3, 300):
        ids = torch.randint(0, 60, (users, 10), generator=torch.Generator().manual_seed(users))
        H = model.scn.encode(ids.sort(dim=1, descending=True).values).detach()
        outputs = runtime.run("correct", {"H": H.numpy()})
        for name, expected in model.gcn(H)._asdict().items():  # type: ignore[misc, operator]
            np.testing.assert_allclose(outputs[name], expected.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_any_number_of_candidates(scn_int8: Artifact, count: int) -> None:
    runtime = open_runtime("executorch", scn_int8.program, scn_int8.entry_points)
    ids = np.arange(1, 11, dtype=np.int32)[None]
    items = np.arange(count) % 59 + 1
    scores = score_list(runtime, "rank", {"ids": ids}, items)
    assert scores.shape == (count,)
    np.testing.assert_array_equal(scores, score_list(runtime, "rank", {"ids": ids}, np.arange(1, 60))[items - 1])


@pytest.mark.parametrize(
    ("entry_point", "inputs", "message"),
    [
        ("ranks", {}, "no entry point 'ranks': this file has encode, rank"),
        ("encode", {}, "missing input ids"),
        ("encode", {"ids": np.zeros((1, 9), np.int32)}, r"ids is int32 \[1, 9\], expected int32 \[1, 10\]"),
        ("encode", {"ids": np.zeros((1, 10), np.int64)}, "ids is int64"),
        ("encode", {"ids": np.zeros(10, np.int32)}, r"ids is int32 \[10\]"),
        ("encode", {"ids": np.zeros((1, 10), np.int32), "x": np.zeros(1)}, "unexpected input x"),
    ],
)
def test_inputs_that_do_not_fit(
    scn_fp32: Artifact, entry_point: str, inputs: dict[str, np.ndarray], message: str
) -> None:
    runtime = open_runtime("executorch", scn_fp32.program, scn_fp32.entry_points)
    with pytest.raises(CocorrrecError, match=message):
        runtime.run(entry_point, inputs)


def test_manifest_is_what_the_published_schema_says(scn_fp32: Artifact, scn_int8: Artifact, gcn_fp32: Artifact) -> None:
    schema = json.loads(MANIFEST_SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for artifact in (scn_fp32, scn_int8, gcn_fp32):
        jsonschema.validate(json.loads((artifact.path / "manifest.json").read_text()), schema)
        assert open_artifact(artifact.path).manifest == artifact.manifest


def test_planned_memory_of_each_entry_point(scn_fp32: Artifact) -> None:
    from executorch.exir._serialize._program import deserialize_pte_binary

    plans = deserialize_pte_binary(scn_fp32.program.read_bytes()).program.execution_plan
    planned = {plan.name: sum(plan.non_const_buffer_sizes) for plan in plans if not plan.name.startswith("meta_")}
    assert planned == scn_fp32.manifest["memory"]["planned_bytes"]
    assert planned.keys() == {entry.name for entry in scn_fp32.entry_points}
    assert all(size > 0 for size in planned.values())


def test_check_repeats_the_verdict(scn_int8: Artifact, tiny: ModelFolder) -> None:
    verdict = pipeline.check(scn_int8.path, model=str(tiny.path), data=None)
    assert verdict.as_dict() == scn_int8.manifest["parity"]


def test_check_refuses_another_model(scn_int8: Artifact, tmp_path: Path) -> None:
    other = model_folder(tmp_path / "other", vocab_size=61)
    with pytest.raises(UsageError, match="give the right one with --model"):
        pipeline.check(scn_int8.path, model=str(other.path), data=None)


def test_check_finds_a_file_that_computes_something_else(
    scn_fp32: Artifact, scn_int8: Artifact, tiny: ModelFolder, tmp_path: Path
) -> None:
    """The int8 program under the float32 manifest, hashes made to match: only running it can tell."""
    forged = tmp_path / "forged"
    shutil.copytree(scn_fp32.path, forged)
    shutil.copy(scn_int8.program, forged / "scn.pte")
    manifest = json.loads((forged / "manifest.json").read_text())
    program = next(file for file in manifest["files"] if file["path"] == "scn.pte")
    program |= {key: value for key, value in scn_int8.manifest["files"][0].items() if key != "path"}
    (forged / "manifest.json").write_text(json.dumps(sealed(manifest)))
    with pytest.raises(ParityError, match=r"exported file.* does not compute[\s\S]*SQNR .* limits: max"):
        pipeline.check(forged, model=str(tiny.path), data=None)


def test_a_failing_export_is_not_published(tiny: ModelFolder, tmp_path: Path) -> None:
    recipe = choose_recipe("scn", "executorch", precision="int8")
    strict = dataclasses.replace(recipe, limits=dataclasses.replace(recipe.limits, max_rel=1e-9))
    with pytest.raises(ParityError, match="export graph, before export"):
        pipeline.export(pipeline.open_source(str(tiny.path), None), strict, tmp_path / "dist")
    assert not (tmp_path / "dist").exists() or not any((tmp_path / "dist").iterdir())


def test_a_model_without_held_out_users_says_so(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", users=False)
    artifact = pipeline.export(
        pipeline.open_source(str(folder.path), None), choose_recipe("gcn", "onnx"), tmp_path / "dist"
    )
    ranking = artifact.manifest["parity"]["ranking"]
    assert ranking["metrics"] is ranking["metrics_corrected"] is None
    assert "--data" in ranking["reason"]
