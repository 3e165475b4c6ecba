"""A model continued on newer data: items by their own ids, everything else as it was."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cocorrrec_export
from cocorrrec_export.data.catalogue import encode_catalogue, read_titles
from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.sources import DataSource
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.importing.importer import Items, export_weights, import_model
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.store import ModelFolder, load_model, open_model
from cocorrrec_export.training import loop
from cocorrrec_export.training.continuation import read_continued_settings
from cocorrrec_export.training.recipes import read_settings
from cocorrrec_export.training.run import RunConfig, train
from cocorrrec_export.training.start import NEW_ITEMS, Start
from tests.models import model_folder

OLD = [f"i{number:02}" for number in range(59)]  # what tests.models has rows for
NEW = ["a new one", *OLD[:20], *OLD[22:], "z new"]
"""Two items came, one in front of all others, and two went."""


def clicks_of(items: list[str], path: Path, *, users: int = 60, seed: int = 0) -> Path:
    """Users who walk through the items in steps of one."""
    starts = random.Random(seed)
    rows = ["user,item,timestamp"]
    for user in range(users):
        first = starts.randrange(len(items))
        rows += [f"{user},{items[(first + step) % len(items)]},{1_600_000_000 + step}" for step in range(12)]
    path.write_text("\n".join(rows))
    return path


def interactions_of(items: list[str]) -> Interactions:
    rows = np.arange(len(items), dtype=np.int32) + 1
    return Interactions(rows, np.array([0, len(rows)]), items, ["u"])


def named(folder: ModelFolder, items: list[str]) -> ModelFolder:
    """A model with external ids."""
    folder.items_path.write_bytes(encode_catalogue(items, titles=None, columns=Columns()))
    return folder


OPTIONS: list[dict[str, Any]] = [
    {"correction": "vector", "cloud_networks": 2},
    {"correction": "kernel"},
    {"architecture": "sasrec"},  # its table of positions has V rows
    {"architecture": "sasrec", "output_bias": True, "head": "none", "position_table": "history"},
    {"architecture": "bert4rec", "mask_token": True, "output_bias": True, "head": "mlm"},
    {"architecture": "gru4rec"},
    {"architecture": "mamba4rec"},
    {"architecture": "din"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_known_items_score_as_before(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = named(model_folder(tmp_path / "m", users=False, **options), OLD)
    start = Start.of(folder, interactions_of(NEW))
    assert (start.kept, start.new, start.gone) == (57, 2, 2)
    config = dataclasses.replace(folder.config, vocab_size=len(NEW) + 1)
    model = build_model(config, generator=torch.Generator().manual_seed(3)).eval()
    start.apply(model)
    known = [item for item in NEW if item in OLD]
    ours, theirs = (torch.tensor([[items.index(each) + 1 for each in known]]) for items in (NEW, OLD))
    old = load_model(folder)
    for corrected in {False, old.gcn is not None}:
        scores = [m(x[:, 5:14], x, corrected=corrected) for m, x in ((model, ours), (old, theirs))]
        torch.testing.assert_close(*scores)
    rows = model.item_embedding.weight
    assert not rows[0].any()
    mean = old.item_embedding.weight[1:].mean(0)
    for new in (1, len(NEW)):
        assert 0 < float((rows[new] - mean).detach().abs().max()) < 6 * config.init_std


def test_a_model_without_the_ids_of_other_items_cannot_be_continued(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", users=False)
    with pytest.raises(UsageError, match="came without the external ids"):
        Start.of(folder, interactions_of(NEW))
    same = dataclasses.replace(folder, data={"vocabulary_sha256": interactions_of(OLD).vocabulary_sha256})
    assert Start.of(same, interactions_of(OLD)).kept == 59
    with pytest.raises(UsageError, match="none of the 3 items of the data, such as 'x'"):
        Start.of(named(folder, OLD), interactions_of(["x", "y", "z"]))
    named(folder, OLD[:-1])
    with pytest.raises(CocorrrecError, match="holds 58 items, the model has 59"):
        Start.of(folder, interactions_of(NEW))
    replaced = dataclasses.replace(folder, files={"items.csv.gz": "0" * 64})
    with pytest.raises(CocorrrecError, match="damaged or replaced"):
        Start.of(replaced, interactions_of(NEW))


TRAINING = {"epochs": 2, "patience": 0, "batch_size": 120, "evaluation_negatives": 20, "sampled_items": 30}


def vector_run(tmp_path: Path) -> tuple[ModelFolder, Path]:
    """A trained model of both halves, and the newer data."""
    data = clicks_of(OLD, tmp_path / "old.csv")
    titles = tmp_path / "titles.csv"
    titles.write_text("item,title\n" + "\n".join(f"{item},Title of {item}" for item in OLD))
    tables = {
        "model": {"correction": "vector", "cloud_length": 11, "objective": "sampled_softmax"},
        "training": TRAINING | {"positions": "all"},
        "cloud": {"epochs": 3},
    }
    config = RunConfig.from_tables(tables, {}, where="test")
    return train(data, config, tmp_path / "old", name="old", titles=titles), clicks_of(
        NEW, tmp_path / "new.csv", seed=1
    )


class StopAfter(loop.Listener):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step(self, loss: float) -> None:  # noqa: ARG002
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_both_halves_are_continued_and_resumed_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.CheckpointClock, "is_due", lambda _: True)
    source, data = vector_run(tmp_path)
    config = read_continued_settings(source, data, None, {}, None)
    assert (
        config.training == RunConfig.from_tables({"training": TRAINING | {"positions": "all"}}, {}, where="").training
    )
    assert config.cloud == {"epochs": 3}
    folder = train(data, config, tmp_path / "new", name="new", source=source)
    said = {"model": "old", "sha256": source.sha256, "items_kept": 57, "items_new": 2, "items_gone": 2}
    assert folder.training["continued"] == said | {"new_items": NEW_ITEMS}
    assert set(folder.metrics["before"]) == {"corrected", "alone", "full"}
    assert folder.metrics["corrected"]["uauc"] > folder.metrics["before"]["corrected"]["uauc"]
    titles = read_titles(folder.items_path)
    assert (titles[1], titles[2]) == ("a new one", "Title of i00")
    for steps in (8, 20):  # in the on-device model's training, and in the cloud's
        out = tmp_path / f"stopped-{steps}"
        with pytest.raises(KeyboardInterrupt):
            train(data, config, out, name="new", source=source, listener=StopAfter(steps))
        with pytest.raises(UsageError, match=r"from was '[0-9a-f]{64}', is None"):
            train(data, config, out, name="new", resume=True)
        assert train(data, config, out, name="new", source=source, resume=True).sha256 == folder.sha256


def test_settings_come_from_the_model_and_may_not_contradict_it(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", users=False, hidden_size=32, num_heads=2)
    data = tmp_path / "clicks.csv"
    config = read_continued_settings(folder, data, None, {"training.seed": 5, "model.dropout": 0.3}, None)
    model = ModelConfig.from_dict(config.model | {"vocab_size": 60}, where="test")
    recipe = {"user_dropout": False, "objective": "sampled_softmax"}
    assert model == dataclasses.replace(folder.config, dropout=0.3, **recipe)
    assert (config.training.seed, config.training.positions) == (5, "last")  # the recipe of a kernel's cloud
    assert read_continued_settings(folder, data, None, {}, "paper").training.learning_rate == 0.005
    path = tmp_path / "train.toml"
    path.write_text("[model]\nhidden_size = 64\nnum_heads = 2\n")
    with pytest.raises(UsageError, match="hidden_size is 32 there, 64 was asked for; leave the options out"):
        read_continued_settings(folder, data, path, {}, None)
    with pytest.raises(UsageError, match="architecture is 'cocorrrec' there, 'din' was asked for"):
        read_continued_settings(folder, data, None, {"model.architecture": "din"}, None)
    with pytest.raises(UsageError, match="unknown recipe 'bset'"):
        read_continued_settings(folder, data, None, {}, "bset")
    path.write_text("[model]\nhiden_size = 64\n")
    with pytest.raises(UsageError, match="unknown key 'hiden_size'"):
        read_continued_settings(folder, data, path, {}, None)


@pytest.mark.parametrize("options", [{}, {"attention": "causal"}], ids=["both", "causal"])
def test_an_imported_model_is_continued(tmp_path: Path, options: dict[str, Any]) -> None:
    order = random.Random(0).sample(OLD, len(OLD))  # not sorted: the other library's own order
    weights = tmp_path / "weights.safetensors"
    config = {"architecture": "bert4rec", "output_bias": True, **options}
    export_weights(model_folder(tmp_path / "m", users=False, **config), "plain", weights)
    (tmp_path / "items.csv").write_text("item\n" + "\n".join(order))
    import_model(weights, tmp_path / "imported", {}, items=Items(tmp_path / "items.csv", DataSource()))
    source = open_model(tmp_path / "imported")
    data = clicks_of(NEW, tmp_path / "new.csv")
    settings = read_continued_settings(
        source, data, None, {"training.epochs": 1, "training.evaluation_negatives": 20}, None
    )
    folder = train(data, settings, tmp_path / "new", name="new", source=source)
    assert folder.training["positions"] == ("all" if options else "last")
    assert folder.training["continued"]["items_kept"] == 57
    assert "item_order" not in folder.data and folder.config.output_bias


def test_from_python(tmp_path: Path) -> None:
    """By path, by folder, and contradicted."""
    source = named(model_folder(tmp_path / "m", users=False, architecture="gru4rec"), OLD)
    data = clicks_of(NEW, tmp_path / "new.csv", users=40)
    settings = {"training.epochs": 1, "training.evaluation_negatives": 20, "training.sampled_items": 30}
    for index, given in enumerate((source, str(source.path))):
        folder = cocorrrec_export.train(data, tmp_path / f"new-{index}", settings=settings, source=given)
        assert folder.training["continued"]["items_kept"] == 57
    more = settings | {"model.architecture": "din"}
    with pytest.raises(UsageError, match="architecture is 'gru4rec' there, 'din' was asked for"):
        cocorrrec_export.train(data, tmp_path / "other", settings=more, source=source)


@pytest.mark.slow
def test_a_daily_update(tmp_path: Path) -> None:
    """Last week's model, continued and trained again on this week's clicks, with 5% new items that half of them are on.

    Users of the new week walk in steps of two, so that the old model is wrong about them.
    """
    items = [f"i{number:02}" for number in range(63)]
    old = clicks_of(items[:60], tmp_path / "old.csv", users=150)
    lines, starts = old.read_text().splitlines(), random.Random(1)
    for user in range(150):
        first = starts.randrange(len(items))
        lines += [f"new{user},{items[(first + 2 * step) % len(items)]},{1_700_000_000 + step}" for step in range(12)]
    new = tmp_path / "new.csv"
    new.write_text("\n".join(lines))
    settings = {"training.evaluation_negatives": 20, "training.sampled_items": 40, "training.epochs": 30}
    config = read_settings(None, settings | {"model.architecture": "gru4rec"}, "best")
    source = train(old, config, tmp_path / "last-week", name="last-week")
    again = train(new, config, tmp_path / "again", name="again")
    few = read_continued_settings(source, new, None, {"training.epochs": 15}, None)
    continued = train(new, few, tmp_path / "continued", name="continued", source=source)
    assert continued.training["continued"]["items_new"] == 3 and continued.training["continued"]["items_gone"] == 0
    before, after, retrained = (
        found["alone"]["ndcg@10"] for found in (continued.metrics["before"], continued.metrics, again.metrics)
    )
    assert after > before + 0.05, "the old model does not know the new users' steps"
    assert after > retrained - 0.05, "with half the epochs it is nearly as good as one trained again"
