"""The baselines: device forms against plain models, and exported files against both."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cocorrrec_export.artifact.inspect import inspect
from cocorrrec_export.artifact.manifest import Artifact, newest_artifact
from cocorrrec_export.artifact.recipe import Recipe, choose_recipe, load_recipe
from cocorrrec_export.contract import RECOMMEND, new_stream
from cocorrrec_export.errors import UsageError
from cocorrrec_export.export import pipeline
from cocorrrec_export.export.graphs import (
    FORMS,
    Rank,
    Score,
    Step,
    fit_recipe,
    gcn_graph,
    scn_contracts,
    scn_graphs,
)
from cocorrrec_export.forms.frame import DeviceRanker, Storage
from cocorrrec_export.forms.transformer import DeviceTransformer
from cocorrrec_export.modeling.config import Architecture, ModelConfig
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.store import load_model
from cocorrrec_export.resources import RECIPES_DIR
from tests.models import CONFIG, model_folder, random_ranker

BASELINES: list[Architecture] = [name for name in FORMS if name != "cocorrrec"]
STREAMING: list[Architecture] = ["gru4rec", "mamba4rec"]
WITH_ITEM_SIDE = ("din", "gru4rec", "sasrec")


def config_of(architecture: Architecture, **options: Any) -> ModelConfig:
    return dataclasses.replace(CONFIG, architecture=architecture, **options)


def device_of(model: Ranker, config: ModelConfig, **storage: str) -> DeviceRanker:
    length = config.sequence_length
    return FORMS[config.architecture].device(model, sequence_length=length, storage=Storage(**storage))


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 10, 23])
@pytest.mark.parametrize("architecture", BASELINES)
@torch.no_grad()
def test_device_form_equals_the_plain_model(architecture: Architecture, length: int) -> None:
    config = config_of(architecture, sequence_length=length)
    model = random_ranker(config)
    generator = torch.Generator().manual_seed(0)
    for item_side in ("computed", "folded") if architecture in WITH_ITEM_SIDE else ("computed",):
        device = device_of(model, config, item_side=item_side)
        for clicks in range(length + 1):
            ids = torch.randint(1, 60, (1, length), generator=generator) * (torch.arange(length) < clicks)
            candidates = torch.randint(0, 60, (1, 9), generator=generator)
            expected = model(ids, candidates)
            close(Rank(device)(ids.int(), candidates.int())[0], expected)
            if architecture in STREAMING:
                close(Score(device)(model.user_state(ids), candidates.int())[0], expected)


@pytest.mark.parametrize("precision", ["pq16", "pq8"])
@pytest.mark.parametrize("architecture", FORMS)
@torch.no_grad()
def test_a_coded_table_scores_as_its_rows_do(architecture: Architecture, precision: str) -> None:
    """Wherever the rotation has gone, into the item side or the user, the scores are those of the rotated rows."""
    config = config_of(architecture)
    model = random_ranker(config)
    device = device_of(model, config, embedding=precision)
    model.item_embedding.weight.copy_(device.table(torch.arange(60, dtype=torch.int32)))
    generator = torch.Generator().manual_seed(0)
    ids, candidates = (torch.randint(1, 60, (1, n), generator=generator) for n in (10, 9))
    expected = model(ids, candidates, corrected=False)
    close(Rank(device)(ids.int(), candidates.int())[0], expected)
    if architecture in (*STREAMING, "cocorrrec"):
        user = model.user_state(ids, corrected=False)
        close(Score(device)(user, candidates.int())[0], expected)


@pytest.mark.parametrize("architecture", STREAMING)
@torch.no_grad()
def test_step_equals_the_plain_step_and_reading_all(architecture: Architecture) -> None:
    config = config_of(architecture)
    model = random_ranker(config)
    step = Step(device_of(model, config))
    state, plain = (
        tuple(map(torch.from_numpy, new_stream(scn_contracts(config, candidates=1)["step"]).values())),
        model.start_stream(1),
    )
    items = torch.randint(1, 60, (35, 1), generator=torch.Generator().manual_seed(0))
    for item in items:
        *state, user = step(item.int(), *state)
        plain, expected = model.step(item, plain)
        close(user, expected)
        for ours, theirs in zip(state, plain, strict=True):
            close(ours, theirs)
    close(user, model.user_state(items.T))


HEADS: dict[Architecture, dict[str, Any]] = {
    "gru4rec": {"item_side": "dot", "readout": "residual"},
    "sasrec": {"item_side": "dot", "readout": "residual"},
    "bert4rec": {"attention": "causal"},
}


@pytest.mark.parametrize("architecture", HEADS)
@torch.no_grad()
def test_the_options_of_the_better_recipe(architecture: Architecture) -> None:
    config = dataclasses.replace(config_of(architecture), **HEADS[architecture])
    model = random_ranker(config)
    device, length = device_of(model, config), config.sequence_length
    generator = torch.Generator().manual_seed(0)
    for clicks in range(length + 1):
        ids = torch.randint(1, 60, (1, length), generator=generator) * (torch.arange(length) < clicks)
        candidates = torch.randint(0, 60, (1, 9), generator=generator)
        close(Rank(device)(ids.int(), candidates.int())[0], model(ids, candidates))
    state = model.states(ids, model.item_embedding(ids))[:, -1]
    close(state, model.user_state(ids))
    if architecture in STREAMING:
        step, stream = Step(device), tuple(x.float() for x in model.start_stream(1))
        for item in ids[0]:
            *stream, user = step(item.int()[None], *stream)
        close(user, model.user_state(ids))


@torch.no_grad()
def test_mamba_with_large_steps_stays_finite() -> None:
    """Exponents of clicks after the last one would be positive, were they not left out."""
    config = config_of("mamba4rec", sequence_length=20)
    model = random_ranker(config)
    for name, parameter in model.named_parameters():
        if name.endswith("dt_proj.bias"):
            parameter.fill_(60.0)
    device = device_of(model, config)
    for clicks in (0, 1, 7, 20):
        ids = torch.arange(1, 21)[None] * (torch.arange(20) < clicks)
        candidates = torch.arange(60)[None]
        close(Rank(device)(ids.int(), candidates.int())[0], model(ids, candidates))


def test_only_the_positions_that_are_read_are_kept() -> None:
    config = config_of("sasrec")
    model = random_ranker(config)
    for length in (3, 10, 70):  # the last one is longer than the table: to be measured alone
        device = device_of(model, dataclasses.replace(config, sequence_length=length))
        assert isinstance(device, DeviceTransformer) and device.positions.shape == (length, 64)
    assert not device.positions[60:].any() and device.positions[:60].any()


@pytest.mark.parametrize("architecture", BASELINES)
def test_contracts_and_examples_agree(architecture: Architecture) -> None:
    config = config_of(architecture)
    graphs = scn_graphs(random_ranker(config), config, choose_recipe("scn", "executorch"))
    assert [graph.name for graph in graphs] == list(scn_contracts(config, candidates=100))
    for graph in graphs:
        assert [tuple(x.shape) for x in graph.example] == [spec.shape for spec in graph.contract.inputs]
        outputs = graph.module(*graph.example)
        assert [tuple(x.shape) for x in outputs] == [spec.shape for spec in graph.contract.outputs]
        assert [str(x.dtype) for x in outputs] == [f"torch.{spec.dtype}" for spec in graph.contract.outputs]


def test_entry_points_of_each_architecture() -> None:
    assert {name: " ".join(scn_contracts(config_of(name), candidates=1)) for name in FORMS} == {
        "cocorrrec": "encode rank rank_corrected step score",
        "din": "rank",
        "gru4rec": "rank step score",
        "sasrec": "rank",
        "bert4rec": "rank",
        "mamba4rec": "rank step score",
    }


def test_a_recipe_of_ones_own_must_ask_for_what_there_is() -> None:
    own = load_recipe(RECIPES_DIR / "executorch-xnnpack-fp32.toml")
    with pytest.raises(
        UsageError,
        match=r"gru4rec does not have the entry point encode, user, rank_corrected: it has rank, step, score",
    ):
        fit_recipe(own, config_of("gru4rec"))
    assert fit_recipe(dataclasses.replace(own, entry_points=("rank",)), config_of("din")).entry_points == ("rank",)
    assert fit_recipe(choose_recipe("scn", "onnx"), config_of("gru4rec")).entry_points == ("rank", "step", "score")
    with pytest.raises(UsageError, match="din does not have the entry point step"):
        fit_recipe(dataclasses.replace(choose_recipe("scn", "onnx"), entry_points=("step",)), config_of("din"))


@pytest.mark.parametrize("architecture", sorted(set(BASELINES) - set(WITH_ITEM_SIDE)))
def test_nothing_to_fold(architecture: Architecture) -> None:
    config = config_of(architecture)
    with pytest.raises(UsageError, match="scores with the item's own row, so use 'computed'"):
        device_of(random_ranker(config), config, item_side="folded")


def test_no_cloud_half() -> None:
    config = config_of("sasrec")
    with pytest.raises(UsageError, match="sasrec has no cloud half"):
        gcn_graph(random_ranker(config), config)


def wide(recipe: Recipe) -> Recipe:
    """A random model of 60 items ranks by differences that fewer bits do not keep."""
    if recipe.precision == "fp32":
        return recipe
    twice = {name: 2 * getattr(recipe.limits, name) for name in ("max_abs", "max_rel")}
    limits = dataclasses.replace(recipe.limits, **twice, top10_overlap=0.3, metrics_abs=0.3, ndcg10_rel=0.7)
    return dataclasses.replace(recipe, limits=limits)


def export(folder: Path, architecture: Architecture, target: str, precision: str, **options: Any) -> Artifact:
    model = model_folder(folder / "model", architecture=architecture, **options)
    recipe = wide(choose_recipe("scn", target, precision=precision))
    return pipeline.export(pipeline.open_source(str(model.path), None), recipe, folder / "dist")


def held_to_its_contract(artifact: Artifact, architecture: Architecture) -> None:
    """What an export of a baseline has in common with every other."""
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    assert artifact.path.name == f"{architecture}-{artifact.target}-{manifest['precision']}"
    assert (manifest["kind"], manifest["model"]["architecture"]) == ("scn", architecture)
    model = load_model(model_folder_of(artifact))
    assert manifest["model"]["parameters"] == sum(x.numel() for x in model.parameters())
    facts = inspect(artifact.path)
    shipped = [name for name in FORMS[architecture].entry_points if name != RECOMMEND]
    assert facts.facts.metadata["entry_points"] == ",".join(shipped)
    assert facts.parts["table"] == 60 * {"fp32": 256, "fp16": 128, "int8": 66, "int4": 34}[manifest["precision"]]
    assert sum(facts.parts.values()) == artifact.bytes and facts.parts["graph"] > 0
    assert set(manifest["parity"]["ranking"]["metrics"]) and manifest["parity"]["ranking"]["metrics_corrected"] is None


def model_folder_of(artifact: Artifact) -> Any:
    from cocorrrec_export.modeling.store import open_model

    return open_model(artifact.path.parents[1] / "model")


DEFAULT: list[tuple[Architecture, str, str]] = [("din", "executorch", "int8"), ("gru4rec", "tflite", "int8")]


@pytest.mark.parametrize(("architecture", "target", "precision"), DEFAULT)
def test_a_baseline_exports(tmp_path: Path, architecture: Architecture, target: str, precision: str) -> None:
    artifact = export(tmp_path, architecture, target, precision, sequence_length=3)
    held_to_its_contract(artifact, architecture)
    assert newest_artifact(tmp_path / "dist") == artifact.path
    assert newest_artifact(tmp_path / "dist", architecture=architecture) == artifact.path
    verdict = pipeline.check(
        artifact.path,
        model=str(tmp_path / "model"),
        data=None,
        architecture=architecture,
        limits=wide(choose_recipe("scn", target, precision=precision)).limits,
    )
    assert verdict.as_dict() == artifact.manifest["parity"]
    with pytest.raises(UsageError, match=f"is an export of {architecture}, not of sasrec"):
        pipeline.check(artifact.path, model=None, data=None, architecture="sasrec")


TARGETS = ("executorch", "tflite", "coreml", "onnx")
PRECISIONS = ("int8", "fp32", "fp16", "int4")
EVERYWHERE = [
    (architecture, target, PRECISIONS[(row + column) % len(PRECISIONS)])
    for row, architecture in enumerate(BASELINES)
    for column, target in enumerate(TARGETS)
]
"""Each architecture on each target, in the next precision each time: every two of the three meet."""


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "target", "precision"), [case for case in EVERYWHERE if case not in DEFAULT])
def test_every_baseline_exports_everywhere(
    tmp_path: Path, architecture: Architecture, target: str, precision: str
) -> None:
    held_to_its_contract(export(tmp_path, architecture, target, precision, sequence_length=3), architecture)
