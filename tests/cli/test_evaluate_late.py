"""``evaluate --late-rate``: between the corrected and the uncorrected ranking."""

import json
from pathlib import Path

import pytest

from cocorrrec_export.cli.export.evaluate import _rates
from cocorrrec_export.modeling.store import ModelFolder
from tests.commands import Cli
from tests.models import model_folder


def test_the_ends_are_the_two_ways_of_ranking_and_the_middle_is_between(
    cli: Cli, tiny: ModelFolder, tmp_path: Path
) -> None:
    plot = tmp_path / "late.png"
    ended = cli("evaluate", "--model", tiny.path, "--late-rate", "0,0.5,1", "--draws", 50, "--plot", plot, "--json")
    assert ended.code == 0, ended.stderr
    made = json.loads(ended.stdout)
    first, middle, last = made["late"]["rates"]
    for row, way in ((first, "corrected"), (last, "alone")):
        assert row["mean"] == pytest.approx(made["metrics"][way])
        assert max(row["std"].values()) < 1e-9
    assert middle["std"]["ndcg@10"] > 0
    for name, value in middle["mean"].items():
        ends = (first["mean"][name], last["mean"][name])
        assert value == pytest.approx(sum(ends) / 2, abs=0.02)
    assert plot.read_bytes().startswith(b"\x89PNG")
    again = cli("evaluate", "--model", tiny.path, "--late-rate", "0,0.5,1", "--draws", 50, "--json")
    assert again.stdout == ended.stdout
    assert "by share of late answers" in cli("evaluate", "--model", tiny.path, "--late-rate", "0.5").stdout


def test_the_ellipsis() -> None:
    assert _rates("0,0.1,...,1") == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert _rates("1,0.5,...,0") == [1.0, 0.5, 0.0]
    assert _rates(" 0.2 , 0.4") == [0.2, 0.4]


@pytest.mark.parametrize("text", ["", "x", "2", "-0.1,1", "0,...,1", "0,0.3,...,1", "0,0,...,1", "0,0.1,...,2", "nan"])
def test_wrong_rates(cli: Cli, text: str) -> None:
    ended = cli("evaluate", "--late-rate", text)
    assert ended.code == 2 and "give shares from 0 to 1" in ended.stderr


def test_wrong_usage(cli: Cli, tmp_path: Path) -> None:
    for option, value in (("--plot", tmp_path / "x.png"), ("--draws", 3), ("--seed", 0)):
        ended = cli("evaluate", option, value)
        assert ended.code == 2 and f"{option}: only with --late-rate" in ended.stderr
    alone = model_folder(tmp_path / "alone", gcn=False)
    ended = cli("evaluate", "--model", alone.path, "--late-rate", "0.5")
    assert ended.code == 2 and "does not have a cloud model" in ended.stderr
