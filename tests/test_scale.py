"""``benchmarks/scale.py``: what it prints for scripts, and the page that it writes."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.conftest import ROOT

WAYS = ("fp32", "int8", "pq16", "pq8")


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, whose exports are files of known sizes and whose runs take no time."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("scale")

    def export(vocab_size: int, _: str, precision: str, path: Path) -> list[Any]:
        path.write_bytes(bytes(vocab_size * (WAYS.index(precision) + 1)))
        return [SimpleNamespace(contract=None)]

    monkeypatch.setattr(module, "export_program", export)
    monkeypatch.setattr(module, "weighed_export", lambda vocab_size: 100.0 + vocab_size)
    times = {target: dict.fromkeys(WAYS, 5.0) for target in ("executorch", "tflite")}
    monkeypatch.setattr(module, "rank_us", lambda *_, **__: times)
    return module


def small(scale: ModuleType) -> Any:
    return scale.Sizes(steps=(300, 700), counted=2, exports=(20, 40), ranked=10, turns=1)


def test_scripts_get_what_is_promised(
    scale: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale, "QUICK", small(scale))
    monkeypatch.setattr(sys, "argv", ["scale.py", "--quick", "--json"])
    scale.main()
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"step_ms", "export_peak_mb", "import_peak_mb", "table_mb", "program_bytes", "rank_us"}
    assert found["step_ms"].keys() == {"300", "700"} and all(ms > 0 for ms in found["step_ms"].values())
    assert found["export_peak_mb"] == {"20": 120.0, "40": 140.0} and found["import_peak_mb"] == 100.0
    assert found["table_mb"] == {"20": 0.01, "40": 0.01}
    assert found["program_bytes"] == {"fp32": 10, "int8": 20, "pq16": 30, "pq8": 40}
    assert found["rank_us"]["tflite"]["int8"] == 5.0


def test_the_page_keeps_what_is_around_the_marks(
    scale: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "scale.md"
    marks = "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in ("steps", "exports", "rank"))
    page.write_text(f"# Title\n\n{marks}\nwords\n")
    monkeypatch.setattr(scale, "PAGE", page)
    sizes = small(scale)
    monkeypatch.setattr(scale, "Sizes", lambda: sizes)
    monkeypatch.setattr(sys, "argv", ["scale.py"])
    scale.main()
    text = page.read_text()
    assert text.startswith("# Title\n\n<!-- steps -->\n") and text.endswith("<!-- /rank -->\n\nwords\n")
    assert "| 300 |" in text and "| int8 | 0 | 5.0 | 5.0 |" in text and "old" not in text
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_quick_has_the_sizes_of_the_goal(scale: ModuleType) -> None:
    assert {10_000, 4_000_000} <= set(scale.QUICK.steps)
