"""Training: the gradient is the plain one, a run can be interrupted, and it learns."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch

from cocorrrec_export.data.held_out import VALIDATION, evaluation_set, held_out_set
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.data.windows import Windows, training_counts, training_windows
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.metrics import ranking_metrics
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import Architecture, CloudReader, ModelConfig
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.store import load_model, open_model
from cocorrrec_export.modeling.vector import VectorCloud
from cocorrrec_export.training import cloud, loop, recipes
from cocorrrec_export.training.checkpoint import RunState
from cocorrrec_export.training.cloud import WEIGHTS
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.losses import ExpectedCounts, bce_loss, sampled_softmax_loss, softmax_loss
from cocorrrec_export.training.run import RunConfig, metrics_of, train
from cocorrrec_export.training.scoring import evaluate_model, measure, score_candidates

ITEMS = 60


def interactions(users: int = 120) -> Interactions:
    """Users who walk through the items in steps of one: the next item is easy to learn."""
    starts = np.random.default_rng(0).integers(0, ITEMS, size=users)
    items = (starts[:, None] + np.arange(12)) % ITEMS + 1
    offsets = np.arange(users + 1, dtype=np.int64) * 12
    return Interactions(
        items.astype(np.int32).ravel(), offsets, [str(i) for i in range(ITEMS)], [str(u) for u in range(users)]
    )


def training_data() -> loop.TrainingData:
    data = interactions()
    split, sampler = leave_last_out(data, sequence_length=10), NegativeSampler(data)
    validation = evaluation_set(data, split, sampler, part=VALIDATION, negatives=20, seed=0)
    return loop.TrainingData(data, split.train, sampler, validation)


def new_model(**options: object) -> CoCorrRec:
    config = ModelConfig.from_dict({"vocab_size": ITEMS + 1} | options, where="test")
    return build_model(config, generator=torch.Generator().manual_seed(1))


def csv_file(path: Path) -> Path:
    data = interactions()
    users = np.repeat(np.arange(data.num_users), 12)
    rows = (f"{u},{i},{t}" for t, (u, i) in enumerate(zip(users, data.items, strict=True)))
    path.write_text("user,item,timestamp\n" + "\n".join(rows))
    return path


def some_examples(data: loop.TrainingData) -> loop.Batch:
    return loop.Batch.of(data.train.cut(np.arange(64)))


@pytest.mark.parametrize("alone_weight", [0.0, 0.5])
@pytest.mark.parametrize("gcn", [False, True])
def test_gradient_is_that_of_the_plain_model(gcn: bool, alone_weight: float) -> None:
    data, config = training_data(), TrainConfig(alone_weight=alone_weight)
    batch = some_examples(data)
    negatives = data.sampler.sample(batch.users, 4, rng=np.random.default_rng(0))
    ours, plain = new_model(gcn=gcn), new_model(gcn=gcn)
    loss = loop.Step(ours, data, config, "bce")(batch, np.random.default_rng(0))
    ids = torch.from_numpy(batch.histories).long()
    candidates = torch.from_numpy(np.concatenate((batch.targets, negatives), axis=1)).long()
    expected = bce_loss(plain(ids, candidates))
    if gcn:
        expected = expected + alone_weight * bce_loss(plain(ids, candidates, corrected=False))
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for (name, mine), theirs in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("objective", ["bce", "softmax", "sampled_softmax"])
def test_learns(objective: str, positions: Literal["last", "all"]) -> None:
    model = new_model(objective=objective, init_std=0.1, gcn=positions == "last")
    config = TrainConfig(
        epochs=8, patience=0, batch_size=64, evaluation_negatives=20, positions=positions, sampled_items=30
    )
    state = loop.fit(model, training_data(), config, objective=objective)
    assert state.records[-1]["loss"] < state.records[0]["loss"]
    assert state.records[state.best_epoch - 1]["uauc"] > 0.9
    assert not model.scn.item_embedding.weight[0].any()


def test_the_best_epoch_is_kept_and_patience_ends_the_run() -> None:
    config = TrainConfig(epochs=50, patience=2, batch_size=64, learning_rate=0.02)
    model, data = new_model(), training_data()
    state = loop.fit(model, data, config)
    values = [record["ndcg@10"] for record in state.records]
    assert state.best_epoch == int(np.argmax(values)) + 1
    assert len(values) == state.best_epoch + 2 or len(values) == 50
    scores = score_candidates(model, data.validation.histories, data.validation.candidates)
    assert ranking_metrics(scores)["ndcg@10"] == values[state.best_epoch - 1]


class StopAfter(loop.Listener):
    """Interrupts a run after some steps, as Ctrl-C does."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step(self, loss: float) -> None:
        assert loss > 0
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


