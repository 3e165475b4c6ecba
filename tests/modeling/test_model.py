"""Properties that hold for any weights."""

import dataclasses

import pytest
import torch

from cocorrrec_export.errors import UsageError
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ttt import Correction, match_statistics
from tests import models


def random_model(**options: object) -> CoCorrRec:
    return models.random_model(ModelConfig.from_dict({"vocab_size": 50} | options, where="test"))


def histories(batch: int, length: int, clicks: int | None = None) -> torch.Tensor:
    ids = torch.randint(1, 50, (batch, length), generator=torch.Generator().manual_seed(3))
    if clicks is not None:
        ids[:, clicks:] = 0
    return ids


def test_parameter_counts_of_the_paper() -> None:
    for gcn, expected in ((False, 1_946_446), (True, 2_079_312)):
        model = build_model(ModelConfig(vocab_size=30_000, gcn=gcn))
        assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("inner_loss", ["layernorm_l2", "sigmoid"])
@pytest.mark.parametrize("mini_batch", [1, 2, 5, 10, 20])
@torch.no_grad()
def test_streaming_equals_dual_at_every_position(mini_batch: int, inner_loss: str) -> None:
    model = random_model(mini_batch=mini_batch, inner_loss=inner_loss)
    scn, ids = model.scn, histories(4, 35)
    dual = scn.output_norm(scn.ttt.output(scn.ttt.every_position(scn.encode(ids))))
    state = scn.start_stream(4)
    for position in range(35):
        state, user = scn.step(ids[:, position], state)
        torch.testing.assert_close(user, dual[:, position], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_streams_of_one_batch_may_stand_at_different_positions() -> None:
    scn, ids = random_model().scn, histories(2, 13)
    state = scn.start_stream(2)
    for position in range(13):
        state, together = scn.step(ids[:, position], state)
    late = scn.start_stream(1)
    for position in range(6):
        late, _ = scn.step(ids[:1, position], late)
    mixed = type(state)(*(torch.cat((a[:1], b)) for a, b in zip(late, (x[1:] for x in state), strict=True)))
    _, users = scn.step(ids[:, 6], mixed)
    _, alone = scn.step(ids[:1, 6], late)
    torch.testing.assert_close(users[:1], alone)
    assert not torch.allclose(users[1], together[1])


@pytest.mark.parametrize("length", [1, 3, 10, 13, 21, 25])
@pytest.mark.parametrize("gcn", [False, True])
@torch.no_grad()
def test_any_length_and_an_empty_history_give_finite_scores(length: int, gcn: bool) -> None:
    model = random_model(gcn=gcn)
    for clicks in (0, 1, length):
        assert model(histories(3, length, clicks), histories(3, 7)).isfinite().all()


@torch.no_grad()
def test_padding_does_not_change_the_score_without_a_correction() -> None:
    model = random_model(gcn=False)
    short, long = histories(4, 6), torch.nn.functional.pad(histories(4, 6), (0, 4))
    candidates = histories(4, 9)
    torch.testing.assert_close(model(short, candidates), model(long, candidates), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_remask_keeps_later_clicks_out() -> None:
    ids, other = histories(4, 10), histories(4, 10)
    other[:, 5:] = other[:, 5:].flip(1)
    correction = Correction(torch.randn(4, 4, 10, 10), torch.randn(4, 4, 10, 16))

    def sixth_row(*, remask: bool, ids: torch.Tensor) -> torch.Tensor:
        scn = random_model(remask_correction=remask).scn
        return scn.ttt.every_position(scn.encode(ids), correction, scn.fusion)[:, 4]

    torch.testing.assert_close(sixth_row(remask=True, ids=ids), sixth_row(remask=True, ids=other), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(sixth_row(remask=False, ids=ids), sixth_row(remask=False, ids=other), atol=1e-3)


@pytest.mark.parametrize("mini_batch", [1, 4, 10, 20])
@pytest.mark.parametrize("gcn", [False, True])
@torch.no_grad()
def test_the_last_position_alone_equals_every_position(mini_batch: int, gcn: bool) -> None:
    model = random_model(mini_batch=mini_batch, gcn=gcn)
    ids = histories(13, 13)
    ids *= torch.arange(13) <= torch.arange(13)[:, None]  # lengths 1 .. 13
    H = model.scn.encode(ids)
    correction = model.correction(H)
    everywhere = model.scn.ttt.every_position(H, correction, model.scn.fusion)
    alone = model.scn.ttt(H, torch.arange(13), correction, model.scn.fusion)
    torch.testing.assert_close(alone, everywhere[torch.arange(13), torch.arange(13)], atol=1e-5, rtol=1e-5)


def test_match_statistics_by_hand() -> None:
    matched = match_statistics(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 30.0, 20.0]]))
    torch.testing.assert_close(matched, torch.tensor([[10.0, 20.0, 30.0]]), atol=1e-4, rtol=0)
    single = torch.tensor([[4.0]])
    assert match_statistics(torch.tensor([[9.0]]), single).equal(single)


def test_padding_row_gets_no_gradient() -> None:
    model = random_model().train()
    model(histories(8, 10, 4), histories(8, 5)).sum().backward()
    grad = model.scn.item_embedding.weight.grad
    assert grad is not None and not grad[0].any() and grad[1:].any()


def test_initialisation_follows_the_generator_and_leaves_the_global_one_alone() -> None:
    config = ModelConfig(vocab_size=50)
    before = torch.random.get_rng_state()
    first, second = (build_model(config, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.random.get_rng_state().equal(before)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiden_size": 32}, "unknown key 'hiden_size' .did you mean 'hidden_size'"),
        ({"hidden_size": 60, "num_heads": 8}, "got hidden_size 60 and num_heads 8"),
        ({"mini_batch": 0}, "mini_batch must be 1 to 1024, got 0"),
        ({"mini_batch": 2.5}, "mini_batch must be int, got 2.5"),
        ({"dropout": 1.0}, "dropout must be 0.0 to below 1, got 1.0"),
        ({"inner_loss": "mse"}, "inner_loss must be one of layernorm_l2, sigmoid, got 'mse'"),
        ({"gcn": 1}, "gcn must be bool, got 1"),
    ],
)
def test_config_says_what_is_wrong(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelConfig.from_dict({"vocab_size": 50} | options, where="model.toml")


def test_config_round_trip() -> None:
    config = ModelConfig(vocab_size=50, dropout=0.3, gcn=False)
    assert ModelConfig.from_dict(dataclasses.asdict(config), where="x") == config
