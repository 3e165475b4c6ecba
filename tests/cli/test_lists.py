"""``recipes`` and ``models``."""

import json
from pathlib import Path

import pytest

from cocorrrec_export.artifact.recipe import load_recipe
from cocorrrec_export.modeling import store
from cocorrrec_export.resources import RECIPES_DIR
from tests.commands import Cli
from tests.models import model_folder, random_model


def test_recipes(cli: Cli) -> None:
    rows = json.loads(cli("recipes", "--json").stdout)
    assert [row["name"] for row in rows] == sorted(path.stem for path in RECIPES_DIR.iterdir())
    table = cli("recipes").stdout
    for row in rows:
        assert row["name"] in table


def test_a_shown_recipe_is_a_recipe(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(cli("recipes", "show", "executorch-xnnpack-int8").stdout)
    assert load_recipe(path).precision == "int8"


def test_models(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MODELS_DIR", tmp_path)
    assert json.loads(cli("models", "--json").stdout) == []
    folder = model_folder(tmp_path / "tiny")
    (row,) = json.loads(cli("models", "--json").stdout)
    assert row["name"] == "tiny"
    assert row["items"] == 59
    assert row["sha256"] == folder.sha256
    assert row["held_out_users"] is True
    assert row["bytes"] == folder.weights_path.stat().st_size
    assert row["parameters"] == sum(p.numel() for p in random_model().parameters())
    table = cli("models").stdout
    assert all(cell in table for cell in ("tiny", "cocorrrec", f"{row['parameters']:,}", "shipped"))