RELEASED = TrainConfig(epochs=3, patience=0, batch_size=64, schedule="cosine", alone_weight=0.5)
EVERY_POSITION = TrainConfig(
    epochs=3, patience=0, batch_size=64, positions="all", ahead=3, schedule="linear", warmup=0.5, average=0.9
)


@pytest.mark.parametrize(
    ("steps", "config", "objective", "gcn"),
    [
        (25, RELEASED, "bce", True),
        (34, dataclasses.replace(RELEASED, table_optimizer="rowwise_adagrad"), "softmax", True),
        (28, EVERY_POSITION, "sampled_softmax", False),
        (34, dataclasses.replace(EVERY_POSITION, table_optimizer="adamw"), "sampled_softmax", False),
    ],
)
def test_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, config: TrainConfig, objective: str, gcn: bool
) -> None:
    monkeypatch.setattr(loop.CheckpointClock, "is_due", lambda _: True)  # a checkpoint after every step
    data = training_data()
    whole = new_model(dropout=0.2, gcn=gcn)
    expected = loop.fit(whole, data, config, objective=objective)
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        loop.fit(
            new_model(dropout=0.2, gcn=gcn),
            data,
            config,
            objective=objective,
            checkpoint=checkpoint,
            listener=StopAfter(steps),
        )
    torch.manual_seed(99)
    resumed = build_model(ModelConfig(vocab_size=ITEMS + 1, dropout=0.2, gcn=gcn))
    state = loop.fit(resumed, data, config, objective=objective, checkpoint=checkpoint, resume=True)
    assert state.records == expected.records
    for mine, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert mine.equal(theirs)


class Notes(loop.Listener):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def test_another_number_of_threads_is_said(tmp_path: Path) -> None:
    checkpoint, config = tmp_path / "checkpoint.safetensors", TrainConfig(epochs=1, patience=0, batch_size=64)
    data, threads = training_data(), torch.get_num_threads()
    loop.fit(new_model(), data, config, checkpoint=checkpoint)
    for now, said in ((threads, 0), (threads + 1, 1)):
        listener = Notes()
        torch.set_num_threads(now)
        try:
            loop.fit(new_model(), data, config, checkpoint=checkpoint, resume=True, listener=listener)
        finally:
            torch.set_num_threads(threads)
        assert len(listener.notes) == said
    assert listener.notes[0].startswith(
        f"the checkpoint was made with {threads} threads, this process has {threads + 1}"
    )


