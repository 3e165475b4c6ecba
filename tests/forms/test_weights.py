"""Quantized weights: what is lost, and what must not be."""

import pytest
import torch

from cocorrrec_export.forms import quantizer, weights
from cocorrrec_export.forms.quantizer import SCALE_STEPS
from cocorrrec_export.forms.weights import (
    CodedTable,
    HalfProjection,
    Int4Table,
    Int8Projection,
    Int8Table,
    Projection,
    make_table,
)

WEIGHT = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 1, 50)[:, None]
WEIGHT[0] = 0.0
IDS = torch.arange(50, dtype=torch.int32)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-row", "int4-row", "pq16", "pq8"])
def test_padding_stays_zero(precision: str) -> None:
    assert not make_table(WEIGHT, precision)(IDS)[0].any()


def test_int8_is_within_half_a_step_of_each_row() -> None:
    table = Int8Table(WEIGHT)
    error = (table(IDS) - WEIGHT).abs().amax(1)
    step = WEIGHT.abs().amax(1) / 127
    assert table.quantized.dtype == torch.int8 and table.scale.values.dtype == torch.float16
    # Rounding the scale to float16 moves the largest value by at most 127 half-steps of 2^-11; tiny rows more.
    normal = step > 2**-14
    assert (error[normal] <= 0.57 * step[normal]).all()
    assert (error[1:] <= WEIGHT.abs().amax(1)[1:]).all()


def test_int4_is_nearer_than_the_plain_scale() -> None:
    table = Int4Table(WEIGHT)
    assert table.packed.shape == (50, 32) and table.packed.dtype == torch.int8
    error = (table(IDS) - WEIGHT).square().sum(1)
    step = (WEIGHT.abs().amax(1, keepdim=True) / 7).clamp_min(1e-12)
    plain = ((WEIGHT / step).round().clamp(-8, 7) * step - WEIGHT).square().sum(1)
    normal = step.squeeze(1) > 2**-14
    assert (error[normal] <= 1.01 * plain[normal]).all()  # float16 rounds the scale
    assert error[normal].sum() < 0.9 * plain[normal].sum()


def test_int8_projection() -> None:
    weight = torch.randn(7, 64, generator=torch.Generator().manual_seed(1))
    bias = torch.arange(7.0)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    exact, quantized = Projection(weight, bias)(x), Int8Projection(weight, bias)(x)
    bound = 0.5 * (weight.abs().amax(1) / 127) * x.abs().sum(1, keepdim=True) + 1e-4
    assert ((quantized - exact).abs() <= bound).all()
    assert not torch.equal(quantized, exact)


def test_more_rows_than_are_quantized_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: make_table(WEIGHT, name)(IDS) for name in ("int8-row", "int4-row", "pq8", "pq16")}
    monkeypatch.setattr(weights, "_BLOCK", 7)
    monkeypatch.setattr(quantizer, "_BLOCK", 7)
    for name, rows in whole.items():
        torch.testing.assert_close(make_table(WEIGHT, name)(IDS), rows)  # products of blocks round in their own way


def test_product_quantization_is_near_where_parts_repeat() -> None:
    """Rows put together from few parts, hidden by a rotation: found again, from more rows than there are centroids."""
    generator = torch.Generator().manual_seed(4)
    parts = torch.randn(8, 20, 8, generator=generator)
    chosen = torch.randint(0, 20, (3000, 8), generator=generator)
    hidden = torch.cat([parts[m][chosen[:, m]] for m in range(8)], dim=1)
    rotation = torch.linalg.qr(torch.randn(64, 64, generator=generator))[0]
    weight = hidden @ rotation
    weight[0] = 0.0
    ids = torch.arange(3000, dtype=torch.int32)
    table = CodedTable(weight, books=8)
    error = (table(ids) - weight).square().sum() / weight.square().sum()
    assert error < 0.25
    sixteen = (CodedTable(weight, books=16)(ids) - weight).square().sum() / weight.square().sum()
    assert sixteen < error
    squares = table.rotation @ table.rotation.T  # orthogonal but for a scale a feature
    torch.testing.assert_close(squares, squares.diagonal().diag(), rtol=0, atol=1e-6 * float(squares.max()))
    assert table.codebooks.dtype == torch.int8 and int(table.codebooks.abs().max()) == 127
    assert table.codes.shape == (3000, 8) and table.codes.dtype == torch.int8
    torch.testing.assert_close(table.parts(ids)[0] @ table.rotation, table(ids))


