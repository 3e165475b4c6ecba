"""The report from results made up by hand: what is in it, and what would flatter and is not."""

import csv
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export.modeling.flops import forward_curve
from cocorrrec_export.reproduction.costs import Cost
from cocorrrec_export.reproduction.plan import Plan, Run, read_config
from cocorrrec_export.reproduction.report import Findings, write_report
from cocorrrec_export.reproduction.run import Result
from cocorrrec_export.reproduction.schedule import Results
from tests.reproduction.test_reproduce import config_of

ROWS = ("CoCorrRec", "GRU4Rec")


def findings(negatives: int) -> Findings:
    statistics = {"users": 4, "items": 9, "interactions": 40, "density": 0.5}
    statistics |= {"interactions_per_user": 10.0, "interactions_per_item": 4.0}
    facts = {"negatives": negatives, "statistics": statistics, "best_epoch": 1}

    def result(row: str) -> Result:
        places = {f"alone.{name}": np.array(values) for name, values in (("above", [0, 1, 2, 5]), ("tied", [0] * 4))}
        return Result(Run(row=row, learning_rate=0.1, seed=1), facts, places)

    plan = Plan(rows=ROWS, seeds=(1,), learning_rates=(0.1,), mini_batches=(5, 20), config=read_config(None, {}))
    made = {row: [result(row)] for row in ROWS}
    choice = {row: {0.1: 0.5} for row in ROWS}
    sizes = {size: result("CoCorrRec") for size in (5, 20)}
    costs = {row: Cost(9, forward_curve(config_of(row)), None) for row in ROWS}
    return Findings(
        plan, Results(dict.fromkeys(ROWS, 0.1), choice, made, sizes), costs, {5: 1.0, 20: 2.0}, "a", "beauty"
    )


@pytest.mark.parametrize(("negatives", "left"), [(5, {"@10", "@20"}), (15, {"@20"}), (100, set())])
def test_cutoffs_that_every_order_reaches_are_not_printed(tmp_path: Path, negatives: int, left: set[str]) -> None:
    facts = write_report(findings(negatives), tmp_path)
    shown = {name.partition("@")[2] for name in facts["table_1"]["GRU4Rec"]}
    assert {f"@{k}" for k in (5, 10, 20)} - {f"@{k}" for k in shown} == left
    report = (tmp_path / "report.md").read_text()
    tables = [line for line in report.splitlines() if line.startswith("|")]
    assert not any(cutoff in line for cutoff in left for line in tables)
    assert f"among {negatives} uniform negatives" in report
    said = [line for line in report.splitlines() if line.startswith("Left out: ")]
    assert len(said) == bool(left)
    if left:
        assert said[0].endswith(f"of {negatives + 1} candidates, every order would earn it.")
    for name in ("table1.csv", "table1_seeds.csv", "figure6.csv"):
        with (tmp_path / name).open() as file:
            header, *rows = csv.reader(file)
        assert not any(cutoff in column for cutoff in left for column in header)
        assert all(len(row) == len(header) for row in rows)
    assert (tmp_path / "figure6.png").read_bytes().startswith(b"\x89PNG")