def test_damaged_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    config = TrainConfig(epochs=1, batch_size=64)
    loop.fit(new_model(), training_data(), config, checkpoint=checkpoint)
    whole = checkpoint.read_bytes()
    for damaged in (whole[:1000], whole[: len(whole) // 2], b"", whole.replace(b'"state"', b'"stade"')):
        checkpoint.write_bytes(damaged)
        with pytest.raises(CocorrrecError, match="not a checkpoint of this run"):
            loop.fit(new_model(), training_data(), config, checkpoint=checkpoint, resume=True)


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    model = new_model()
    with torch.no_grad():
        model.scn.output_norm.weight.fill_(float("inf"))
    with pytest.raises(CocorrrecError, match="the loss is nan, not a finite number, at epoch 1, step 1: try a"):
        loop.fit(model, training_data(), TrainConfig(batch_size=64))


def test_the_average_of_the_weights_is_what_is_kept() -> None:
    data, config = training_data(), TrainConfig(epochs=1, batch_size=64, average=0.5)
    averaged, last = new_model(), new_model()
    by_hand: dict[str, torch.Tensor] = {}

    class Follow(loop.Listener):
        def on_step(self, loss: float) -> None:  # noqa: ARG002
            for name, x in last.state_dict().items():
                by_hand[name] = 0.5 * by_hand[name] + 0.5 * x if name in by_hand else x.clone()

    loop.fit(averaged, data, config)
    loop.fit(last, data, dataclasses.replace(config, average=0.0), listener=Follow())
    for name, x in averaged.state_dict().items():
        torch.testing.assert_close(x, by_hand[name], msg=lambda text, name=name: f"{name}: {text}")


def test_a_step_trains_on_what_its_loss_says() -> None:
    """The sampled loss over every position, put together by hand from the plain model's states."""
    data = training_data()
    windows = training_windows(data.interactions, length=10, rng=np.random.default_rng(3))
    batch = loop.Batch.of(windows.cut(np.arange(9)))
    config = TrainConfig(positions="all", sampled_items=25)
    ours, plain = new_model(gcn=False, item_side="dot"), new_model(gcn=False, item_side="dot")
    loss = loop.Step(ours, data, config, "sampled_softmax")(batch, np.random.default_rng(8))
    ids, wanted = (torch.from_numpy(x).long() for x in (batch.histories, batch.targets))
    states = plain.states(ids, plain.item_embedding(ids))[wanted != 0]
    targets = wanted[wanted != 0]
    drawn = torch.from_numpy(np.random.default_rng(8).integers(1, ITEMS + 1, 25))
    items = torch.cat((targets, drawn))
    clicks = training_counts(data.interactions)
    log_q = np.log(25 / ITEMS + len(targets) * clicks / clicks.sum())[items.numpy()]
    logits = states @ plain.item_embedding(items).T
    expected = sampled_softmax_loss(logits, targets, items, torch.from_numpy(log_q).float())
    torch.testing.assert_close(loss, expected.detach())
    expected.backward()
    for (name, mine), theirs in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_sampled_softmax_of_the_whole_catalog_is_the_softmax() -> None:
    logits = torch.randn(1, 8, generator=torch.Generator().manual_seed(2))
    target = torch.tensor([5])
    order = torch.tensor([5, 1, 2, 3, 4, 6, 7])
    once = torch.zeros(len(order))
    torch.testing.assert_close(
        sampled_softmax_loss(logits[:, order], target, order, once), softmax_loss(logits, target)
    )


def test_sampled_softmax_by_hand() -> None:
    """Two targets; the first is drawn again, which does not count, and a wrong item counts by how rare it is."""
    logits = torch.tensor([[1.0, 0.0, 1.0, 2.0], [0.5, 0.5, 0.5, 0.0]])
    targets, candidates = torch.tensor([3, 4]), torch.tensor([3, 4, 3, 7])
    expected = torch.tensor([2.0, 1.0, 2.0, 0.5])
    first = np.exp(1) / 2 / (np.exp(1) / 2 + 1 + np.exp(2) / 0.5)
    second = np.exp(0.5) / (np.exp(0.5) + 2 * np.exp(0.5) / 2 + 1 / 0.5)
    loss = sampled_softmax_loss(logits, targets, candidates, expected.log())
    assert loss.item() == pytest.approx(-(np.log(first) + np.log(second)) / 2)


def test_expected_counts_by_hand() -> None:
    counts = ExpectedCounts(np.array([0, 6, 2, 0])).of(np.array([3, 1, 2, 1]), targets=4, sampled=9)
    np.testing.assert_allclose(counts, [3, 3 + 3, 3 + 1, 3 + 3])


def test_the_learning_rate_rises_and_falls() -> None:
    data, config = training_data(), TrainConfig(epochs=4, patience=0, batch_size=545, schedule="linear", warmup=2.0)
    seen: list[float] = []

    class Watch(loop.Listener):
        def on_step(self, loss: float) -> None:  # noqa: ARG002
            seen.append(optimisers[0].param_groups[0]["lr"] / config.learning_rate)

    optimisers: list[torch.optim.Optimizer] = []
    original = torch.optim.AdamW.__init__

    def remember(self: torch.optim.AdamW, *arguments: Any, **options: Any) -> None:
        optimisers.append(self)
        original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "__init__", remember)
        loop.fit(new_model(), data, config, listener=Watch())
    assert len(data.train) == 1080
    np.testing.assert_allclose(
        seen, [1 / 4, 7 / 8 * 2 / 4, 6 / 8 * 3 / 4, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8], rtol=1e-6
    )


def test_models_without_a_state_per_click_say_so() -> None:
    data, config = training_data(), TrainConfig(positions="all", batch_size=64)
    for options, message in (
        ({"architecture": "din"}, "din does not have one user state per click"),
        ({"architecture": "bert4rec"}, "bert4rec does not have"),
        ({"correction": "kernel"}, "correction 'kernel' is computed from the whole upload"),
    ):
        with pytest.raises(UsageError, match=message):
            loop.fit(new_model(**options), data, config)


def test_softmax_never_draws_padding() -> None:
    logits = torch.zeros(2, 5)
    logits[:, 0] = 100.0
    assert softmax_loss(logits, torch.tensor([1, 2])).item() == pytest.approx(np.log(4))


def test_model_folder(tmp_path: Path) -> None:
    data = csv_file(tmp_path / "clicks.csv")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "run.json").write_text("{}")  # left by a run that was stopped before its first checkpoint
    titles = tmp_path / "titles.csv"
    titles.write_text("item,title\n1,One\n2,Two\n")
    config = RunConfig(model={"dropout": 0.1}, training=TrainConfig(epochs=2, batch_size=64, evaluation_negatives=20))
    folder = train(data, config, tmp_path / "m", name="walk", titles=titles)
    names = {
        "model.toml",
        "weights.safetensors",
        "evaluation.safetensors",
        "items.csv.gz",
        "metrics.jsonl",
        "training.png",
    }
    assert {path.name for path in folder.path.iterdir()} == names
    assert open_model(folder.path) == folder
    model = load_model(folder)
    shipped, remade = held_out_set(folder), held_out_set(folder, data)
    assert shipped.histories.equal(remade.histories) and shipped.candidates.equal(remade.candidates)
    measured = evaluate_model(model, shipped)
    assert measured == {way: folder.metrics[way] for way in ("corrected", "alone")}
    assert metrics_of(model, remade) == {key: value for key, value in folder.metrics.items() if key != "validation"}
    assert len((folder.path / "metrics.jsonl").read_text().splitlines()) == 2
    assert (folder.path / "training.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="holds files already"):
        train(data, config, tmp_path / "m", name="walk")
    other = tmp_path / "other.csv"
    other.write_text("user,item,timestamp\n" + "\n".join(f"u,i{t},{t}" for t in range(30)))
    with pytest.raises(CocorrrecError, match="this is not its data"):
        held_out_set(folder, other)


def test_a_titles_file_with_a_fault_is_refused_before_the_training(tmp_path: Path) -> None:
    data = csv_file(tmp_path / "clicks.csv")
    (tmp_path / "titles.csv").write_text("item,name\n1,One\n")
    config = RunConfig(training=TrainConfig(evaluation_negatives=20))
    with pytest.raises(UsageError, match="no column 'title'"):
        train(data, config, tmp_path / "m", name="walk", titles=tmp_path / "titles.csv")
    assert not (tmp_path / "m").exists()


def test_weights_only_folder_names_no_user_and_no_item(tmp_path: Path) -> None:
    data = csv_file(tmp_path / "clicks.csv")
    config = RunConfig(training=TrainConfig(epochs=1, batch_size=64, evaluation_negatives=20))
    folder = train(data, config, tmp_path / "m", name="walk", weights_only=True)
    assert {path.name for path in folder.path.iterdir()} == {
        "model.toml",
        "weights.safetensors",
        "metrics.jsonl",
        "training.png",
    }
    with pytest.raises(CocorrrecError, match="give the interactions with --data FILE"):
        held_out_set(folder)
    assert evaluate_model(load_model(folder), held_out_set(folder, data))["corrected"] == folder.metrics["corrected"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[trainin]\nseed = 1\n", r"unknown table \[trainin\] .did you mean 'training'"),
        ("[training]\nepoch = 1\nsed = 2\n", "unknown key 'epoch'.*unknown key 'sed'"),
        ("[training]\nlearning_rate = -1.0\n", "learning_rate must be above 0"),
        ("[training]\nahead = 5\n", "ahead 5 needs positions 'all', they are 'last'"),
        ("[training]\nmonitor = 'auc'\n", "monitor must be one of uauc"),
        ("[model]\nvocab_size = 9\n", "vocab_size is decided by the data"),
        ("[model]\nhidden_size = 'big'\n", "hidden_size must be int, got 'big'"),
        ("[data]\ncolumns = 3\n", "columns must be a table"),
        (
            "[data.filters]\nmin_item = 3\n",
            "unknown key 'min_item' .did you mean 'min_item_interactions'. known: drop_repeats",
        ),
        ("training = 3\n", r"\[training\] must be a table"),
        ("[training\n", "not valid TOML"),
    ],
)
def test_config_file_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "train.toml"
    path.write_text(text)
    with pytest.raises(CocorrrecError, match=message) as raised:
        RunConfig.read(path)
    assert str(raised.value).startswith(str(path))


