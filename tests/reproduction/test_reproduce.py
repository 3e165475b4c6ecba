"""``cocorr-export reproduce``: every model trained, stopped, gone on with, and written up."""

import csv
import dataclasses
import json
import re
import signal
import time
from pathlib import Path

import pytest

from cocorrrec_export.errors import UsageError
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.curves import PAPER_BATCH
from cocorrrec_export.modeling.flops import forward_curve
from cocorrrec_export.reproduction import paper
from cocorrrec_export.reproduction.costs import inference_times, measure_costs
from cocorrrec_export.reproduction.device import wire_bytes
from cocorrrec_export.reproduction.plan import (
    BEST_ROWS,
    ROWS,
    Plan,
    Run,
    names_of,
    parse_rows,
    read_config,
    read_configs,
    with_run,
)
from cocorrrec_export.reproduction.report import ALONE_DEVIATION
from cocorrrec_export.reproduction.run import settings_of
from cocorrrec_export.reproduction.schedule import Watcher, train_all
from tests.commands import Cli, start
from tests.training.test_training import csv_file

MACS = {
    "CoCorrRec w/o GCN": 4 * 64**2 + 4 * 64,
    "DIN": 3 * 64**2,
    "GRU4Rec": 64**2 + 25_408,
    "SASRec": 64**2 + 2 * 64 * 256 + 8 * 64,
    "BERT4Rec": 2 * (4 * 64**2 + 2 * 64 * 256),
    "Mamba4Rec": 4 * 64 * 256 + 20 * 64,
}
"""Multiply-accumulates of one token of one user, in the paper's convention."""
PRINTED_DIGITS = {"CoCorrRec w/o GCN": 1}


def small_config(folder: Path, *settings: str) -> Path:
    """Settings for data of 60 items, of which 100 negatives cannot be drawn."""
    path = folder / "config.toml"
    path.write_text("\n".join(["[training]", "evaluation_negatives = 20", *settings]))
    return path


def config_of(row: str, **options: object) -> ModelConfig:
    table = with_run(read_config(None, {}), Run(row=row, learning_rate=0.1, seed=1)).model
    return ModelConfig.from_dict({"vocab_size": 40} | table | options, where="test")


@pytest.mark.parametrize("row", MACS)
def test_flops_per_token_are_those_published(row: str) -> None:
    per_token = forward_curve(config_of(row)).per_token.paper
    assert per_token == PAPER_BATCH * MACS[row]
    assert round(per_token / 1e6, PRINTED_DIGITS.get(row, 2)) == paper.TABLE_4[row]


def test_flops_per_token_of_the_joint_model() -> None:
    assert round(forward_curve(config_of("CoCorrRec")).per_token.paper / 1e6, 2) == 82.44  # 82.7 are printed


def small_plan(**options: object) -> Plan:
    overrides = {"training.epochs": 1, "training.evaluation_negatives": 20}
    defaults: dict[str, object] = {
        "rows": ("GRU4Rec", "SASRec"),
        "seeds": (1, 2),
        "learning_rates": (0.002, 0.01),
        "mini_batches": (),
        "config": read_config(None, overrides),
    }
    return Plan(**(defaults | options))  # type: ignore[arg-type]


def best_plan(**options: object) -> Plan:
    configs = read_configs(None, {})
    given = {"recipe": "best", "rows": tuple(BEST_ROWS), "configs": configs, "config": configs["CoCorrRec"]}
    return small_plan(**(given | options))


def config_in_full(model: dict[str, object]) -> ModelConfig:
    return ModelConfig.from_dict({"vocab_size": 40} | model, where="test")


