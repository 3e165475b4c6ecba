"""Recipes: every shipped one loads, and a wrong one says all that is wrong."""

from pathlib import Path

import pytest

from cocorrrec_export.errors import UsageError
from cocorrrec_export.export.recipes import choose_recipe, load_recipe, shipped_recipe, shipped_recipes
from cocorrrec_export.resources import RECIPES_DIR

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
    with pytest.raises(UsageError, match="there are: executorch fp32, executorch int8"):
        choose_recipe("scn", "executorch", precision="int4")
    with pytest.raises(UsageError, match="did you mean 'executorch-xnnpack-int8'"):
        shipped_recipe("executorch-xnnpack-int9")
