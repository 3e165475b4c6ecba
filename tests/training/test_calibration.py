"""Codes that are fitted to training clicks: what changes, what does not, and what is refused."""

import dataclasses
import random
from pathlib import Path

import pytest
import torch

from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.data.sources import DataSource, load_source
from cocorrrec_export.export import pipeline
from cocorrrec_export.forms import quantizer
from cocorrrec_export.forms.quantizer import Codes, fit_codes, fit_table
from cocorrrec_export.forms.weights import table_codes
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.store import ModelFolder, load_model, save_model
from cocorrrec_export.training import calibration
from cocorrrec_export.training.calibration import Settings, calibrate
from tests.commands import Cli
from tests.models import random_ranker

ITEMS = 600  # more than a codebook has vectors, so that rows must share them
QUICK = Settings(epochs=3, batch=100, sampled=100)


def clicks_file(path: Path, *, held_out: int = 0) -> Path:
    """Users who walk through the items, each with two more clicks that ``held_out`` decides."""
    rows, drawn = ["user,item,timestamp"], random.Random(held_out)
    for user in range(60):
        walk = [(user * 10 + step) % ITEMS for step in range(14)] + [drawn.randrange(ITEMS), drawn.randrange(ITEMS)]
        rows += [f"{user},i{item:03},{1_600_000_000 + time}" for time, item in enumerate(walk)]
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clicks_file(tmp_path_factory.mktemp("clicks") / "clicks.csv")


