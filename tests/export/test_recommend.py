"""``recommend``: the best of the whole catalog, against all scores sorted."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cocorrrec_export.artifact.recipe import Recipe, load_recipe, shipped_recipe
from cocorrrec_export.contract import ID_RULE, RECOMMEND
from cocorrrec_export.errors import CocorrrecError, ParityError, UsageError
from cocorrrec_export.export import pipeline
from cocorrrec_export.export.flops import entry_flops
from cocorrrec_export.export.graphs import GraphSpec, scn_graphs
from cocorrrec_export.forms import catalog
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.resources import RECIPES_DIR
from cocorrrec_export.runtime.open import open_runtime
from tests.models import model_folder, random_ranker

RECIPE = shipped_recipe("executorch-xnnpack-fp32")
DOT: dict[str, Any] = {"item_side": "dot", "readout": "residual"}
K = 7


def graph_of(config: ModelConfig, recipe: Recipe = RECIPE, count: int = K) -> GraphSpec:
    asked = dataclasses.replace(recipe, shipped=True).with_recommend(count)
    graphs = {graph.name: graph for graph in scn_graphs(random_ranker(config), config, asked)}
    return graphs[RECOMMEND]


def histories(config: ModelConfig) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    length = config.sequence_length
    rows = torch.randint(1, config.vocab_size, (length + 2, length), generator=generator)
    rows[-1] = rows[-1, 0]  # one item, clicked again and again
    return rows * (torch.arange(length) < torch.tensor([*range(length + 1), length])[:, None])


@pytest.mark.parametrize(
    "options",
    [
        {},
        DOT,
        DOT | {"architecture": "sasrec"},
        {"architecture": "bert4rec"},  # with a bias for each item
        {"architecture": "gru4rec"},
        {"architecture": "mamba4rec"},
    ],
    ids=str,
)
@torch.no_grad()
def test_it_is_the_sorted_catalog_without_the_history(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "BLOCK", 13)  # the last of five blocks has 7 items
    options = {key: value for key, value in options.items() if "architecture" not in options or key == "architecture"}
    config = ModelConfig(vocab_size=60, **options)
    graph, model = graph_of(config), random_ranker(config)
    every = torch.arange(60)
    for ids in histories(config):
        items, scores = graph.module(ids[None].int())
        assert (items.dtype, items.shape, scores.shape) == (torch.int32, (1, K), (1, K))
        logits = model(ids[None], every[None], corrected=False)[0]
        allowed = sorted(set(range(1, 60)) - set(ids.tolist()), key=lambda item: -float(logits[item]))
        assert items[0].tolist() == allowed[:K]
        torch.testing.assert_close(scores[0], logits[allowed[:K]], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4", "pq16", "pq8"])
@pytest.mark.parametrize("options", [{}, DOT], ids=["mlp", "dot"])
@torch.no_grad()
def test_in_every_precision_it_sorts_what_rank_scores(options: dict[str, Any], precision: str) -> None:
    config = ModelConfig(vocab_size=60, **options)
    recipe = dataclasses.replace(shipped_recipe(f"tflite-xnnpack-{precision}"), candidates=59)
    recipe = dataclasses.replace(recipe, entry_points=("rank",)).with_recommend(K)
    rank, best = scn_graphs(random_ranker(config), config, recipe)
    for ids in histories(config)[::3]:
        scores = rank.module(ids[None].int(), torch.arange(1, 60)[None].int())[0][0]
        scores[ids[ids != 0] - 1] = -torch.inf
        items, own = best.module(ids[None].int())
        expected = scores.topk(K).values
        torch.testing.assert_close(own[0], expected, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(scores[items[0].long() - 1], expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8", "pq16"])
def test_a_block_waits_for_the_one_before_it(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a backend may look all blocks up before it scores one, and hold a table of float32."""
    monkeypatch.setattr(catalog, "BLOCK", 13)
    recipe = shipped_recipe(f"executorch-xnnpack-{precision}")
    graph = graph_of(ModelConfig(vocab_size=60, **DOT), recipe)
    before: dict[Any, set[Any]] = {}
    blocks_ahead: Counter[int] = Counter()
    for node in torch.export.export(graph.module, graph.example).graph.nodes:
        inputs = node.all_input_nodes
        before[node] = set(inputs).union(*(before[x] for x in inputs))
        if node.target is torch.ops.aten.index_select.default:
            blocks_ahead[sum(x.target is torch.ops.aten.lt.Scalar for x in before[node])] += 1
    # Those of the clicks are next to those of the first block; one more takes the best items out of the candidates.
    assert set(blocks_ahead) == {0, 1, 2, 3, 4}
    assert blocks_ahead[1] == blocks_ahead[2] == blocks_ahead[3]
    assert blocks_ahead[4] == blocks_ahead[3] + 1


