"""A wrong row of the item table is named, whichever entry points a file has, and in each of its tables."""

import copy
import dataclasses
from typing import Any

import pytest
import torch

from cocorrrec_export.artifact.recipe import shipped_recipe
from cocorrrec_export.errors import ParityError
from cocorrrec_export.export.graphs import GraphSpec, fit_recipe, gcn_graph, scn_graphs
from cocorrrec_export.export.pipeline import GraphRuntime
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.parity.cases import gcn_cases, scn_cases
from cocorrrec_export.parity.verdict import judge
from tests.models import random_ranker, random_users

KERNEL = {"mini_batch": 3, "sequence_length": 7}
VECTOR = {"mini_batch": 2, "sequence_length": 9, "correction": "vector", "cloud_length": 9}
GRU = {"architecture": "gru4rec", "sequence_length": 7}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "rank": (VECTOR, {"entry_points": ("rank",)}, "table", "int8-row"),
    "score": (VECTOR, {"entry_points": ("user", "score")}, "table", "int8-row"),
    "encode": (KERNEL, {"entry_points": ("encode",)}, "table", "int4-row"),
    "rank_corrected": (KERNEL, {"entry_points": ("encode", "rank_corrected")}, "table", "fp32"),
    "rank_with_vector": (VECTOR, {"entry_points": ("rank_corrected",)}, "table", "fp16"),
    "step_and_score": (GRU, {"entry_points": ("step", "score")}, "table", "int8-row"),
    "step": (GRU, {"entry_points": ("step",)}, "table", "fp32"),
    "user": (VECTOR, {"entry_points": ("user",)}, "table", "int8-row"),
    "recommend": (VECTOR, {"entry_points": ("recommend",), "recommend": 5}, "table", "fp32"),
    "folded_clicks": (VECTOR, {"entry_points": ("rank",), "item_side": "folded"}, "table", "int8-row"),
    "folded_clicks_uploaded": (
        KERNEL,
        {"entry_points": ("rank", "encode"), "item_side": "folded"},
        "table",
        "int4-row",
    ),
    "folded_candidates": (GRU, {"entry_points": ("rank",), "item_side": "folded"}, "item_table", "int4-row"),
    "folded_stream": (GRU, {"entry_points": ("step", "score"), "item_side": "folded"}, "table", "fp16"),
}
PRECISIONS = {"int8-row": "int8", "int4-row": "int4"}


def change(graphs: list[GraphSpec], table: str, row: int) -> None:
    """Put other values, as the table has them, into a row."""
    module = getattr(graphs[0].module.device, table)
    name, values = max(module.named_buffers(), key=lambda x: x[1].numel())
    other = values.clone()
    other[row] = other[1:].reshape(-1)[torch.randperm(other[1:].numel(), generator=torch.Generator().manual_seed(4))][
        : other.shape[1]
    ]
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, other)


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_row_is_named(name: str) -> None:
    options, chosen, table, embedding = CASES[name]
    config = ModelConfig(vocab_size=131, hidden_size=32, **options)
    model, users = random_ranker(config, seed=5), random_users(config, negatives=20)
    recipe = shipped_recipe("onnx-cpu-fp32")
    wide = dataclasses.replace(
        recipe.limits, max_abs=9, max_rel=9, top10_overlap=0, metrics_abs=1, ndcg10_rel=9, ties=1
    )
    recipe = dataclasses.replace(
        recipe,
        precision=PRECISIONS.get(embedding, embedding),
        embedding=embedding,
        candidates=13,
        limits=wide,
        **chosen,
    )
    recipe = fit_recipe(dataclasses.replace(recipe, shipped=False), config)
    right, file = scn_graphs(model, config, recipe), scn_graphs(model, config, recipe)
    entry_points = {graph.name: graph.contract for graph in right}
    cases = scn_cases(model, config, entry_points, users)

    def judged() -> None:
        two_tables = recipe.item_side == "folded"
        runtime, graph = GraphRuntime(file), GraphRuntime(right)
        judge(runtime, model, config, cases, wide, users, graph=graph, two_tables=two_tables)

    judged()
    row = 77
    change(file, table, row)
    with pytest.raises(ParityError, match="row") as raised:
        judged()
    assert f"rows of the item table that are others: {row}\n" in f"{raised.value}\n", raised.value


def test_a_wrong_row_of_the_cloud_is_named() -> None:
    config = ModelConfig(vocab_size=1500, hidden_size=32, correction="vector", cloud_length=17, cloud_networks=2)
    model, users = random_ranker(config, seed=5), random_users(config)
    limits = shipped_recipe("gcn-onnx-cpu-fp32").limits
    cases, graph = gcn_cases(model, config, users), GraphRuntime([gcn_graph(model, config)])
    judge(graph, model, config, cases, limits, users, graph=graph)
    seen = {int(item) for case in cases for item in case.inputs["ids"].reshape(-1)}
    row = next(item for item in range(1, config.vocab_size) if item not in seen)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.item_embedding.weight[row] = other.item_embedding.weight[row + 1]
    file = GraphRuntime([gcn_graph(other, config)])
    with pytest.raises(ParityError, match=f"row {row} of the item table: correct of it as a click") as raised:
        judge(file, model, config, cases, limits, users, graph=graph)
    assert f"rows of the item table that are others: {row}\n" in f"{raised.value}\n"
