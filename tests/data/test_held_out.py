"""What a model is measured on: the interactions that it was trained on, others, or nobody knows."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.held_out import TEST, VALIDATION, evaluation_set, held_out_set
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.sources import DataSource, load_source, make_cut
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.modeling.store import ModelFolder, open_model, write_description
from cocorrrec_export.toml import read_toml
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.run import RunConfig, train
from tests.commands import Cli

CLICKS = [
    (f"u{user:02}", f"i{(7 * user + step) % 40:02}", 1_600_000_000 + step) for user in range(40) for step in range(9)
]


def write(path: Path, clicks: list[tuple[str, str, int]] = CLICKS) -> Path:
    table = pl.DataFrame(clicks, schema=["user", "item", "timestamp"], orient="row")
    if path.suffix == ".parquet":
        table.write_parquet(path)
    elif path.suffix == ".jsonl":
        table.write_ndjson(path)
    else:
        table.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


def load(path: Path) -> Interactions:
    return load_source(path, DataSource())


def test_the_digest_is_of_the_clicks_not_of_the_file(tmp_path: Path) -> None:
    expected = load(write(tmp_path / "a.csv"))
    formats = [write(tmp_path / f"a.{ending}") for ending in ("parquet", "jsonl", "tsv")]
    formats.append(write(tmp_path / "shuffled.csv", CLICKS[::-1]))
    renamed = pl.DataFrame(CLICKS, schema=["member", "film", "seconds"], orient="row")
    renamed = renamed.with_columns(pl.from_epoch("seconds").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    renamed.write_csv(tmp_path / "renamed.csv")
    columns = Columns(user="member", item="film", time="seconds")
    make_cut(tmp_path / "a.csv", DataSource(), tmp_path / "a.cut", user_ids=False)
    found = [load(path).sha256 for path in (*formats, tmp_path / "a.cut")]
    found.append(load_source(tmp_path / "renamed.csv", DataSource(columns=columns)).sha256)
    assert set(found) == {expected.sha256}


@pytest.mark.parametrize(
    "changed",
    [
        CLICKS[:-1],
        [*CLICKS[:-1], ("u39", "i05", CLICKS[-1][2])],
        [*CLICKS[:-1], (*CLICKS[-1][:2], CLICKS[-1][2] + 1)],
        [(*CLICKS[0][:2], CLICKS[1][2]), (*CLICKS[1][:2], CLICKS[0][2]), *CLICKS[2:]],
    ],
    ids=["a click less", "another item", "a later time", "another order"],
)
def test_other_clicks_have_another_digest(tmp_path: Path, changed: list[tuple[str, str, int]]) -> None:
    assert load(write(tmp_path / "a.csv")).sha256 != load(write(tmp_path / "b.csv", changed)).sha256


@pytest.fixture
def trained(tmp_path: Path) -> ModelFolder:
    config = RunConfig(training=TrainConfig(epochs=1, evaluation_negatives=20))
    return train(write(tmp_path / "clicks.csv"), config, tmp_path / "m", name="m")


OTHER = [*CLICKS[:-2], (*CLICKS[-2][:2], CLICKS[-1][2]), (*CLICKS[-1][:2], CLICKS[-2][2])]
"""Of the same items; the last user's last two clicks, of which one was trained on, have changed places."""


def test_evaluate_says_what_is_compared(tmp_path: Path, trained: ModelFolder, cli: Cli) -> None:
    other = write(tmp_path / "other.csv", OTHER)
    for data, compared, said in (
        (write(tmp_path / "again.parquet"), "same", "measured on the interactions that the model was trained on"),
        (other, "other", "warning: the model was trained on other interactions of the same items: it may have been"),
    ):
        ended = cli("evaluate", "--model", trained.path, "--data", data, "--json")
        assert ended.code == 0 and said in ended.stderr
        assert json.loads(ended.stdout)["interactions"] == compared
    own = cli("evaluate", "--model", trained.path, "--json")
    assert json.loads(own.stdout)["interactions"] == "own" and "trained on" not in own.stderr
    table = read_toml(trained.path / "model.toml")
    del table["data"]["interactions_sha256"]  # as of an earlier version
    write_description(trained.path, table)
    assert held_out_set(open_model(trained.path), other).compared == "unknown"
    more = write(tmp_path / "more.csv", [*CLICKS, ("u39", "new", CLICKS[-1][2] + 9)])
    ended = cli("evaluate", "--model", trained.path, "--data", more)
    assert ended.code == 1 and "this is not its data" in ended.stderr


