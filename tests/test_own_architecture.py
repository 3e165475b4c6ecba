"""The example of an architecture from outside the package: found by its entry points, exported, held to parity."""

import dataclasses
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cocorrrec_export import plugins
from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.errors import UsageError
from cocorrrec_export.export import pipeline
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.store import save_model
from tests.conftest import ROOT
from tests.models import random_ranker, random_users

EXAMPLE = ROOT / "examples" / "own_architecture"
NAME = "fading_memory"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelConfig]:
    """The example as pip leaves it: its module, and a folder that lists its entry points."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in rows.items()) for group, rows in groups]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    plugins._found.cache_clear()
    yield ModelConfig(vocab_size=60, architecture=NAME, sequence_length=7)
    plugins._found.cache_clear()


def test_it_is_unknown_before_it_is_installed() -> None:
    with pytest.raises(UsageError, match=f"unknown architecture '{NAME}'"):
        ModelConfig(vocab_size=60, architecture=NAME)


@torch.no_grad()
def test_streaming_and_training_positions_are_the_plain_model(installed: ModelConfig) -> None:
    model = random_ranker(installed)
    ids = torch.randint(1, 60, (3, 7), generator=torch.Generator().manual_seed(1))
    state, rows = model.start_stream(3), model.states(ids, model.item_embedding(ids))
    for place in range(7):
        state, user = model.step(ids[:, place], state)
        torch.testing.assert_close(user, model.user_state(ids[:, : place + 1]))
        torch.testing.assert_close(user, rows[:, place])


@pytest.mark.parametrize(("target", "precision"), [("tflite", "int8")])
def test_it_exports_and_passes_parity(tmp_path: Path, installed: ModelConfig, target: str, precision: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    saved = save_model(folder, random_ranker(installed), installed, name="mine")
    random_users(installed).save(saved.evaluation_path)
    recipe = choose_recipe("scn", target, precision=precision)
    wide = dataclasses.replace(
        recipe.limits, max_abs=1.0, max_rel=0.1, top10_overlap=0.5, metrics_abs=0.3, ndcg10_rel=0.7
    )
    artifact = pipeline.export(
        pipeline.open_source(str(folder), None), dataclasses.replace(recipe, limits=wide), tmp_path
    )
    assert artifact.path.name == f"{NAME}-{target}-{precision}"
    assert [entry.name for entry in artifact.entry_points] == ["rank", "step", "score"]
    parity = artifact.manifest["parity"]
    assert parity["verdict"] == "pass" and parity["tensors"]["max_rel"] < 0.02
