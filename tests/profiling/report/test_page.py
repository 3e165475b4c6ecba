"""The document, its schema, and the page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.flops import flop_curves
from cocorrrec_export.profiling.report.document import _curve, read_profile, write_profile
from cocorrrec_export.profiling.report.page import curve_rows, write_report
from cocorrrec_export.profiling.report.plots import PLOTS
from cocorrrec_export.resources import PROFILE_SCHEMA
from tests.conftest import ROOT
from tests.profiling.profiles import small_profile

VOID = {"meta", "link", "br", "path", "use", "rect", "image"}


class Page(HTMLParser):
    """Holds a page to closing what it opens, and remembers links and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.note(attrs)

    def note(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_stands_alone(tmp_path: Path) -> None:
    write_report(tmp_path, small_profile(), b"{}")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert {"profile.json", "manifest.json"} <= set(page.links)
    assert all(link in ("profile.json", "manifest.json") or link.removeprefix("#") in page.ids for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    for reference in re.findall(r"url\(#([^)]+)\)", text):
        assert reference in page.ids
    assert "<phone>" not in text and "A &lt;phone&gt;" in text
    for name, (title, _) in PLOTS.items():
        assert title in text
        for suffix in ("png", "svg"):
            assert (tmp_path / "plots" / f"{name}.{suffix}").stat().st_size > 1000
    for words in ("parity: pass on 5 test vectors", "25.0 °C before, 26.5 °C after", "100", "encode, 2 threads"):
        assert words in text


def test_the_first_screen_has_the_figures_that_one_looks_for(tmp_path: Path) -> None:
    profile = small_profile()
    rank = next(entry for entry in profile["entry_points"] if entry["name"] == "rank")
    rank["runs"][0] |= {"p50_us": 1234.4, "p99_us": 5678.6}
    rank["peak_over_idle_kb"] = 9_876
    write_report(tmp_path, profile, b"{}")
    text = (tmp_path / "report.html").read_text()
    first_screen = text[text.index("<h1>") : text.index('<div class="plots">')]
    for words in ("scn.pte", "SoC", ">pass<", "1,234 µs", "p99 5,679 µs", "9.9 MB", "52,864", "17.04 M"):
        assert words in first_screen, words
    assert text.index('<div class="plots">') < text.index("<table")
    for entry in profile["entry_points"]:
        entry["name"] = {"encode": "correct", "rank": "other"}[entry["name"]]
    del profile["artifact"]["flops_per_token"]  # as written before 0.2
    write_report(tmp_path, profile, b"{}")
    text = (tmp_path / "report.html").read_text()
    assert "correct, p50" in text and "FLOPs per token" not in text[: text.index('<div class="plots">')]


def test_nothing_is_drawn_of_what_was_not_measured(tmp_path: Path) -> None:
    profile = small_profile() | {"flops": [], "shapes": None}
    profile["settings"]["threads"] = [1]
    for entry in profile["entry_points"]:
        entry["operators"] = None
        del entry["runs"][1]
    write_report(tmp_path, profile, b"{}")
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {"latency", "memory"}
    Page((tmp_path / "report.html").read_text())


def test_warnings_are_on_the_page(tmp_path: Path) -> None:
    profile = small_profile()
    profile["machine"] |= {"throttled": True, "emulated": True}
    profile["parity"] |= {"verdict": "fail", "max_abs": None, "problems": ["rank.user0.scores is <wrong>"]}
    write_report(tmp_path, profile, b"{}")
    text = (tmp_path / "report.html").read_text()
    for words in ("do not compare its times", "say nothing about a phone", "is &lt;wrong&gt;", "not finite"):
        assert words in text


def test_the_sample_in_the_docs_is_one() -> None:
    sample = read_profile(ROOT / "docs" / "sample_profile")
    assert {row["length"] for row in sample["shapes"]["rows"]} >= {10, 25}
    assert all(sum(x["heap_parts"].values()) == x["heap_over_idle_bytes"] for x in sample["entry_points"])


def test_a_profile_goes_there_and_back(tmp_path: Path) -> None:
    profile = small_profile()
    path = write_profile(tmp_path, profile)
    assert read_profile(path) == read_profile(tmp_path) == profile
    jsonschema.validate(profile, json.loads(PROFILE_SCHEMA.read_text()))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "damaged or truncated"),
        ("[]", "must be object"),
        ('{"schema_version": 2}', "schema version 2, this version of the toolkit reads 1"),
        ("[" * 100_000, "damaged or truncated"),
    ],
)
def test_files_that_are_no_profile(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(CocorrrecError, match=re.escape(sentence)):
        read_profile(path)


def test_faulty_profiles(tmp_path: Path) -> None:
    profile = small_profile()
    profile["entry_points"][0]["runs"][0]["latency_ns"] = [-5]
    profile["more"] = 1
    write_profile(tmp_path, profile)
    with pytest.raises(CocorrrecError, match=r"unknown key 'more'.*latency_ns\[0\] must be at least 0|latency_ns"):
        read_profile(tmp_path)
    text = json.dumps(small_profile()).replace('"mean_us": 0.5', '"mean_us": NaN')
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(CocorrrecError, match="NaN is not a JSON number"):
        read_profile(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        read_profile(tmp_path / "absent.json")


def test_a_model_without_a_mini_batch_has_one_picture_of_flops(tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=50, architecture="din")
    document = small_profile()
    document["flops"] = [_curve(curve) for curve in flop_curves(config)]
    assert [row[:2] for row in curve_rows(document)] == [["forward", "none"]]
    write_report(tmp_path, document, b"{}")
    text = (tmp_path / "report.html").read_text()
    Page(text)
    assert "FLOPs over the sequence length" in text
