"""The baselines: sizes as published, padding, and their forms against each other."""

from typing import Any

import pytest
import torch

from cocorrrec_export.errors import UsageError
from cocorrrec_export.modeling.baselines.mamba4rec import _Scan
from cocorrrec_export.modeling.build import ARCHITECTURES, build_model
from cocorrrec_export.modeling.config import Architecture, ModelConfig
from cocorrrec_export.modeling.layers import pick_rows
from cocorrrec_export.modeling.ranker import Ranker, last_position

PARAMETERS: dict[Architecture, int] = {
    "cocorrrec": 2_079_312,
    "din": 1_965_441,
    "gru4rec": 1_965_760,
    "sasrec": 3_910_784,
    "bert4rec": 2_020_608,
    "mamba4rec": 2_064_384,
}
"""Of the released implementation on Beauty: V = 30,000, L = 10."""
BASELINES = [name for name in ARCHITECTURES if name != "cocorrrec"]
V, L = 50, 12


def make(architecture: Architecture, **options: Any) -> Ranker:
    config = ModelConfig(vocab_size=V, sequence_length=L, architecture=architecture, **options)
    return build_model(config, generator=torch.Generator().manual_seed(3)).eval()


def histories() -> torch.Tensor:
    """One history of each length, 0 to L."""
    ids = torch.randint(1, V, (L + 1, L), generator=torch.Generator().manual_seed(4))
    return ids * (torch.arange(L) < torch.arange(L + 1)[:, None])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_are_those_published(architecture: Architecture) -> None:
    model = build_model(ModelConfig(vocab_size=30_000, architecture=architecture))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[architecture]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_start_is_drawn_from_the_seed_alone(architecture: Architecture) -> None:
    first = make(architecture).state_dict()
    torch.rand(7)
    second = make(architecture).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(x.isfinite().all() for x in first.values())


@pytest.mark.parametrize("architecture", ["sasrec", "bert4rec", "mamba4rec", "gru4rec"])
@torch.no_grad()
def test_last_position_alone_is_that_of_every_position(architecture: Architecture) -> None:
    model, ids = make(architecture), histories()
    state = pick_rows(model.every_position(ids, model.item_embedding(ids)), last_position(ids))
    if architecture in ("sasrec", "gru4rec"):
        state = model.user_mlp(state)  # type: ignore[operator]
    torch.testing.assert_close(model.user_state(ids), state)


@pytest.mark.parametrize("architecture", BASELINES)
@torch.no_grad()
def test_padding_changes_nothing(architecture: Architecture) -> None:
    model, ids = make(architecture), histories()[1:]
    candidates = torch.arange(1, 6).expand(len(ids), -1)
    padded = model(ids, candidates)
    assert model(torch.zeros(1, L, dtype=torch.int64), candidates[:1]).isfinite().all()
    for row, history in enumerate(ids):
        clicks = history[history != 0][None]
        torch.testing.assert_close(model(clicks, candidates[:1])[0], padded[row], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", BASELINES)
@torch.no_grad()
def test_candidates_do_not_see_each_other(architecture: Architecture) -> None:
    model, ids = make(architecture), histories()
    candidates = torch.arange(1, 8).expand(len(ids), -1)
    one_by_one = torch.cat([model(ids, candidates[:, [c]]) for c in range(candidates.shape[1])], dim=1)
    torch.testing.assert_close(model(ids, candidates), one_by_one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["gru4rec", "mamba4rec"])
@torch.no_grad()
def test_streaming_is_the_same_as_reading_all(architecture: Architecture) -> None:
    model: Any = make(architecture)
    ids = histories()[-1:].repeat(2, 1)
    state = model.start_stream(2)
    for click in range(L):
        state, user = model.step(ids[:, click], state)
        expected = model.user_state(ids[:, : click + 1])
        torch.testing.assert_close(user, expected, atol=1e-5, rtol=1e-4)


def test_gradient_of_the_scan_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(5)
    batch, length, channels, states = 34, 4, 2, 3  # more rows than are scanned at a time

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    inputs = (draw(batch, length, channels), draw(batch, length, channels), draw(states, channels))
    assert torch.autograd.gradcheck(_Scan.apply, (*inputs, draw(batch, length, states), draw(batch, length, states)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_that_is_read_learns(architecture: Architecture) -> None:
    model, ids = make(architecture), histories()
    model(ids, torch.arange(1, 6).expand(len(ids), -1)).square().sum().backward()
    still = {name for name, x in model.named_parameters() if x.grad is None or not x.grad.any()}
    allowed = {"cocorrrec": {"scn.fusion.P"}, "bert4rec": set()}.get(architecture, set())
    assert {name for name in still if not name.startswith("gcn.attn")} <= allowed


STATES: list[tuple[Architecture, dict[str, Any]]] = [
    ("cocorrrec", {"correction": "none", "readout": "residual", "mini_batch": 5}),
    ("cocorrrec", {"correction": "vector", "item_side": "dot"}),
    ("gru4rec", {"readout": "residual"}),
    ("sasrec", {"readout": "residual"}),
    ("bert4rec", {"attention": "causal"}),
    ("mamba4rec", {}),
]


@pytest.mark.parametrize(("architecture", "options"), STATES)
@torch.no_grad()
def test_a_state_per_click_reads_no_later_click(architecture: Architecture, options: dict[str, Any]) -> None:
    model, ids = make(architecture, **options), histories()[-1:]
    states = model.states(ids, model.item_embedding(ids))
    for clicks in range(1, L + 1):
        cut = ids * (torch.arange(L) < clicks)
        torch.testing.assert_close(states[:, clicks - 1], model.user_state(cut, corrected=False), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["cocorrrec", "gru4rec"])
@pytest.mark.parametrize("user_dropout", [True, False])
def test_the_user_state_is_dropped_unless_it_is_not_to_be(architecture: Architecture, user_dropout: bool) -> None:
    options: dict[str, Any] = {"correction": "none"} if architecture == "cocorrrec" else {}
    model, ids = make(architecture, dropout=0.5, user_dropout=user_dropout, **options).train(), histories()[-1:]
    rows = model.item_embedding(ids)
    first, second = model.states(ids, rows), model.states(ids, rows)
    assert not first.equal(second)  # the clicks are dropped in both
    for states in (first, model.user_state(ids)):
        assert bool((states == 0).any()) is user_dropout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "sasrec", "inner_loss": "sigmoid"}, "inner_loss 'sigmoid' has no meaning in sasrec"),
        ({"architecture": "din", "objective": "softmax"}, "use 'sampled_softmax' or 'bce'"),
        ({"architecture": "din", "item_side": "dot"}, "item_side 'dot' has no meaning in din"),
        ({"architecture": "bert4rec", "readout": "residual"}, "readout 'residual' has no meaning in bert4rec"),
        ({"architecture": "gru4rec", "attention": "causal"}, "attention 'causal' has no meaning in gru4rec"),
        ({"architecture": "mamba4rec", "user_dropout": False}, "user_dropout False has no meaning in mamba4rec"),
        ({"correction": "vector", "gcn": False}, "correction 'vector' needs the cloud model"),
        ({"correction": "vector", "cloud_length": 9}, "cloud_length must not be below sequence_length"),
        ({"correction": "vector", "remask_correction": True}, "has no meaning in cocorrrec with correction 'vector'"),
        ({"architecture": "nope"}, "unknown architecture 'nope'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelConfig(vocab_size=V, **options)


def test_a_baseline_has_no_cloud_half() -> None:
    assert ModelConfig(vocab_size=V, architecture="sasrec").gcn is False
