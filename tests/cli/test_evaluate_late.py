"""``evaluate --late-rate``: between the corrected and the uncorrected ranking."""

import json
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export.cli.export.evaluate import _rates
from cocorrrec_export.data.held_out import TEST, evaluation_set
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.modeling.store import ModelFolder
from tests.commands import Cli
from tests.data.test_windows import made
from tests.models import model_folder, random_users


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


def test_cutoffs_that_every_order_reaches_are_left_out(cli: Cli, tmp_path: Path) -> None:
    """Six candidates: every model would have an HR@10 and an NDCG@10 that say nothing."""
    folder = model_folder(tmp_path / "m", users=False)
    random_users(negatives=5).save(folder.evaluation_path)
    plot = tmp_path / "late.png"
    ended = cli("evaluate", "--model", folder.path, "--late-rate", "0,1", "--plot", plot)
    assert ended.code == 0, ended.stderr
    said = "left out: ndcg@10, ndcg@20, hr@10, hr@20: there are no more candidates than that"
    assert ended.stderr.count(said) == 2
    late = ended.stdout[ended.stdout.index("by share of late answers") :]
    assert "hr@5" in late and "@10" not in late and "± uauc" in late
    assert plot.read_bytes().startswith(b"\x89PNG")
    rows = json.loads(cli("evaluate", "--model", folder.path, "--late-rate", "0,1", "--json").stdout)["late"]["rates"]
    assert set(rows[0]["mean"]) == set(rows[1]["std"]) == {"uauc", "ndcg@5", "hr@5"}


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


def test_controls(cli: Cli, tmp_path: Path) -> None:
    """The keys that scripts rely on; the numbers are those of the library, which has tests of its own."""
    folder = model_folder(tmp_path / "vector", users=False, correction="vector", cloud_length=15)
    rng = np.random.default_rng(3)
    data = made([rng.permutation(np.arange(1, 60))[:20].tolist() for _ in range(25)], 59)
    split = leave_last_out(data, sequence_length=10)
    users = evaluation_set(data, split, NegativeSampler(data), part=TEST, negatives=20, seed=0)
    users.save(folder.evaluation_path)
    found = json.loads(cli("evaluate", "--model", folder.path, "--controls", "--json").stdout)
    assert found["metrics"].keys() == found["full"].keys() == {"corrected", "alone"}
    assert found["full"]["alone"].keys() - found["metrics"]["alone"].keys() == {"mrr"}
    assert found["controls"].keys() == {"other", "mean", "short"}
    assert all(each.keys() == {"sampled", "full"} for each in found["controls"].values())
    assert found["paired"].keys() == {"own", "other", "mean", "short"}
    difference, error = found["paired"]["own"]["sampled:ndcg@10"]
    assert difference == pytest.approx(found["metrics"]["corrected"]["ndcg@10"] - found["metrics"]["alone"]["ndcg@10"])
    assert error > 0
    assert found["references"].keys() == {"popularity", "item neighbors"}
    shown = cli("evaluate", "--model", folder.path, "--controls").stdout
    assert "another user's" in shown and "whole catalog" in shown
    alone = model_folder(tmp_path / "alone", gcn=False)
    ended = cli("evaluate", "--model", alone.path, "--controls")
    assert ended.code == 2 and "does not have a cloud model" in ended.stderr