def test_rows_with_scales_share_vectors_that_differ_in_length_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizer, "_ROTATION_ROUNDS", 3)
    generator = torch.Generator().manual_seed(6)
    chosen, length = torch.randint(0, 200, (3000,), generator=generator), torch.randn(3000, 1, generator=generator)
    weight = torch.randn(200, 64, generator=generator)[chosen] * length.exp()
    weight[0] = 0.0
    ids = torch.arange(3000, dtype=torch.int32)
    plain, scaled = CodedTable(weight, books=16), CodedTable(weight, books=16, scaled=True)
    assert plain.scales is None and scaled.scales is not None
    assert scaled.scales.dtype == torch.int8 and scaled.scales.shape == (3000, 1)
    assert int(scaled.scales.min()) >= 1 and int(scaled.scales.max()) == SCALE_STEPS
    errors = [(table(ids) - weight).square().sum() for table in (plain, scaled)]
    assert errors[1] < 0.85 * errors[0]
    values, scale = scaled.parts(ids)
    assert scale is not None
    torch.testing.assert_close(values * scale @ scaled.rotation, scaled(ids))
    user = torch.randn(1, 64, generator=generator)
    products = scaled.products(user @ scaled.rotation.T)
    torch.testing.assert_close(scaled.sums(products, ids), user @ scaled(ids).T, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("books", "scaled"), [(16, False), (8, False), (16, True)])
def test_fewer_rows_than_vectors_of_a_codebook_lose_none(books: int, scaled: bool) -> None:
    """Padding takes up a vector of each codebook: one that no row needs."""
    weight = torch.randn(60, 64, generator=torch.Generator().manual_seed(5))
    weight[0] = 0.0
    table = CodedTable(weight, books=books, scaled=scaled)
    assert not table(IDS[:1]).any()
    # Codebooks are int8: half a step of a feature, in each of the few that a rotated one is made of.
    step = weight.abs().max() / 127
    assert (table(torch.arange(60, dtype=torch.int32)) - weight).abs().max() < 2 * step


def test_codebooks_must_share_the_features() -> None:
    with pytest.raises(ValueError, match="16 codebooks cannot share 24 features evenly"):
        CodedTable(torch.zeros(9, 24), books=16)


@pytest.mark.parametrize("precision", ["fp16", "int8-row", "int4-row", "pq16"])
def test_the_same_rows_from_the_bits(precision: str) -> None:
    bits = make_table(WEIGHT, precision, as_bits=True)
    torch.testing.assert_close(bits(IDS), make_table(WEIGHT, precision)(IDS), rtol=0, atol=0)
    assert torch.float16 not in {x.dtype for x in bits.buffers()}


@pytest.mark.parametrize("kind", [HalfProjection, Int8Projection])
def test_the_float_form_of_a_projection(kind: type[HalfProjection] | type[Int8Projection]) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, bias, x = (torch.randn(shape, generator=generator) for shape in ((7, 64), (7,), (3, 64)))
    projection = kind(weight, bias)
    torch.testing.assert_close(projection.as_float()(x), projection(x), rtol=1e-6, atol=1e-5)


def test_int4_needs_pairs() -> None:
    with pytest.raises(ValueError, match="even number of features, got 33"):
        Int4Table(torch.zeros(3, 33))
