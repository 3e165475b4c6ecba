"""``benchmarks/scale.py``: what it prints for scripts, the page that it writes, and how a run goes on in parts."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT

WAYS = ("fp32", "int8", "pq16", "pq8")
MARKS = ("steps", "training", "exports", "rank")


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, whose exports are files of known sizes and whose runs take no time."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("scale")

    def export(vocab_size: int, _: str, precision: str, path: Path) -> None:
        path.write_bytes(bytes(vocab_size * (WAYS.index(precision) + 1)))

    def weighed(vocab_size: int, *_: str) -> dict[str, float]:
        return {"peak_mb": 100.0 + vocab_size - module.SMALLEST, "seconds": 1.0, "bytes": 1000}

    rows = {"peak": 7.0, "peak_anonymous": 5.0, "resident": 6.0, "seconds": 3.0}
    run = {"data": {"clicks": 900, "steps_of_an_epoch": 1200}, "started": rows, "100 steps": rows | {"peak": 8.0}}
    monkeypatch.setattr(module, "export_program", export)
    monkeypatch.setattr(module, "weighed_export", weighed)
    monkeypatch.setattr(module, "resident_mb", lambda _: run)
    times = {target: dict.fromkeys(WAYS, 5.0) for target in ("executorch", "tflite")}
    monkeypatch.setattr(module, "rank_us", lambda *_, **__: times)
    return module


def small(scale: ModuleType, **changes: Any) -> Any:
    sizes = {
        "steps": (300, 700),
        "optimizers": ("lazy_adamw", "adamw"),
        "trainings": (scale.Clicks(900, 20, heavy=40),),
        "exports": (20, 40),
        "weighed": (("executorch", "int8"), ("onnx", "fp32")),
        "ranked": (10, 20),
        "turns": 1,
    }
    return scale.Sizes(**sizes | changes)


def run(scale: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["scale.py", *options])
    scale.main()


def test_scripts_get_what_is_promised(
    scale: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale, "QUICK", small(scale, trainings=(), ranked=(10,)))
    run(scale, monkeypatch, "--quick", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"step_ms", "export_peak_mb", "import_peak_mb", "table_mb", "program_bytes", "rank_us"}
    assert found["step_ms"].keys() == {"300", "700"} and all(ms > 0 for ms in found["step_ms"].values())
    assert found["export_peak_mb"] == {"20": 104.0, "40": 124.0} and found["import_peak_mb"] == 100.0
    assert found["table_mb"] == {"20": 0.01, "40": 0.01}
    assert found["program_bytes"] == {"fp32": 10, "int8": 20, "pq16": 30, "pq8": 40}
    assert found["rank_us"]["tflite"]["int8"] == 5.0


def test_the_page_keeps_what_is_around_the_marks(
    scale: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "scale.md"
    marks = "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in MARKS)
    page.write_text(f"# Title\n\n{marks}\nwords\n")
    monkeypatch.setattr(scale, "PAGE", page)
    sizes = small(scale)
    monkeypatch.setattr(scale, "Sizes", lambda: sizes)
    kept = ("--kept", str(tmp_path / "scale.json"))
    run(scale, monkeypatch, *kept, "--only", "steps", "rank")
    assert "old" not in page.read_text() and "| 300 |" in page.read_text() and "importers" not in page.read_text()
    assert "not measured yet: training 900 20, imports executorch" in capsys.readouterr().err
    monkeypatch.setattr(scale, "step_ms", lambda *_: pytest.fail("measured again"))
    run(scale, monkeypatch, *kept)
    text = page.read_text()
    assert text.startswith("# Title\n\n<!-- steps -->\n") and text.endswith("<!-- /rank -->\n\nwords\n")
    assert "| 300 |" in text and "| 10 | int8 | 0.00 | 5.0 | 5.0 |" in text and "old" not in text
    assert "| 20 | int8 |" in text and "| 20 | pq16 |" not in text
    assert "| 900 | 20 and one of 40 clicks | 100 of 1,200 | 8 | 5 | 6 | 3 |" in text
    assert "| onnx | fp32 | 40 | 0.0 | 0.0 | 100 | 124 |" in text
    for theme in ("light", "dark"):
        assert (tmp_path / "pictures" / f"scale-{theme}.svg").read_text().startswith("<?xml")


def test_quick_has_the_sizes_of_the_goal(scale: ModuleType) -> None:
    assert {10_000, 4_000_000} <= set(scale.QUICK.steps)
    assert scale.QUICK.weighed == (("executorch", "int8"),)
