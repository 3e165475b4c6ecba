"""Settings out of range, data too small or odd, and metrics that every model would earn."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.errors import UsageError
from cocorrrec_export.metrics import Places
from cocorrrec_export.modeling.config import RANGES as MODEL_RANGES
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.training.config import RANGES, TrainConfig
from tests.commands import Cli
from tests.conftest import SHARED, need


@pytest.mark.parametrize("name", RANGES)
def test_every_training_number_has_a_range(name: str) -> None:
    low, high = RANGES[name]
    kind = type(getattr(TrainConfig(), name))
    outside = [low - 1, high * 2 + 1] + ([math.nan, math.inf, -math.inf] if kind is float else [2**64])
    for value in outside:
        with pytest.raises(UsageError, match=f"{name} must be"):
            TrainConfig(**{name: kind(value)})


@pytest.mark.parametrize("name", [name for name in MODEL_RANGES if name != "vocab_size"])
def test_every_model_number_has_a_range(name: str) -> None:
    kind = type(getattr(ModelConfig(vocab_size=5), name))
    for value in [-1, 1 << 30] + ([math.nan, math.inf] if kind is float else [10**9]):
        with pytest.raises(UsageError, match=f"{name} must be"):
            ModelConfig(**{"vocab_size": 5, name: kind(value)})


@pytest.mark.parametrize("negatives", [1, 4, 5, 9, 10, 19, 20, 100])
def test_no_metric_that_the_last_place_would_earn(negatives: int) -> None:
    last = np.array([negatives] * 3)
    means = Places(last, np.zeros(3, dtype=int), negatives).means()
    assert all(value == 0.0 for value in means.values())
    assert "uauc" in means and ("hr@10" in means) == (negatives >= 10)


def test_few_negatives_are_refused_with_the_reason(cli: Cli, tmp_path: Path) -> None:
    data, config = need(SHARED / "faults/data/few-negatives.csv"), need(SHARED / "faults/data/few-negatives.toml")
    common = ("--recipe", "paper", "--correction", "none")
    ended = cli("train", "--data", data, "--config", config, *common, "--out", tmp_path / "a")
    assert ended.code == 2 and "is 1 for every model with 6 candidates" in " ".join(ended.stderr.split())
    own = tmp_path / "own.toml"
    own.write_text(config.read_text() + 'monitor = "uauc"\n')
    ended = cli("train", "--data", data, "--config", own, *common, "--out", tmp_path / "b", "--json")
    assert ended.code == 0, ended.stderr
    found = json.loads(ended.stdout)["metrics"]["alone"]
    assert "hr@5" in found and not {"hr@10", "hr@20", "ndcg@10"} & found.keys()
    ended = cli("evaluate", "--model", tmp_path / "b")
    assert ended.code == 0 and "left out: ndcg@10" in ended.stderr


def write(path: Path, rows: list[tuple[str, str, int]]) -> Path:
    path.write_text("user,item,timestamp\n" + "".join(f"{u},{i},{1_600_000_000 + t}\n" for u, i, t in rows))
    return path


def test_three_clicks_each_say_what_is_missing(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [(f"u{u}", f"i{(u * 5 + k) % 40}", k) for u in range(20) for k in range(3)])
    ended = cli("train", "--data", path, "--out", tmp_path / "m")
    assert ended.code == 1 and "at least one user needs 4" in " ".join(ended.stderr.split())


def test_a_user_with_every_item_is_left_out_of_the_evaluation(cli: Cli, tmp_path: Path) -> None:
    rows = [(f"u{u}", f"i{(u * 5 + k) % 140}", k) for u in range(20) for k in range(5)]
    path = write(tmp_path / "a.csv", rows + [("bot", f"i{k}", k) for k in range(140)])
    options = ("--recipe", "paper", "--correction", "none", "--epochs", 1)
    ended = cli("train", "--data", path, *options, "--out", tmp_path / "m")
    assert ended.code == 0, ended.stderr
    assert "every item" in " ".join(ended.stderr.split())
    ended = cli("evaluate", "--model", tmp_path / "m", "--json")
    assert json.loads(ended.stdout)["users"] == 20


@pytest.mark.parametrize(("rate", "weight"), [("50", "0"), ("100", "1000")])
def test_weights_that_are_no_numbers_name_the_settings(cli: Cli, tmp_path: Path, rate: str, weight: str) -> None:
    path = write(tmp_path / "a.csv", [(f"u{u}", f"i{(u * 7 + k) % 140}", k) for u in range(20) for k in range(9)])
    config = tmp_path / "c.toml"
    config.write_text(f"[training]\nepochs = 2\nlearning_rate = {rate}\nalone_weight = {weight}\nbatch_size = 8\n")
    ended = cli("train", "--data", path, "--config", config, "--recipe", "paper", "--out", tmp_path / "m")
    assert "Traceback" not in ended.stderr
    assert ended.code == 0 or "learning_rate" in ended.stderr


@pytest.mark.parametrize("device", ["meta", "xla", "nonsense"])
def test_devices_that_cannot_train(cli: Cli, tmp_path: Path, device: str) -> None:
    path = write(tmp_path / "a.csv", [("u", "i", 1)])
    ended = cli("train", "--data", path, "--device", device, "--out", tmp_path / "m")
    assert ended.code == 2 and "cannot be used here" in " ".join(ended.stderr.split())


def test_targets_that_repeat_the_last_click_are_counted() -> None:
    histories = torch.tensor([[3, 4, 0], [5, 6, 7], [1, 0, 0]])
    candidates = torch.tensor([[4, 9], [6, 9], [1, 9]])
    assert EvaluationSet(histories, candidates).repeated_share() == pytest.approx(2 / 3)
