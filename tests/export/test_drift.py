"""Exported files stay at the float32 model's own error over many mini-batches, judged by the model in float64."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.export.graphs import fit_recipe, scn_graphs
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.store import find_model, load_model, open_model
from cocorrrec_export.modeling.ttt import Correction
from cocorrrec_export.runtime.open import open_runtime
from cocorrrec_export.targets import find_target
from tests.forms.test_drift import VOCABULARY, history, untrained
from tests.models import random_model

TARGETS = ("executorch", "tflite", "onnx", "coreml")
CANDIDATES = 32


def trained(config: ModelConfig) -> CoCorrRec:
    """The layers of the model of the paper's recipe that ships, and its first rows, read in mini-batches of ours."""
    folder = open_model(find_model("cocorrrec-paper-movielens"))
    weights = load_model(folder).state_dict()
    model = build_model(config).eval()
    assert isinstance(model, CoCorrRec)
    own = model.state_dict()
    model.load_state_dict({name: _cut(weights[name], own[name]) for name in own})
    return model


def _cut(weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The weight where it fits, or its first rows of the table; else what the model started with."""
    if weight.shape == like.shape:
        return weight
    return weight[: len(like)] if weight.shape[1:] == like.shape[1:] and len(weight) > len(like) else like


MODELS = {"untrained": untrained, "random": random_model, "trained": trained}


@torch.no_grad()
def worst(target: str, weights: str, *, mini_batch: int, length: int, heads: int, folder: Path) -> tuple[float, float]:
    """The largest error of a score of a file over that which is allowed, and by itself.

    Allowed are 1e-5 of the largest score; where float32 itself is further off, ten times its own error.
    """
    config = ModelConfig(
        vocab_size=VOCABULARY, mini_batch=mini_batch, sequence_length=length, hidden_size=64, num_heads=heads
    )
    model = MODELS[weights](config)
    exact = copy.deepcopy(model).double()
    recipe = dataclasses.replace(
        choose_recipe("scn", target, precision="fp32"),
        candidates=CANDIDATES,
        entry_points=("rank", "rank_corrected"),
    )
    recipe = fit_recipe(recipe, config)
    graphs = scn_graphs(model, config, recipe)
    program = folder / find_target(target).programs["scn"].name
    find_exporter(target).export(graphs, recipe, program, metadata={})
    runtime = open_runtime(target, program, [graph.contract for graph in graphs])
    generator = torch.Generator().manual_seed(3)
    answer = Correction(
        torch.randn(1, heads, mini_batch, mini_batch, generator=generator),
        torch.randn(1, heads, mini_batch, config.head_dim, generator=generator),
    )
    candidates = torch.arange(1, CANDIDATES + 1)[None]
    share = largest = 0.0
    for kind in ("random", "half", "repeated"):
        ids = history(kind, length)
        inputs = {"ids": ids.int().numpy(), "candidates": candidates.int().numpy()}
        for name in ("rank", "rank_corrected"):
            given = answer if name == "rank_corrected" else None
            true, plain = (_scores(m, ids, candidates, given) for m in (exact, model))
            more = {} if given is None else {key: x.numpy() for key, x in given._asdict().items()}
            actual = torch.from_numpy(runtime.run(name, inputs | more)["scores"])
            scale = max(1.0, true.abs().max().item())
            error = (actual - true).abs().max().item() / scale
            allowed = max(1e-5, 10 * (plain - true).abs().max().item() / scale)
            share, largest = max(share, error / allowed), max(largest, error)
    return share, largest


def _scores(model: CoCorrRec, ids: torch.Tensor, candidates: torch.Tensor, given: Correction | None) -> torch.Tensor:
    weight = model.item_embedding.weight
    if given is None:
        user = model.user_state(ids, corrected=False)
    else:
        user = model.fuse(ids, type(given)(*(x.to(weight.dtype) for x in given)))
    scores: torch.Tensor = model.match(user, model.item_vectors(candidates))
    return scores


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "mini_batch", "length", "heads"),
    [("untrained", 1, 10, 32), ("random", 2, 50, 8), ("trained", 10, 50, 4), ("trained", 1, 10, 4)],
)
@pytest.mark.parametrize("target", TARGETS)
def test_no_drift_in_files(target: str, weights: str, mini_batch: int, length: int, heads: int, tmp_path: Path) -> None:
    share, _ = worst(target, weights, mini_batch=mini_batch, length=length, heads=heads, folder=tmp_path)
    assert share <= 1.0