@torch.no_grad()
def test_probabilities() -> None:
    config = ModelConfig(vocab_size=60)
    ids = histories(config)[5][None].int()
    items, logits = graph_of(config).module(ids)
    same, scores = graph_of(config, dataclasses.replace(RECIPE, scores="probability")).module(ids)
    assert torch.equal(items, same)
    torch.testing.assert_close(scores, torch.sigmoid(logits))


def test_a_recipe_asks_for_it_by_a_number(tmp_path: Path) -> None:
    text = (RECIPES_DIR / "onnx-cpu-int8.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("[shapes]", "[shapes]\nrecommend = 12"))
    recipe = load_recipe(path)
    assert (recipe.recommend, recipe.entry_points[-1]) == (12, RECOMMEND)
    assert recipe.as_table()["shapes"] == {"candidates": 100, "recommend": 12}
    assert recipe.with_recommend(None) is recipe
    none = recipe.with_recommend(0)
    assert (none.recommend, RECOMMEND in none.entry_points) == (0, False)
    assert none.as_table()["shapes"] == {"candidates": 100}
    path.write_text(text.replace("[shapes]", "[shapes]\nrecommend = 1001"))
    with pytest.raises(UsageError, match=r"shapes\.recommend must be 0 to 1000, got 1001"):
        load_recipe(path)


def test_what_cannot_be_recommended_is_refused() -> None:
    with pytest.raises(UsageError, match=r"shapes\.recommend is 50, but of 59 items 10 may be .* at most 49"):
        graph_of(ModelConfig(vocab_size=60), count=50)
    assert graph_of(ModelConfig(vocab_size=60), count=49)
    with pytest.raises(UsageError, match="din does not have the entry point recommend"):
        graph_of(ModelConfig(vocab_size=60, architecture="din"))


def test_flops_grow_with_the_catalog() -> None:
    recipe = dataclasses.replace(RECIPE, entry_points=("rank",)).with_recommend(K)

    def products(vocab_size: int) -> int:
        (cost,) = [x for x in entry_flops(ModelConfig(vocab_size=vocab_size, **DOT), recipe) if x.name == RECOMMEND]
        return cost.call.products

    assert products(100_001) - products(1001) == 99_000 * 2 * 64


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("target", ["coreml", "onnx", "tflite", "executorch"])
def test_every_target_exports_it_and_parity_holds(target: str, precision: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", users=False, **DOT, vocab_size=300)
    recipe = shipped_recipe(
        {
            "executorch": "executorch-xnnpack",
            "tflite": "tflite-xnnpack",
            "onnx": "onnx-cpu",
            "coreml": "coreml-mlprogram",
        }[target]
        + f"-{precision}"
    )
    asked = dataclasses.replace(recipe, entry_points=("rank",)).with_recommend(20)
    artifact = pipeline.export(pipeline.open_source(str(folder.path), None), asked, tmp_path)
    tensors = artifact.manifest["parity"]["tensors"]
    assert tensors["recommend_overlap"] >= recipe.limits.recommend_overlap > 0.5
    if precision == "fp32":
        assert tensors["recommend_order"] == 1.0
    runtime = open_runtime(artifact.target, artifact.program, artifact.entry_points)
    ids = np.array([[7, 299, 3, 0, 0, 0, 0, 0, 0, 0]], dtype=np.int32)
    outputs = runtime.run(RECOMMEND, {"ids": ids})
    assert outputs["items"].shape == outputs["scores"].shape == (1, 20)
    assert not {0, 3, 7, 299} & set(outputs["items"][0].tolist())
    with pytest.raises(CocorrrecError, match=rf"recommend: ids holds 300 at \[0, 1\]: {ID_RULE}"):
        runtime.run(RECOMMEND, {"ids": np.where(ids == 299, 300, ids).astype(np.int32)})


@pytest.mark.slow
def test_a_file_that_recommends_the_history_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "OUT", 0.0)
    folder = model_folder(tmp_path / "model", **DOT)
    asked = dataclasses.replace(shipped_recipe("onnx-cpu-fp32"), entry_points=("rank",)).with_recommend(20)
    with pytest.raises(ParityError, match="which is of the history"):
        pipeline.export(pipeline.open_source(str(folder.path), None), asked, tmp_path)
    assert not list(tmp_path.glob("scn-*"))
