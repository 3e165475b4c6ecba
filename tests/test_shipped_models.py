"""The shipped models, exported to every target: as small as promised, and still ranking the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.artifact.recipe import choose_recipe, expected_bytes
from cocorrrec_export.export import pipeline
from cocorrrec_export.modeling.build import ARCHITECTURES
from cocorrrec_export.modeling.store import find_model, load_model, open_model
from cocorrrec_export.runtime.base import score_list
from cocorrrec_export.runtime.open import open_runtime
from tests.conftest import ROOT, SHARED, need

PRECISIONS = {
    "cocorrrec-movielens": ("fp32", "fp16", "int8", "int4"),
    "cocorrrec-beauty": ("fp32", "int8"),  # the other two were measured once, and cost minutes
}
NDCG_LOSS = {"fp32": 0.0, "fp16": 0.001, "int8": 0.005}
SHARE_OF_FP32 = {"int8": 0.30, "int4": 0.18}


def source_of(name: str) -> pipeline.Source:
    data = need(SHARED / "data" / "beauty.inter.csv.gz") if name.endswith("beauty") else None
    return pipeline.open_source(name, data)


def least_cosine(artifact: Artifact, source: pipeline.Source, users: int = 100) -> float:
    runtime = open_runtime(artifact.target, artifact.program, artifact.entry_points)
    held_out = source.held_out
    assert held_out is not None
    ids, candidates = held_out.histories[:users], held_out.candidates[:users]
    with torch.no_grad():
        expected = source.model(ids, candidates, corrected=False).detach().numpy()
    rows = zip(ids.int().numpy(), candidates.numpy(), strict=True)
    actual = np.stack([score_list(runtime, "rank", {"ids": row[None]}, items) for row, items in rows])
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    return float(((expected * actual).sum(1) / norms).min())


@pytest.mark.parametrize("card", sorted((ROOT / "models").glob("*/README.md")), ids=lambda card: card.parent.name)
def test_a_card_says_under_what_terms_the_model_is_passed_on(card: Path) -> None:
    _, heading, terms = card.read_text(encoding="utf-8").partition("\n## License")
    assert heading and ("MovieLens" if "movielens" in card.parent.name else "Amazon") in terms


@pytest.mark.parametrize("name", ["sasrec-movielens", "bert4rec-movielens"])
def test_no_row_of_a_table_of_positions_goes_unread(name: str) -> None:
    folder = open_model(find_model(name))
    assert len(load_model(folder).get_parameter("position_embedding.weight")) == folder.config.sequence_length


@pytest.mark.slow
@pytest.mark.parametrize("target", ["executorch", "tflite", "onnx"])
@pytest.mark.parametrize("name", PRECISIONS)
def test_every_precision_is_small_and_ranks_the_same(name: str, target: str, tmp_path: Path) -> None:
    """Core ML has a test of its own."""
    source = source_of(name)
    sizes = {}
    for precision in PRECISIONS[name]:
        recipe = choose_recipe("scn", target, precision=precision)
        artifact = pipeline.export(source, recipe, tmp_path)
        sizes[precision] = artifact.bytes
        assert artifact.bytes == pytest.approx(expected_bytes(recipe, source.folder.config), rel=0.05)
        assert artifact.bytes <= SHARE_OF_FP32.get(precision, 1.0) * sizes["fp32"]
        ranking = artifact.manifest["parity"]["ranking"]
        for way in ("metrics", "metrics_corrected"):
            if precision == "fp32":
                for pair in ranking[way].values():
                    assert round(pair["eager"], 4) == round(pair["artifact"], 4)
            if precision in NDCG_LOSS:
                ndcg = ranking[way]["ndcg@10"]
                assert abs(ndcg["artifact"] - ndcg["eager"]) <= NDCG_LOSS[precision] * ndcg["eager"] + 5e-5
        if precision == "int8":
            assert least_cosine(artifact, source) >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("name", PRECISIONS)
def test_the_gcn(name: str, tmp_path: Path) -> None:
    source, recipe = source_of(name), choose_recipe("gcn", "onnx")
    gcn = pipeline.export(source, recipe, tmp_path)
    assert gcn.manifest["parity"]["tensors"]["max_rel"] <= 1e-4
    assert gcn.bytes == pytest.approx(expected_bytes(recipe, source.folder.config), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "cocorrrec"])
def test_a_baseline_exports_without_a_model_named(architecture: str, tmp_path: Path) -> None:
    source = pipeline.open_source(None, None, architecture=architecture)
    artifact = pipeline.export(source, choose_recipe("scn", "executorch", precision="int8"), tmp_path)
    ndcg = artifact.manifest["parity"]["ranking"]["metrics"]["ndcg@10"]
    assert abs(ndcg["artifact"] - ndcg["eager"]) <= NDCG_LOSS["int8"] * ndcg["eager"]
    assert least_cosine(artifact, source) >= 0.999