def test_options_replace_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text("[training]\nseed = 1\nepochs = 4\n[data.columns]\nuser = 'u'\n")
    config = RunConfig.read(path, {"training.seed": 9, "data.columns.item": "i", "model.gcn": False})
    assert dataclasses.asdict(config.data.columns) == {"user": "u", "item": "i", "time": "", "rating": ""}
    assert (config.training.seed, config.training.epochs, config.model) == (9, 4, {"gcn": False})


def run_cli(*args: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from cocorrrec_export.cli.export.app import main; main()", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def test_ctrl_c_and_resume_on_the_command_line(tmp_path: Path) -> None:
    data = csv_file(tmp_path / "clicks.csv")
    config = tmp_path / "train.toml"
    config.write_text("[training]\nepochs = 20\npatience = 0\nbatch_size = 16\nevaluation_negatives = 20\n")
    out = tmp_path / "m"
    command = ("train", "--data", data, "--config", config, "--out", out)
    running = run_cli(*command)
    deadline = time.monotonic() + 60
    while not (out / "checkpoint.safetensors").exists():
        assert time.monotonic() < deadline, running.stderr
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "interrupted" in errors and "Traceback" not in errors
    assert {path.name for path in out.iterdir()} == {"checkpoint.safetensors", "run.json"}
    refused = run_cli(*command)
    assert "continue with --resume" in refused.communicate(timeout=60)[1] and refused.returncode == 2
    changed = run_cli(*command, "--seed", 5, "--resume")
    assert "training.seed was 1, is 5" in changed.communicate(timeout=60)[1] and changed.returncode == 2
    resumed = run_cli(*command, "--resume", "--json")
    result, errors = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, errors
    assert json.loads(result)["path"] == str(out)
    assert not (out / "checkpoint.safetensors").exists()


def vector_config(*, refit: str = "", **model: object) -> RunConfig:
    """Both halves, and which are trained again with the validation clicks: none, the cloud's or all."""
    training = {"epochs": 2, "patience": 0, "batch_size": 120, "evaluation_negatives": 20, "sampled_items": 30}
    cloud = {"epochs": 3, "ahead": 2, "refit": bool(refit)}
    training |= {"refit": refit == "all"}
    tables = {"model": {"cloud_length": 11, "cloud_networks": 2} | model, "training": training, "cloud": cloud}
    return RunConfig.from_tables(tables, {}, where="test", defaults=recipes.best("cocorrrec"))


def test_both_halves_by_one_command(tmp_path: Path) -> None:
    """The cloud changes nothing of the phone, its weight is the best on validation, and the controls are written."""
    data = csv_file(tmp_path / "clicks.csv")
    folder = train(data, vector_config(), tmp_path / "m", name="walk")
    alone = train(data, vector_config(correction="none"), tmp_path / "alone", name="walk")
    assert not list(folder.path.glob("checkpoint*")) and not (folder.path / "run.json").exists()
    whole, phone = load_model(folder), load_model(alone)
    assert isinstance(whole, CoCorrRec)
    for name, x in phone.state_dict().items():
        assert x.equal(whole.state_dict()[name]), name
    assert folder.metrics["alone"] == alone.metrics["alone"] and "corrected" not in alone.metrics
    assert set(folder.metrics["paired"]) == {"own", "other", "mean", "short"}
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [row.get("network") for row in rows] == [None, None, 1, 1, 1, 2, 2, 2]
    held_out = training_data().validation
    users = whole.user_state(held_out.histories.long(), corrected=False)
    memory = held_out.memory(slice(0, len(held_out)), 11)
    assert isinstance(whole.gcn, VectorCloud) and memory is not None
    vectors = whole.gcn.mean(memory, whole.item_embedding(memory))
    monitor = vector_config().cloud_training().monitor
    found = {
        weight: loop.record_of(
            measure(whole, held_out, user=lambda rows, w=weight: (users + w * vectors)[rows]), monitor
        )
        for weight in WEIGHTS
    }
    values = {weight: loop.monitored(record, monitor) for weight, record in found.items()}
    chosen = min(WEIGHTS, key=lambda weight: abs(weight - whole.gcn.weight.item()))
    assert values[chosen] == pytest.approx(max(values.values()), abs=1e-6)


class Stages(loop.Listener):
    """Which epochs of which stage were trained."""

    def __init__(self) -> None:
        self.epochs: dict[str, list[int]] = {}

    def on_stage(self, name: str, epochs: int) -> None:
        self._now = self.epochs.setdefault(f"{name}: {epochs}", [])

    def on_epoch_end(self, record: dict[str, float], *, best: bool) -> None:  # noqa: ARG002
        self._now.append(int(record["epoch"]))


@pytest.mark.parametrize("which", ["cloud", "all"])
def test_a_refit_adds_the_validation_clicks_and_keeps_what_validation_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    read: list[int] = []
    real = loop.training_windows

    def windows(*args: Any, held_out: int, **options: Any) -> Windows:
        read.append(held_out)
        return real(*args, held_out=held_out, **options)

    monkeypatch.setattr(loop, "training_windows", windows)
    data = csv_file(tmp_path / "clicks.csv")
    before = load_model(train(data, vector_config(), tmp_path / "before", name="walk"))
    read.clear()
    stages = Stages()
    folder = train(data, vector_config(refit=which), tmp_path / "m", name="walk", listener=stages)
    assert not list(folder.path.glob("checkpoint*"))
    text = (folder.path / "metrics.jsonl").read_text()
    assert text == (tmp_path / "before/metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    best = [max((r for r in rows if r.get("network") == n), key=lambda r: r["expected:ndcg@10"]) for n in (1, 2)]
    epochs = [int(row["epoch"]) for row in best]
    phone = int(folder.metrics["validation"]["epoch"])
    again = {
        f"cloud network {n} of 2, with the newest clicks: {k}": [*range(1, k + 1)] for n, k in enumerate(epochs, 1)
    }
    if which == "all":
        again[f"on-device model, with the newest clicks: {phone}"] = [*range(1, phone + 1)]
    first = {"on-device model: 2": [1, 2], "cloud network 1 of 2: 3": [1, 2, 3], "cloud network 2 of 2: 3": [1, 2, 3]}
    assert stages.epochs == first | again
    assert read == [2] * 8 + [1] * sum(map(len, again.values()))
    for name, x in load_model(folder).state_dict().items():
        kept = name == "gcn.weight" or (which == "cloud" and not name.startswith("gcn"))
        kept |= ".recall." in name  # no history here is longer than the phone's
        assert x.equal(before.state_dict()[name]) == kept, name


@pytest.mark.parametrize("positions", ["last", "all"])
def test_a_refit_trains_from_the_start_as_long_as_validation_chose(
    tmp_path: Path, positions: Literal["last", "all"]
) -> None:
    training = {"epochs": 3, "patience": 0, "batch_size": 64, "evaluation_negatives": 20, "positions": positions}
    tables = {"model": {"architecture": "gru4rec"}, "training": training | {"refit": True, "learning_rate": 0.02}}
    config = RunConfig.from_tables(tables, {}, where="test")
    folder = train(csv_file(tmp_path / "clicks.csv"), config, tmp_path / "m", name="walk")
    data = training_data()
    newest = data.newest()
    assert len(newest.train) == len(data.train) + data.interactions.num_users
    expected = new_model(architecture="gru4rec")
    chosen = int(folder.metrics["validation"]["epoch"])
    loop.fit(expected, newest, config.training, epochs=chosen)
    for name, x in load_model(folder).state_dict().items():
        assert x.equal(expected.state_dict()[name]), name


@pytest.mark.parametrize("monitor", ["expected:hr@5", "full:ndcg@10", "both:ndcg@20", "both:expected:ndcg@10"])
def test_the_monitored_metric_picks_the_epoch(tmp_path: Path, monitor: str) -> None:
    training = {"epochs": 4, "patience": 0, "batch_size": 120, "evaluation_negatives": 30, "sampled_items": 30}
    tables = {"model": {"correction": "none"}, "training": training | {"monitor": monitor}}
    config = RunConfig.from_tables(tables, {}, where="test", defaults=recipes.best("cocorrrec", "none"))
    folder = train(csv_file(tmp_path / "clicks.csv"), config, tmp_path / "m", name="walk")
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    values = [loop.monitored(row, monitor) for row in rows]
    assert folder.metrics["validation"]["epoch"] == np.argmax(values) + 1


@pytest.mark.parametrize(
    ("reader", "kinds"), [("attention", "AAAA"), ("gru", "GGGG"), ("recall", "RRRR"), ("both", "GAGA")]
)
def test_networks_of_a_cloud_are_trained_from_seeds_of_their_own(
    monkeypatch: pytest.MonkeyPatch, reader: CloudReader, kinds: str
) -> None:
    seen: list[tuple[str, int, int]] = []

    def watch(model: cloud.CloudTrainee, _: object, config: TrainConfig, **options: object) -> RunState:  # noqa: ARG001
        recalls = getattr(model.reader, "recall", None) is not None
        seen.append(("R" if recalls else type(model.reader).__name__[0], config.ahead, config.seed))
        return RunState(records=[{}])

    monkeypatch.setattr(cloud, "fit", watch)
    model = new_model(correction="none", item_side="dot")
    config = ModelConfig(
        vocab_size=ITEMS + 1, correction="vector", item_side="dot", cloud_reader=reader, cloud_networks=4
    )
    training = TrainConfig(ahead=5, positions="all", seed=3)
    cloud.train_cloud(
        model,
        config,
        training_data(),
        training,
        checkpoints=lambda _: Path("none"),
        resume=False,
        listener=loop.Listener(),
    )
    assert seen == [(kind, 5, 300 + index) for index, kind in enumerate(kinds)]


def test_a_run_of_both_halves_is_resumed_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in each part, one after the other: either half, and either half again with the newest clicks."""
    monkeypatch.setattr(loop.CheckpointClock, "is_due", lambda _: True)
    data = csv_file(tmp_path / "clicks.csv")
    config = vector_config(refit="all")
    expected = train(data, config, tmp_path / "whole", name="walk")
    parts = ("", "-cloud-1", "-cloud-2", "-refit", "-cloud-1-refit")
    for resume, (steps, part) in enumerate(zip((3, 23, 36, 41, 19), parts, strict=True)):
        with pytest.raises(KeyboardInterrupt):
            train(data, config, tmp_path / "m", name="walk", resume=resume > 0, listener=StopAfter(steps))
        assert max((tmp_path / "m").glob("checkpoint*"), key=os.path.getmtime).stem == f"checkpoint{part}"
    torch.manual_seed(7)
    resumed = train(data, config, tmp_path / "m", name="walk", resume=True)
    assert resumed.sha256 == expected.sha256
    assert (tmp_path / "m/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("", {}, ("vector", "dot", "sampled_softmax", "all", 0.002)),
        ("", {"model.correction": "kernel"}, ("kernel", "dot", "sampled_softmax", "last", 0.002)),
        ("[model]\ngcn = false\n[training]\nlearning_rate = 0.1\n", {}, ("none", "dot", "sampled_softmax", "all", 0.1)),
        ("[model]\nobjective = 'bce'\n", {"model.architecture": "din"}, ("none", "mlp", "bce", "last", 0.002)),
        ("[model]\narchitecture = 'gru4rec'\n", {}, ("none", "dot", "sampled_softmax", "all", 0.005)),
    ],
)
def test_the_best_recipe_gives_way_to_what_is_said(
    tmp_path: Path, text: str, overrides: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    path = tmp_path / "train.toml"
    path.write_text(text)
    config = recipes.read_settings(path, overrides, "best")
    model = ModelConfig.from_dict(config.model | {"vocab_size": 9}, where="test")
    found = (model.correction, model.item_side, model.objective)
    assert (*found, config.training.positions, config.training.learning_rate) == expected
    assert config.cloud_training().ahead == (20 if model.correction == "vector" else 1) and config.training.ahead == 1
    paper = recipes.read_settings(path, overrides, "paper")
    assert paper == RunConfig.read(path, overrides)
    with pytest.raises(UsageError, match="unknown recipe 'bets'"):
        recipes.read_settings(path, overrides, "bets")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"sequence_length": 7}, 10),
        ({"sequence_length": 19}, 19),
        ({"sequence_length": 26}, 10),
        ({"sequence_length": 19, "mini_batch": 4}, 4),
        ({"sequence_length": 19, "architecture": "gru4rec"}, 10),
    ],
)
def test_the_best_recipe_reads_a_short_history_as_one_mini_batch(said: dict[str, Any], expected: int) -> None:
    config = recipes.read_settings(None, {f"model.{key}": value for key, value in said.items()}, "best")
    assert ModelConfig.from_dict(config.model | {"vocab_size": 9}, where="test").mini_batch == expected
    with pytest.raises(UsageError, match="sequence_length must be int, got 'long'"):
        recipes.read_settings(None, {"model.sequence_length": "long"}, "best")


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_the_best_recipe_trains_every_architecture(architecture: Architecture) -> None:
    tables = recipes.best(architecture)
    model = new_model(architecture=architecture, **tables["model"])
    training = TrainConfig.from_dict(tables["training"] | {"epochs": 1, "sampled_items": 20}, where="test")
    state = loop.fit(model, training_data(), training, objective=tables["model"]["objective"])
    assert state.records[0]["loss"] > 0 and model.item_embedding.weight.isfinite().all()
