"""Pages that benchmarks fill in, and the pictures that they draw."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT, script


def test_pages_that_benchmarks_write_have_their_words_in_docs() -> None:
    pages = script("pages", "benchmarks")
    for name in ("targets", "readers", "profiler_benchmark", "serving_benchmark", "architectures", "scale"):
        text = (ROOT / "docs" / f"{name}.md").read_text()
        found = {match["name"]: match["text"].strip("\n").splitlines() for match in pages.BLOCK.finditer(text)}
        assert found and pages.filled(text, found) == text, name
    for name in ("targets", "readers", "profiler", "serving", "architectures", "scale"):
        text = (ROOT / "benchmarks" / f"{name}.py").read_text()
        assert "pages.fill(" in text and not re.search(r'^\s+"#+ ', text, re.M), f"{name}.py has a page's heading"


def test_a_page_is_filled_in_between_its_marks(tmp_path: Path) -> None:
    pages = script("pages", "benchmarks")
    path = tmp_path / "page.md"
    path.write_text("# Title\n<!-- one -->\nold\n<!-- /one -->\nwords\n")
    pages.fill(path, {"one": ["| a |", "| b |"]})
    assert path.read_text() == "# Title\n<!-- one -->\n\n| a |\n| b |\n\n<!-- /one -->\nwords\n"
    assert pages.kept(path, "one") == ["| a |", "| b |"]
    pages.fill(path, {"one": []})
    assert path.read_text() == "# Title\n<!-- one -->\n<!-- /one -->\nwords\n"
    with pytest.raises(ValueError, match="the page has the blocks one; to fill in: two"):
        pages.fill(path, {"two": []})


def test_pictures_are_drawn_for_light_and_dark(tmp_path: Path) -> None:
    pictures = script("pictures", "benchmarks")
    pictures.draw(tmp_path)
    for name in pictures.PICTURES:
        light, dark = ((tmp_path / f"{name}-{theme}.svg").read_text() for theme in ("light", "dark"))
        assert light.startswith("<?xml") and pictures.INK["light"] in light and pictures.INK["dark"] in dark
    with pytest.raises(ValueError, match=r"no '\| nothing' on the page"):
        pictures.tables("| a |\n|---|\n| 1 |\n", "| nothing")
