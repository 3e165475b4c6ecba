"""Exported files stay at the float32 model's own error over many mini-batches, judged by the model in float64.

A sample; ``python -m benchmarks.drift`` does all of them.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import drift
from tests.drift import FORMS, GRAPH, Case, worst

TARGETS = ("executorch", "tflite", "onnx", "coreml")
RANK = ("rank", "rank_corrected")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "mini_batch", "length", "heads", "form"),
    [
        ("untrained", 1, 10, 32, "released"),
        ("random", 2, 50, 8, "released"),
        ("trained", 10, 50, 4, "default"),
        ("trained", 1, 10, 4, "released"),
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_no_drift_in_files(
    target: str, weights: str, mini_batch: int, length: int, heads: int, form: str, tmp_path: Path
) -> None:
    error = worst(Case(target, weights, mini_batch, length, heads, form, RANK), tmp_path)
    assert error.share <= 1.0, error


@pytest.mark.parametrize("form", FORMS)
def test_no_drift_in_the_graph_of_any_entry_point(form: str, tmp_path: Path) -> None:
    error = worst(Case(GRAPH, "untrained", 2, 50, 2, form), tmp_path)
    assert error.share <= 1.0, error


def test_the_grid_has_each_case_once_and_both_forms_everywhere() -> None:
    cases = drift.grid()
    lengths, sizes = len(drift.MINI_BATCHES) * len(drift.LENGTHS), len(drift.HEAD_SIZES) * len(drift.WEIGHTS)
    assert len(set(map(str, map(drift.key, cases)))) == len(cases) == lengths * sizes * len(drift.TARGETS)
    seen = Counter((case.target, case.mini_batch, case.length, case.form, case.weights) for case in cases)
    assert len(seen) == lengths * len(drift.TARGETS) * len(FORMS) * len(drift.WEIGHTS)


def test_a_run_resumes_and_its_table_says_what_failed(tmp_path: Path) -> None:
    out, (first, second) = tmp_path / "out.jsonl", map(drift.key, drift.grid()[:2])
    lines: list[dict[str, Any]] = [
        first | {"failed": "took longer than 1 s"},
        first | {"error": 2e-5, "share": 1.5, "worst": {}},
        second | {"failed": "its process died"},
    ]
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert drift.done(out) == lines[1:]
    assert drift.cell(lines[1:]) == "2.0e-05, 1.50 of the limit (1), 1 too large, 1 not computed"
    rows = list(drift.table(lines[1:]))
    assert "1 too large" in rows[2] and "1 not computed" in rows[3] and len(rows) == 2 + len(drift.TARGETS)