@pytest.mark.slow
def test_the_best_learning_rate_is_taken_and_finished_runs_are_not_done_again(tmp_path: Path) -> None:
    class Counting(Watcher):
        started = 0
        read: list[tuple[int, int]] = []  # noqa: RUF012

        def on_read(self, done: int, size: int) -> None:
            Counting.read.append((done, size))

        def on_start(self, run: Run, steps: int) -> None:  # noqa: ARG002
            Counting.started += 1

    data = csv_file(tmp_path / "clicks.csv")
    first = train_all(small_plan(), data, tmp_path / "out", jobs=2, watcher=Counting())
    size = data.stat().st_size
    assert Counting.read == [(size, size)]  # by none of the runs
    assert Counting.started == 6  # two models, two learning rates, and one more seed
    for row, tried in first.choice.items():
        assert tried[first.chosen[row]] == max(tried.values())
        assert [result.run.seed for result in first.rows[row]] == [1, 2]
        assert not list((tmp_path / "out" / "runs").glob("*/model"))  # the weights are dropped
    again = train_all(small_plan(), data, tmp_path / "out", jobs=2, watcher=Counting())
    assert Counting.started == 6 and len(Counting.read) == 1
    assert again.chosen == first.chosen
    with pytest.raises(UsageError, match="other settings or data"):
        train_all(small_plan(config=read_config(None, {"training.epochs": 2})), data, tmp_path / "out", jobs=1)


@pytest.mark.slow
def test_reproduce_writes_the_paper_s_tables_and_figures(tmp_path: Path, cli: Cli) -> None:
    data = csv_file(tmp_path / "clicks.csv")
    out = tmp_path / "out"
    options = ("--quick", "--paper", "beauty", "--out", out, "--json")
    ended = cli("reproduce", "--data", data, "--config", small_config(tmp_path), *options)
    assert ended.code == 0, ended.stderr
    facts = json.loads(ended.stdout)["results"]
    assert facts == json.loads((out / "results.json").read_text())
    assert set(facts["table_1"]) == set(facts["table_4"]) == set(ROWS)
    assert set(facts["differences"]) == set(ROWS) - {"CoCorrRec"}
    assert set(facts["figure_6"]) == {"5", "20"}
    for row, cost in facts["table_4"].items():
        assert cost["memory_per_token"] > 0
        assert cost["flops_per_token"]["paper"] == pytest.approx(1e6 * paper.TABLE_4[row], rel=0.004)
    for name in ("table1", "figure4", "figure6"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (out / f"{name}.svg").read_text()
    report = (out / "report.md").read_text()
    for row in ROWS:
        assert f"| {row} |" in report
    assert "The last epoch allowed, 1, was the best of CoCorrRec (2 of 2 seeds), " in report
    assert ALONE_DEVIATION in report
    assert report.count("in the paper") >= len(paper.TABLE_1["beauty"])
    with (out / "table1_seeds.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * len(ROWS)
    for name in re.findall(r"\]\((\S+)\)", report):
        assert (out / name).is_file()


@pytest.mark.slow
def test_an_interrupted_reproduction_goes_on(tmp_path: Path, cli: Cli) -> None:
    data = csv_file(tmp_path / "clicks.csv")
    arguments = (
        "reproduce",
        "--data",
        data,
        "--config",
        small_config(tmp_path, "alone_weight = 0"),
        "--quick",
        "--models",
        "cocorrrec-no-gcn,gru4rec",
        "--out",
        tmp_path / "o",
    )
    process = start(*arguments, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "o" / "runs").glob("*/result.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert "interrupted" in stderr
    ended = cli(*arguments, "--json")
    assert ended.code == 0, ended.stderr
    assert set(json.loads(ended.stdout)["results"]["table_1"]) == {"CoCorrRec w/o GCN", "GRU4Rec"}
    assert ALONE_DEVIATION not in (tmp_path / "o" / "report.md").read_text()


@pytest.mark.slow
def test_costs_grow_with_the_length() -> None:
    cost = measure_costs({"GRU4Rec": config_of("GRU4Rec")})["GRU4Rec"]
    assert cost.peak_bytes is not None
    assert cost.peak_bytes[-1] > cost.peak_bytes[0] > 0
    times = inference_times(config_of("CoCorrRec w/o GCN"), (1, 20))
    assert times[1] > times[20]  # twenty mini-batches instead of one


def test_rows_by_name() -> None:
    assert parse_rows("sasrec, cocorrrec-no-gcn") == ("SASRec", "CoCorrRec w/o GCN")
    assert len(names_of("paper")) == len(ROWS) == len(paper.TABLE_4)
    with pytest.raises(UsageError, match=r"unknown model 'sasrek'.*sasrec"):
        parse_rows("sasrek")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "1,x"), "--seeds takes numbers from 0 to 2147483647"),
        (("--seeds", "1,1"), "--seeds takes each number once"),
        (("--learning-rates", "0"), "--learning-rates takes numbers from 1e-06 to 1"),
        (("--mini-batches", "1,21"), "--mini-batches takes numbers from 1 to 20"),
        (("--models", "din,sasrec,din"), "--models takes each model once"),
        (("--models", "bert"), "unknown model 'bert'"),
        (("--paper", "books"), "unknown data set of the paper"),
        (("--recipe", "bets"), "unknown recipe 'bets'"),
        (("--recipe", "best", "--paper", "beauty"), "--paper has no meaning with --recipe best"),
        (("--recipe", "best", "--mini-batches", "none"), "--mini-batches has no meaning with --recipe best"),
        (("--target", "tflite"), "--target has no meaning with --recipe paper"),
        (("--recipe", "best", "--target", "onnx"), "unknown --target 'onnx'"),
        (("--recipe", "best", "--models", "cocorrrec-no-gcn"), "unknown model 'cocorrrec-no-gcn'"),
    ],
)
def test_wrong_options_are_usage_errors(tmp_path: Path, cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    data = csv_file(tmp_path / "clicks.csv")
    ended = cli("reproduce", "--data", data, "--out", tmp_path / "out", *arguments)
    assert ended.code == 2
    assert message in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message", "code"),
    [
        (None, "no such file", 2),
        ("user,item,timestamp\na,x,soon\n", "line 2: timestamp is 'soon'", 1),
        ("user,item,timestamp\na,x,1\n", "nothing is left after the filters", 1),
    ],
)
def test_data_that_cannot_be_used_are_refused_before_any_run(
    tmp_path: Path, cli: Cli, text: str | None, message: str, code: int
) -> None:
    data = tmp_path / "clicks.csv"
    if text is not None:
        data.write_text(text)
    ended = cli("reproduce", "--data", data, "--quick", "--out", tmp_path / "out")
    assert (ended.code, ended.stdout) == (code, "")
    assert ended.stderr.strip().startswith(f"error: {data}") and message in ended.stderr
    assert not (tmp_path / "out").exists()


