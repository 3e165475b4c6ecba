"""Item ids next to an export: an app's ids to the program's numbers, and back."""

import dataclasses
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export.artifact.items import ItemIds, open_items, read_item_file, score_items
from cocorrrec_export.artifact.manifest import Artifact, open_artifact
from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.export import pipeline
from cocorrrec_export.runtime.base import score_list
from cocorrrec_export.runtime.open import open_runtime
from tests.commands import Cli
from tests.models import model_folder

IDS = [f"sku-{number:03}" for number in range(1, 60)]


def item_file(path: Path, rows: list[str], header: str = "id,item,title") -> Path:
    path.write_bytes(gzip.compress("\n".join([header, *rows, ""]).encode()))
    return path


@pytest.fixture(scope="module")
def with_items(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An export of a model that has item ids, one of them without a title."""
    root = tmp_path_factory.mktemp("items")
    folder = model_folder(root / "model")
    rows = [f"{number},{item},{'' if number == 7 else f'Film {number}'}" for number, item in enumerate(IDS, start=1)]
    item_file(folder.items_path, rows)
    recipe = dataclasses.replace(choose_recipe("scn", "onnx"), entry_points=("rank",))
    return pipeline.export(pipeline.open_source(str(folder.path), None), recipe, root / "dist")


def test_scores_by_item_id_are_those_by_number(with_items: Artifact) -> None:
    artifact = open_artifact(with_items.path)
    items, runtime = open_items(artifact), open_runtime("onnx", artifact.program, artifact.entry_points)
    history = items.history(["sku-003", "withdrawn", "sku-009"], 10)
    np.testing.assert_array_equal(history, [[3, 9, 0, 0, 0, 0, 0, 0, 0, 0]])
    scores = score_items(runtime, "rank", {"ids": history}, items, ["sku-059", "sku-001", "sku-030"])
    expected = score_list(runtime, "rank", {"ids": history}, np.array([59, 1, 30]))
    assert list(scores) == ["sku-059", "sku-001", "sku-030"]
    np.testing.assert_array_equal(list(scores.values()), expected)


def test_an_unknown_candidate_is_named(with_items: Artifact) -> None:
    with pytest.raises(UsageError, match="does not know 2 of 3 items: sku-060, other"):
        open_items(with_items).numbers(["sku-060", "sku-001", "other"])


def test_a_long_history_keeps_its_last_clicks() -> None:
    np.testing.assert_array_equal(ItemIds(["a", "b", "c"]).history(["a", "x", "b", "c", "a"], 3), [[2, 3, 1]])


def test_inspect_items(cli: Cli, with_items: Artifact) -> None:
    found = json.loads(cli("inspect", with_items.path, "--items", "--json").stdout)
    assert found["file"] == "items.csv.gz" and found["order"] == "id" and len(found["items"]) == 59
    assert found["items"][6] == {"id": 7, "item": "sku-007", "title": "sku-007"}
    assert found["items"][7] == {"id": 8, "item": "sku-008", "title": "Film 8"}
    shown = cli("inspect", with_items.path, "--items").stdout
    assert "sku-059" in shown and "Film 59" in shown


def test_an_export_without_items_says_so(with_items: Artifact) -> None:
    manifest = {key: value for key, value in with_items.manifest.items() if key != "items"}
    with pytest.raises(UsageError, match="has no item ids: the model that it was made from came without them"):
        open_items(dataclasses.replace(with_items, manifest=manifest))


def test_items_are_vouched_for(with_items: Artifact, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(with_items.path, copy)
    item_file(copy / "items.csv.gz", ["1,other,Other"])
    with pytest.raises(CocorrrecError, match=r"items\.csv\.gz"):
        open_artifact(copy)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["1,a,A", "3,c,C"], "id,item,title", "row 2 is 3, c, C, expected id 2"),
        (["1,a", "2,a"], "id,item", "names an item twice"),
        (["1,a"], "item,id", "its columns are item, id"),
        (["1"], "id,item", "row 1 is"),
    ],
)
def test_damaged_lists(tmp_path: Path, rows: list[str], header: str, message: str) -> None:
    with pytest.raises(CocorrrecError, match=message):
        read_item_file(item_file(tmp_path / "items.csv.gz", rows, header))


def test_a_truncated_list(tmp_path: Path) -> None:
    path = item_file(tmp_path / "items.csv.gz", [f"{n},item-{n},x" for n in range(1, 500)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CocorrrecError, match="not a list of items"):
        read_item_file(path)
