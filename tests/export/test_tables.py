"""Quantised weights: what is lost, and what must not be."""

import pytest
import torch

from cocorrrec_export.export.tables import GROUP, Int4Table, Int8Projection, Int8Table, Projection, make_table

WEIGHT = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 1, 50)[:, None]
WEIGHT[0] = 0.0
IDS = torch.arange(50, dtype=torch.int32)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-row", "int4-group32"])
def test_padding_stays_zero(precision: str) -> None:
    assert not make_table(WEIGHT, precision)(IDS)[0].any()


def test_int8_is_within_half_a_step_of_each_row() -> None:
    table = Int8Table(WEIGHT)
    error = (table(IDS) - WEIGHT).abs().amax(1)
    step = WEIGHT.abs().amax(1) / 127
    assert table.quantised.dtype == torch.int8 and table.scale.dtype == torch.float16
    # Rounding the scale to float16 moves the largest value by at most 127 half-steps of 2^-11; tiny rows more.
    normal = step > 2**-14
    assert (error[normal] <= 0.57 * step[normal]).all()
    assert (error[1:] <= WEIGHT.abs().amax(1)[1:]).all()


def test_int4_is_within_half_a_step_of_each_group() -> None:
    table = Int4Table(WEIGHT)
    groups = WEIGHT.reshape(50, -1, GROUP)
    error = (table(IDS).reshape(groups.shape) - groups).abs().amax(2)
    step = groups.abs().amax(2) / 7
    normal = step > 2**-14
    assert (error[normal] <= 0.51 * step[normal]).all()
    assert table.packed.shape == (50, 32)


def test_int8_projection() -> None:
    weight = torch.randn(7, 64, generator=torch.Generator().manual_seed(1))
    bias = torch.arange(7.0)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    exact, quantised = Projection(weight, bias)(x), Int8Projection(weight, bias)(x)
    bound = 0.5 * (weight.abs().amax(1) / 127) * x.abs().sum(1, keepdim=True) + 1e-4
    assert ((quantised - exact).abs() <= bound).all()
    assert not torch.equal(quantised, exact)


def test_int4_needs_whole_groups() -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        Int4Table(torch.zeros(3, 32))