def folder_of(path: Path, clicks: Path, **options: str) -> ModelFolder:
    """A random model that knows the items of the clicks."""
    config = ModelConfig(vocab_size=ITEMS + 1, **options)  # type: ignore[arg-type]
    known = load_source(clicks, DataSource()).vocabulary_sha256
    facts = DataSource().as_table() | {"vocabulary_sha256": known, "negatives": 20, "evaluation_seed": 0}
    return save_model(path, random_ranker(config), config, name="tiny", data=facts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, clicks: Path) -> ModelFolder:
    return folder_of(tmp_path_factory.mktemp("models") / "tiny", clicks, item_side="dot", correction="none")


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation in a moment."""
    monkeypatch.setattr(quantizer, "_ROTATION_ROUNDS", 1)


@pytest.mark.parametrize("embedding", ["pq8", "pq16"])
def test_the_loss_falls_and_the_model_and_codes_stay(
    folder: ModelFolder, clicks: Path, monkeypatch: pytest.MonkeyPatch, embedding: str
) -> None:
    fitted: list[Codes] = []

    def fit(*args: object, histories: torch.Tensor | None, **options: object) -> Codes:
        assert (histories is None) == (embedding == "pq16")
        if histories is not None:
            known = histories[:, :2].prod(1) > 0  # of at least two clicks
            assert ((histories[known, 1] - histories[known, 0]) % ITEMS == 1).all(), "users walk through the items"
        fitted.append(table_codes(*args, histories=histories, **options))  # type: ignore[arg-type]
        return fitted[-1]

    monkeypatch.setattr(calibration, "table_codes", fit)
    model = load_model(folder)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = calibrate(folder, model, clicks, embedding, settings=QUICK)
    losses = found.facts["losses"]
    assert len(losses) == 3 and losses[2] < losses[1] < losses[0] > 0
    assert torch.equal(found.codes.codes, fitted[0].codes)
    rows = torch.arange(ITEMS + 1)
    assert not torch.equal(found.codes.rows(rows), fitted[0].rows(rows))
    assert found.codes.codebooks.dtype == torch.int8
    scales, before_scales = found.codes.scales, fitted[0].scales
    assert (scales is None) == (before_scales is None) == (embedding == "pq8"), "one more byte of pq16 alone"
    if scales is not None and before_scales is not None:
        assert scales.dtype == torch.int8 and int(scales.min()) >= 1 and not torch.equal(scales, before_scales)
    assert not found.codes.rows(rows)[0].any(), "padding stays zero"
    assert all(torch.equal(x, before[name]) and x.grad is None for name, x in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_same_again_whatever_is_held_out(folder: ModelFolder, clicks: Path, tmp_path: Path) -> None:
    """The last two clicks of each user are what models are measured on."""
    other = clicks_file(tmp_path / "other.csv", held_out=1)
    found = [
        calibrate(folder, load_model(folder), file, "pq16", settings=dataclasses.replace(QUICK, epochs=1))
        for file in (clicks, clicks, other)
    ]
    digests = [each.facts["interactions_sha256"] for each in found]
    assert digests[0] == digests[1] != digests[2]
    for each in found[1:]:
        assert torch.equal(each.codes.codebooks, found[0].codes.codebooks)
        assert torch.equal(each.codes.rotation, found[0].codes.rotation)
        assert each.codes.scales is not None and found[0].codes.scales is not None
        assert torch.equal(each.codes.scales, found[0].codes.scales)


def test_errors_count_where_the_clicks_users_are(folder: ModelFolder) -> None:
    model = load_model(folder)
    rows = model.item_embedding.weight.detach()
    one = torch.arange(1, 11)[None].repeat(50, 1)  # everybody is the same user
    user = model.user_state(one[:1], corrected=False)[0].detach()
    missed = [
        ((fit_table(model, 8, length=10, histories=of).rows(torch.arange(ITEMS + 1)) - rows) @ user).square().mean()
        for of in (one, None)
    ]
    assert missed[0] < 0.5 * missed[1]


def test_errors_count_as_the_metric_says() -> None:
    weight = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    metric = torch.diag(torch.cat((torch.full((4,), 100.0), torch.ones(12))))
    plain, skewed = (fit_codes(weight, 2, metric=x).rows(torch.arange(2000)) - weight for x in (None, metric))
    assert skewed[1:, :4].square().sum() < 0.5 * plain[1:, :4].square().sum()


@pytest.mark.parametrize("architecture", ["cocorrrec", "din", "bert4rec"])
def test_every_kind_of_model(tmp_path: Path, clicks: Path, architecture: str) -> None:
    """With layers on the item side, and a user that is another one for each item."""
    folder = folder_of(tmp_path / "m", clicks, architecture=architecture)
    losses = calibrate(folder, load_model(folder), clicks, "pq16", settings=QUICK).facts["losses"]
    assert losses[2] < losses[0]


def test_what_is_refused(cli: Cli, folder: ModelFolder, clicks: Path, tmp_path: Path) -> None:
    export = ("scn", "--target", "onnx", "--model", folder.path, "--out", tmp_path / "dist", "--calibrate")
    ended = cli(*export, clicks, "--precision", "int8")
    assert ended.code == 2 and "precision 'int8' has none: give --precision pq16 or pq8" in ended.stderr
    folded = tmp_path / "folded.toml"
    shipped = cli("recipes", "show", "onnx-cpu-pq8").stdout
    folded.write_text(shipped.replace('item_side = "computed"', 'item_side = "folded"'))
    ended = cli(*export, clicks, "--recipe", folded)
    assert ended.code == 2 and "use item_side 'computed'" in ended.stderr
    few = tmp_path / "few.csv"
    few.write_text("\n".join(clicks.read_text().splitlines()[:100]))
    ended = cli(*export, few, "--precision", "pq8")
    assert ended.code == 1 and "this is not its data" in " ".join(ended.stderr.split())
    ended = cli(*export, tmp_path / "none.csv", "--precision", "pq8")
    assert ended.code == 2 and "none.csv" in ended.stderr
    assert not (tmp_path / "dist").exists()


@pytest.mark.slow
def test_an_export_says_what_it_was_fitted_to(folder: ModelFolder, clicks: Path, tmp_path: Path) -> None:
    recipe = choose_recipe("scn", "tflite", precision="pq16")
    wide = dataclasses.replace(recipe.limits, max_abs=100.0, max_rel=1.0, top10_overlap=0.0, metrics_abs=1.0)
    recipe = dataclasses.replace(recipe, limits=dataclasses.replace(wide, ndcg10_rel=1.0, ties=1.0))
    source = pipeline.open_source(str(folder.path), clicks)
    found = calibrate(folder, source.model, clicks, "pq16", settings=QUICK)
    artifact = pipeline.export(dataclasses.replace(source, calibrated=found), recipe, tmp_path)
    assert artifact.manifest["calibration"] == found.facts
    checked = pipeline.check(artifact.path, model=str(folder.path), data=clicks, limits=recipe.limits)
    assert checked.as_dict()["ranking"] == artifact.manifest["parity"]["ranking"]