def test_items_of_another_model_are_refused(tmp_path: Path, trained: ModelFolder, cli: Cli) -> None:
    """Where nothing but the vocabulary tells: the folder's own list of files was written again too."""
    write(tmp_path / "other.csv", [(user, item.replace("i", "j"), time) for user, item, time in CLICKS])
    config = RunConfig(training=TrainConfig(epochs=1, evaluation_negatives=20))
    other = train(tmp_path / "other.csv", config, tmp_path / "other", name="other")
    trained.items_path.write_bytes(other.items_path.read_bytes())
    for files in (trained.files, trained.files | {"items.csv.gz": other.files["items.csv.gz"]}):
        write_description(trained.path, read_toml(trained.path / "model.toml") | {"files": files})
        ended = cli("train", "--from", trained.path, "--data", tmp_path / "clicks.csv", "--out", tmp_path / "new")
        assert ended.code == 1, ended.stderr
        expected = "damaged or replaced" if files == trained.files else "holds other items than model m was made with"
        assert expected in ended.stderr
        assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_exports_say_whose_clicks_were_ranked(tmp_path: Path, trained: ModelFolder, cli: Cli) -> None:
    data, other = tmp_path / "clicks.csv", write(tmp_path / "other.csv", OTHER)
    made = cli("scn", "--target", "onnx", "--model", trained.path, "--data", data, "--out", tmp_path / "dist", "--json")
    assert made.code == 0, made.stderr
    found = json.loads(made.stdout)
    assert found["manifest"]["parity"]["ranking"]["interactions"] == "same"
    checked = cli("parity", found["path"], "--model", trained.path, "--data", other, "--json")
    assert json.loads(checked.stdout)["parity"]["ranking"]["interactions"] == "other"
    assert "other interactions of the same items" in checked.stderr
    checked = cli("parity", found["path"], "--model", trained.path, "--json")
    assert json.loads(checked.stdout)["parity"]["ranking"]["interactions"] == "own"
    trained.items_path.write_bytes(b"damaged")
    made = cli("scn", "--target", "onnx", "--model", trained.path, "--out", tmp_path / "again")
    assert made.code == 1 and "damaged or replaced" in made.stderr and not (tmp_path / "again").exists()


MANY = [
    (f"u{user:03}", f"i{(7 * user + step) % 40:02}", 1_600_000_000 + step) for user in range(130) for step in range(9)
]


@pytest.mark.parametrize("most", [17, 129])
def test_of_many_users_some_are_measured(tmp_path: Path, most: int, cli: Cli) -> None:
    data = write(tmp_path / "clicks.csv", MANY)
    (tmp_path / "some.toml").write_text(
        f"[training]\nepochs = 1\nevaluation_negatives = 20\nevaluation_users = {most}\n"
    )
    ended = cli("train", "--config", tmp_path / "some.toml", "--data", data, "--out", tmp_path / "m")
    assert ended.code == 0, ended.stderr
    assert f"{most} of 130 users are drawn to measure the model on" in " ".join(ended.stderr.split())
    folder = open_model(tmp_path / "m")
    shipped, again = held_out_set(folder), held_out_set(folder, data)
    assert len(shipped) == most
    assert torch.equal(shipped.histories, again.histories.int()) and torch.equal(shipped.candidates, again.candidates)
    interactions = load(data)
    assert shipped.earlier is not None and again.earlier is not None
    for rows in (slice(0, 1), slice(most - 1, most)):
        assert (shipped.earlier.pairs(rows)[1] == again.earlier.pairs(rows)[1]).all()
    # Of each drawn user the own last click, and everything before it.
    whose = np.searchsorted(interactions.offsets, again.earlier.starts)
    assert (interactions.items[interactions.offsets[whose + 1] - 1] == shipped.candidates[:, 0].numpy()).all()


def test_validation_and_test_draw_the_same_users() -> None:
    data = Interactions(
        np.tile(np.arange(1, 10, dtype=np.int32), 50),
        np.arange(51) * 9,
        [str(item) for item in range(1, 20)],
        [str(u) for u in range(50)],
    )
    split, sampler = leave_last_out(data, sequence_length=5), NegativeSampler(data)
    drawn = {}
    for seed in (0, 1):
        parts = [
            evaluation_set(data, split, sampler, part=part, negatives=3, seed=seed, users=20).earlier
            for part in (VALIDATION, TEST)
        ]
        starts = [part.starts.tolist() for part in parts if part is not None]
        assert starts[0] == starts[1] and len(starts[0]) == len(set(starts[0])) == 20
        drawn[seed] = tuple(starts[0])
    assert drawn[0] != drawn[1]
    for users in (0, 50, 51):
        assert len(evaluation_set(data, split, sampler, part=TEST, negatives=3, seed=0, users=users)) == 50


@pytest.mark.parametrize("value", ["many", -1, 2.5, True])
@pytest.mark.parametrize("key", ["evaluation_users", "negatives", "evaluation_seed"])
def test_a_wrong_number_in_a_models_data_is_one_error(
    tmp_path: Path, trained: ModelFolder, key: str, value: object
) -> None:
    table = read_toml(trained.path / "model.toml")
    table["data"][key] = value
    write_description(trained.path, table)
    with pytest.raises(CocorrrecError, match=f"{key} must be a whole number from 0"):
        held_out_set(open_model(trained.path), tmp_path / "clicks.csv")
