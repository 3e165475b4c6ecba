"""The reports that are kept in docs/reproduction: each figure of Table 1 follows from the runs in benchmarks/runs.

Those were trained with the default settings of their version: AdamW for the whole table, and clicks of one time in the
order of the file.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export.errors import UsageError
from cocorrrec_export.metrics import METRICS
from cocorrrec_export.reproduction.comparison import CLOUD
from cocorrrec_export.reproduction.plan import ROWS, Run, read_config, with_run
from cocorrrec_export.reproduction.run import as_trained, read_result, settings_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER, RUNS = ROOT / "docs" / "reproduction", ROOT / "benchmarks" / "runs"
BEFORE = {"training.table_optimizer": "adamw", "data.reading.ties": "file"}
ALL = {path.parent: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*/results.json"))}
REPORTS = [folder for folder, results in ALL.items() if results.get("recipe", "paper") == "paper"]
COMPARISONS = [folder for folder, results in ALL.items() if results.get("recipe") == "best"]


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.name)
def test_table_1_follows_from_the_runs(report: Path) -> None:
    results = json.loads((report / "results.json").read_text())
    with (report / "table1_seeds.csv").open() as file:
        table = {(row["model"], int(row["seed"])): row for row in csv.DictReader(file)}
    assert len(results["seeds"]) >= 3 and set(results["table_1"]) == set(ROWS)
    for model, rates in results["learning_rates"].items():
        assert len(rates["validation"]) == 4
        assert rates["chosen"] == float(max(rates["validation"], key=rates["validation"].__getitem__))
        measured = []
        for seed in results["seeds"]:
            run = Run(row=model, learning_rate=rates["chosen"], seed=seed)
            facts = json.loads((RUNS / report.name / run.name / "result.json").read_text())
            filters = {f"data.filters.{name}": value for name, value in facts["settings"]["data"]["filters"].items()}
            settings = settings_of(with_run(read_config(None, BEFORE | filters), run))
            result = read_result(run, RUNS / report.name / run.name, settings, facts["data"])
            assert result is not None
            metrics = {name: float(values.mean()) for name, values in result.per_user().items()}
            assert metrics == pytest.approx({name: float(table[model, seed][name]) for name in METRICS}, abs=1e-6)
            measured.append(metrics)
        for name in METRICS:
            assert results["table_1"][model][name]["mean"] == pytest.approx(np.mean([x[name] for x in measured]))


@pytest.mark.parametrize("report", COMPARISONS, ids=lambda path: path.name)
def test_the_comparison_follows_from_the_runs(report: Path) -> None:
    results = ALL[report]
    for row, rates in results["learning_rates"].items():
        assert rates["chosen"] == float(max(rates["validation"], key=rates["validation"].__getitem__))
        measured = []
        for seed in results["seeds"]:
            run = Run(row=row, learning_rate=rates["chosen"], seed=seed, recipe="best")
            folder = RUNS / report.name / run.name
            facts = json.loads((folder / "result.json").read_text())
            result = read_result(run, folder, as_trained(facts["settings"], folder), facts["data"])
            assert result is not None
            assert result.facts["settings"]["model"] == results["settings"][row]["model"]
            measured.append(result)
        for way, title in (("alone", row), ("corrected", row + CLOUD)):
            if title not in results["table"]:
                assert way == "corrected" and not measured[0].has_cloud()
                continue
            for protocol, full in (("sampled", False), ("full", True)):
                means = [float(result.per_user(way, full=full)["ndcg@10"].mean()) for result in measured]
                assert results["table"][title][protocol]["ndcg@10"]["mean"] == pytest.approx(np.mean(means))


def test_a_run_is_of_the_settings_it_was_made_with() -> None:
    """Not of what the defaults are today, and of no others."""
    report = REPORTS[0]
    folder = sorted((RUNS / report.name).glob("gru4rec-*"))[0]
    facts = json.loads((folder / "result.json").read_text())
    training = facts["settings"]["training"]
    run = Run(row="GRU4Rec", learning_rate=training["learning_rate"], seed=training["seed"])
    filters = {f"data.filters.{name}": value for name, value in facts["settings"]["data"]["filters"].items()}

    def read(**changes: object) -> object:
        settings = settings_of(with_run(read_config(None, BEFORE | filters | changes), run))
        return read_result(run, folder, settings, facts["data"])

    assert read() is not None
    others: list[dict[str, object]] = [
        {"training.table_optimizer": "lazy_adamw"},
        {"training.positions": "all"},
        {"training.average": 0.9},
        {"data.reading.ties": "shuffle"},
        {"data.filters.k_core": 7},
    ]
    for changes in others:
        with pytest.raises(UsageError, match="is of other settings or data"):
            read(**changes)
