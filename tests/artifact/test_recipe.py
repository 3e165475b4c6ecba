"""Recipes: every shipped one loads, and a wrong one says all that is wrong."""

from pathlib import Path

import pytest

from cocorrrec_export.artifact import recipe as recipes
from cocorrrec_export.artifact.recipe import (
    Recipe,
    choose_recipe,
    load_recipe,
    shipped_recipe,
    shipped_recipes,
)
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.resources import RECIPES_DIR
from cocorrrec_export.targets import TARGETS
from cocorrrec_export.toml import read_toml

INT8 = RECIPES_DIR / "executorch-xnnpack-int8.toml"


def test_every_file_of_the_folder_is_a_recipe_under_its_own_name() -> None:
    assert [recipe.file_name for recipe in shipped_recipes()] == sorted(path.name for path in RECIPES_DIR.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ('target = "executorch"', 'targt = "executorch"', ["missing key 'target'", "did you mean 'target'"]),
        ("candidates = 100", "candidates = 0", ["shapes.candidates must be 1 to 10000, got 0"]),
        ("candidates = 100", "candidates = true", ["shapes.candidates must be a whole number, got True"]),
        ("candidates = 100", "candidate = 100\nx = 1", ["missing key 'shapes.candidates'", "unknown key 'shapes.x'"]),
        ('linear = "int8-channel"', 'linear = "int9"', ["weights.linear: unknown value 'int9'", "int8-channel"]),
        ('"step", "score"', '"stp", "score"', ["unknown entry point 'stp'", "did you mean 'step'"]),
        ('embedding = "int8-row"', 'embedding = "fp32"', ["precision 'int8' means weights.embedding 'int8-row'"]),
        ("max_rel = 0.05", 'max_rel = "low"', ["parity.max_rel must be a number"]),
        ("max_rel = 0.05", "max_rel = nan", ["parity.max_rel must be 0 to 1"]),
        ('backend = "xnnpack"', 'backend = "vulkan"', ["unknown value 'vulkan'"]),
    ],
)
def test_everything_that_is_wrong_is_said(tmp_path: Path, old: str, new: str, messages: list[str]) -> None:
    text = INT8.read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(UsageError) as raised:
        load_recipe(path)
    for message in messages:
        assert message in str(raised.value)


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(INT8.read_text().replace("candidates = 100", "candidates = 20"))
    assert choose_recipe("scn", "executorch", recipe_file=path).candidates == 20
    with pytest.raises(UsageError, match="give one of them"):
        choose_recipe("scn", "executorch", recipe_file=path, precision="int8")
    with pytest.raises(UsageError, match="not for the gcn on onnx"):
        choose_recipe("gcn", "onnx", recipe_file=path)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="did you mean 'executorch'"):
        choose_recipe("scn", "executorc")
    with pytest.raises(UsageError, match=r"in 'int5' \(did you mean 'int8'\? known: fp16, fp32, int4, int8, pq16, pq8"):
        choose_recipe("scn", "executorch", precision="int5")
    with pytest.raises(UsageError, match="did you mean 'executorch-xnnpack-int8'"):
        shipped_recipe("executorch-xnnpack-int9")


def test_nothing_is_promised_without_a_recipe() -> None:
    assert {(recipe.kind, recipe.target) for recipe in shipped_recipes()} == {
        (kind, row.name) for row in TARGETS.values() for kind in row.programs
    }


@pytest.mark.parametrize("recipe", shipped_recipes(), ids=lambda recipe: recipe.name)
def test_the_manifest_has_the_layout_of_the_file(recipe: Recipe) -> None:
    assert recipe.as_table() == {"name": recipe.name} | read_toml(RECIPES_DIR / recipe.file_name)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = INT8.read_text()
    for old, new in (
        ('backend = "xnnpack"', 'backend = "xnpack"'),
        ('precision = "int8"', "precison = 'int8'"),
        ("candidates = 100", "candidates = 0"),
        ("max_abs = 0.5", 'max_abs = "small"'),
        ('activations = "fp32"', "activations = 32"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError) as raised:
        load_recipe(tmp_path / "mine.toml")
    for part in (
        "mine.toml: ",
        "backend: unknown value 'xnpack' (did you mean 'xnnpack'?",
        "missing key 'precision'",
        "unknown key 'precison' (did you mean 'precision'?",
        "shapes.candidates must be 1 to 10000, got 0",
        "parity.max_abs must be a number, got 'small'",
        "weights.activations must be a string, got 32",
    ):
        assert part in str(raised.value)


def test_keys_of_the_phone_mean_nothing_for_the_cloud(tmp_path: Path) -> None:
    text = (RECIPES_DIR / "gcn-onnx-cpu-fp32.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("[weights]", '[shapes]\ncandidates = 5\n[weights]\nembedding = "fp32"'))
    with pytest.raises(UsageError) as raised:
        load_recipe(path)
    for key in ("shapes", "weights.embedding"):
        assert f"key '{key}' has no meaning in a GCN recipe" in str(raised.value)
    path.write_text('weights = "int8"\n' + text.split("[weights]")[0])
    with pytest.raises(UsageError, match="'weights' must be a table, got 'int8'"):
        load_recipe(path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"kind = ", b"[" * 2000, b"x" * (1 << 20) + b"y"])
def test_files_that_are_no_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.toml").write_bytes(content)
    with pytest.raises(CocorrrecError, match=r"broken\.toml"):
        load_recipe(tmp_path / "broken.toml")


def test_a_truncated_recipe_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = INT8.read_text()
    path = tmp_path / "cut.toml"
    for length in range(0, whole.index("ndcg10_rel"), 7):
        path.write_text(whole[:length])
        with pytest.raises(CocorrrecError, match=r"cut\.toml"):
            load_recipe(path)


def test_a_shipped_file_under_a_wrong_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "executorch-xnnpack-fp32.toml").write_text(INT8.read_text())
    monkeypatch.setattr(recipes, "RECIPES_DIR", tmp_path)
    with pytest.raises(UsageError, match=r"content is that of executorch-xnnpack-int8\.toml"):
        shipped_recipes()
