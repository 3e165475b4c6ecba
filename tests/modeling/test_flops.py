"""Counted figures against closed forms, and against the published table."""

import pytest
import torch
from torch import nn

from cocorrrec_export.modeling import flops
from cocorrrec_export.modeling.config import Architecture, ModelConfig
from cocorrrec_export.modeling.curves import LENGTHS, PAPER_BATCH, Flops
from cocorrrec_export.modeling.curves import slope_per_token as slope
from cocorrrec_export.modeling.flops import count_layers, flop_curves, gcn_flops, scn_flops

# Least-squares slope of L^2 over 10, 15, 20, 25.
SQUARE = 35


def closed_form_scn(D: int, h: int) -> Flops:
    f = D // h
    paper = 4 * D * D + 4 * D  # q, k, v, o and the norm before o, at every position
    projections = 2 * (4 * D * D + D * h)  # q, k, v, o and the step size
    inner_model = 3 * 2 * h * f * f  # reconstruction, read-out and the next state
    pairs = 3 * 2 * h * f * SQUARE  # attention and the two sums over it
    return Flops(PAPER_BATCH * paper, projections + inner_model + pairs)


def closed_form_gcn(D: int, h: int) -> Flops:
    gru = 3 * (D * D + D * D + 2 * D) + 7 * D
    fc3 = D * h * SQUARE + D * D  # h K^2 and K D outputs
    return Flops(PAPER_BATCH * (2 * gru + fc3), 2 * (2 * 6 * D * D + fc3))


@pytest.mark.parametrize(("D", "h"), [(64, 4), (32, 2), (16, 1)])
def test_closed_forms(D: int, h: int) -> None:
    config = ModelConfig(vocab_size=30_000, hidden_size=D, num_heads=h)
    assert scn_flops(config) == closed_form_scn(D, h)
    assert gcn_flops(config) == closed_form_gcn(D, h)


def test_the_published_table() -> None:
    config = ModelConfig(vocab_size=30_000)
    alone, cloud = scn_flops(config).paper, gcn_flops(config).paper
    assert f"{alone / 1e6:.2f}" == "17.04"
    assert f"{(alone + cloud) / 1e6:.2f}" == "82.44"


def test_the_count_does_not_depend_on_the_options_it_should_not() -> None:
    base = scn_flops(ModelConfig(vocab_size=50))
    assert scn_flops(ModelConfig(vocab_size=9_000, mini_batch=5, sequence_length=20, gcn=False)) == base


@pytest.mark.parametrize("gcn", [True, False])
def test_curves_are_what_counting_every_length_gives(gcn: bool) -> None:
    config = ModelConfig(vocab_size=50, hidden_size=32, num_heads=2, gcn=gcn)
    curves = {(curve.name, curve.mini_batch): curve for curve in flop_curves(config)}
    for mini_batch, length in ((None, 15), (10, 25), (10, 50), (10, 100)):
        counted = flops._count_halves(config, length, mini_batch or length)
        assert {name: curves[name, mini_batch].at(length) for name in counted} == counted
    assert (("scn+gcn", None) in curves) == gcn
    assert curves["scn", None].per_token == scn_flops(config)
    if gcn:
        assert curves["scn+gcn", None].per_token == scn_flops(config) + gcn_flops(config)


def test_a_fixed_mini_batch_costs_less() -> None:
    curves = flop_curves(ModelConfig(vocab_size=50))
    assert next(x for x in curves if (x.name, x.mini_batch) == ("scn", 10)).per_token.all == 42_880


def test_no_gcn_no_share() -> None:
    with pytest.raises(ValueError, match="without a GCN"):
        gcn_flops(ModelConfig(vocab_size=50, gcn=False))


def test_slope_by_hand() -> None:
    assert slope(lambda length: 7 * length + 1000) == 7
    assert slope(lambda length: length * length) == SQUARE
    assert LENGTHS == (10, 15, 20, 25)


def test_layers_by_hand() -> None:
    layers = nn.Sequential(nn.Linear(3, 5, bias=False), nn.LayerNorm(5))
    with count_layers(layers) as operations:
        layers(torch.zeros(2, 3))
    assert operations == [2 * 3 * 5, 4 * 2 * 5]
    gru = nn.GRU(64, 64, batch_first=True)
    with count_layers(gru) as operations:
        gru(torch.zeros(1, 3, 64))
    assert operations == [3 * 25_408]
    layers(torch.zeros(2, 3))
    assert len(operations) == 1, "hooks outlive the block"


BASELINES = {
    "din": (3 * 64**2, "12.58"),
    "gru4rec": (64**2 + 25_408, "30.21"),
    "sasrec": (64**2 + 2 * 64 * 256 + 8 * 64, "38.27"),
    "bert4rec": (2 * (4 * 64**2 + 2 * 64 * 256), "100.66"),
    "mamba4rec": (4 * 64 * 256 + 20 * 64, "68.42"),
}
"""Multiply-accumulates a token of one user, and what the paper prints, in millions over the batch."""


@pytest.mark.parametrize("architecture", BASELINES)
def test_baselines(architecture: Architecture) -> None:
    per_user, printed = BASELINES[architecture]
    config = ModelConfig(vocab_size=30_000, architecture=architecture)
    counted = scn_flops(config)
    assert counted.paper == PAPER_BATCH * per_user
    assert f"{counted.paper / 1e6:.2f}" == printed
    (curve,) = flop_curves(config)
    assert curve.name == "forward" and curve.per_token == counted