def test_what_a_run_decides_cannot_be_configured(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[model]\narchitecture = "din"\n')
    with pytest.raises(UsageError, match="architecture follow"):
        read_config(path, {})


def test_a_config_replaces_the_defaults_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[training]\nalone_weight = 0.0\nepochs = 7\n")
    config, default = read_config(path, {"training.epochs": 3}), read_config(None, {})
    assert config == dataclasses.replace(
        default, training=dataclasses.replace(default.training, alone_weight=0.0, epochs=3)
    )
    assert (default.model, default.training.alone_weight) == ({"dropout": 0.2}, 1.0)
    path.write_text("training = 7\n")
    with pytest.raises(UsageError, match=r"\[training\] must be a table"):
        read_config(path, {})


def test_the_better_recipe_has_settings_for_each_architecture(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[training]\nepochs = 7\n")
    plan = best_plan(configs=read_configs(path, {"model.dropout": 0.3}))
    found = {row: plan.settings(plan.seed_runs(row, 0.004)[0]) for row in BEST_ROWS}
    assert {(x.training.epochs, x.training.learning_rate, x.model["dropout"]) for x in found.values()} == {
        (7, 0.004, 0.3)
    }
    assert {x.model["objective"] for x in found.values()} == {"sampled_softmax"}
    assert {row for row, x in found.items() if x.training.positions == "last"} == {"DIN"}
    assert [row for row, x in found.items() if x.model.get("correction") == "vector"] == ["CoCorrRec"]
    lengths = {row: config_in_full(x.model).sequence_length for row, x in found.items()}
    assert lengths == dict.fromkeys(BEST_ROWS, 10) | {"BERT4Rec, 50 clicks": 50}
    path.write_text("[model]\ngcn = true\n")
    with pytest.raises(UsageError, match="gcn follow"):
        read_configs(path, {})


def test_each_architecture_can_have_the_rate_of_its_recipe() -> None:
    plan = best_plan(learning_rates=())
    rates = {row: [run.learning_rate for run in plan.choice_runs(row)] for row in BEST_ROWS}
    assert rates == {row: [0.005 if row == "GRU4Rec" else 0.002] for row in BEST_ROWS}


def test_names_of_runs_differ_and_can_be_given_back() -> None:
    plan = best_plan()
    names = [plan.seed_runs(row, 0.002)[0].name for row in BEST_ROWS]
    assert names[5] == "bert4rec-50-lr0.002-seed1" and len(set(names)) == len(BEST_ROWS)
    assert parse_rows(",".join(names_of("best")), "best") == tuple(BEST_ROWS)


def test_bytes_on_the_wire_are_those_of_the_tensors() -> None:
    vector = ModelConfig(vocab_size=40, correction="vector", cloud_length=30)
    assert wire_bytes(vector) == (4 * 30, 4 * 64)
    assert wire_bytes(ModelConfig(vocab_size=40)) == (2560, 4160)


@pytest.mark.slow
def test_the_comparison_has_quality_of_both_protocols_and_costs(tmp_path: Path, cli: Cli) -> None:
    data, out = csv_file(tmp_path / "clicks.csv"), tmp_path / "out"
    arguments = ("reproduce", "--recipe", "best", "--data", data, "--config", small_config(tmp_path), "--quick")
    arguments += ("--models", "cocorrrec,gru4rec,din", "--seeds", "1", "--out", out, "--json")
    ended = cli(*arguments, "--target", "none")
    assert ended.code == 0, ended.stderr
    assert not (out / "comparison.png").exists()
    without = json.loads(ended.stdout)["results"]
    runs = {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*/result.json")}
    ended = cli(*arguments)
    assert ended.code == 0, ended.stderr
    assert runs == {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*/result.json")}
    facts = json.loads(ended.stdout)["results"]
    assert facts == json.loads((out / "results.json").read_text())
    table = facts["table"]
    assert list(table) == ["CoCorrRec", "CoCorrRec with its cloud", "GRU4Rec", "DIN"]
    for title, line in table.items():
        assert 0 < line["full"]["ndcg@10"]["mean"] <= line["sampled"]["ndcg@10"]["mean"] < 1
        assert line["sampled"] == without["table"][title]["sampled"]
        assert line["int8_bytes"] > 10_000 and line["rank_us"] > 0 and without["table"][title]["rank_us"] is None
    assert [table[title]["step_us"] is None for title in table] == [False, False, False, True]
    assert [line["wire_bytes"] for line in table.values()] == [None, 456, None, None]
    assert set(facts["references"]) == {"popularity", "item neighbors"}
    assert set(facts["differences"]) == set(table) - {"CoCorrRec"}
    result = json.loads((out / "runs" / "gru4rec-lr0.002-seed1" / "result.json").read_text())
    assert table["GRU4Rec"]["sampled"]["uauc"]["mean"] == pytest.approx(result["test"]["alone"]["uauc"])
    report = (out / "report.md").read_text()
    assert "(`both:expected:ndcg@10`: CoCorrRec, GRU4Rec; `ndcg@10`: DIN); no other learning rate was tried." in report
    assert "| CoCorrRec with its cloud |" in report and "200 + 256" in report and "| popularity |" in report
    for name in re.findall(r"\]\((\S+)\)", report):
        assert (out / name).is_file()
    with (out / "comparison_seeds.csv").open() as file:
        assert [row["model"] for row in csv.DictReader(file)] == list(table)


def test_settings_survive_json() -> None:
    config = with_run(read_config(None, {}), Run(row="SASRec", learning_rate=0.002, seed=7))
    settings = settings_of(config)
    assert settings["model"]["architecture"] == "sasrec"
    assert (settings["training"]["learning_rate"], settings["training"]["seed"]) == (0.002, 7)
    assert json.loads(json.dumps(settings)) == settings
