"""Weights in every precision: explicit buffers, dequantized in the graph, so that each runtime computes the same."""

import torch
from torch import Tensor, nn

from cocorrrec_export.forms.quantizer import CENTROIDS, SCALE_STEPS, Codes, fit_codes, fit_table
from cocorrrec_export.modeling.ranker import Ranker

_BLOCK = 8192
"""Rows that are quantized at once: so that a large table takes little memory on top of its own."""
CLIPS = tuple(0.55 + 0.025 * i for i in range(19))
"""Where an int4 row may be clipped, as shares of its largest value."""
CODEBOOKS = {"pq16": 16, "pq8": 8}
"""Of a table in product quantization, by its precision in a recipe: as many bytes a row."""
SCALED = ("pq16",)
"""Those where each row has a scale too, which is one more byte: too much for the smallest."""
SMALLEST_HALF = 2.0**-24


class Table(nn.Module):
    """A table of items in some precision. ``forward`` looks rows up: ``ids [n]`` int32 to ``[n, D]`` float32."""

    def parts(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same rows unfinished: values ``[n, D]``, and ``[n, 1]`` that they are to be multiplied by, if any."""
        return self(ids), None

    def finish(self, values: Tensor, scale: Tensor | None) -> Tensor:
        """What :meth:`parts` gives, or some rows of it, as rows of the table."""
        return values if scale is None else values * scale


class FloatTable(Table):
    """A float32 table."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach())  # the model's own: a table of a million items is 256 MB

    weight: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """``ids [n]`` int32 to ``[n, D]``."""
        return self.weight.index_select(0, ids)


class HalfTable(Table):
    """A float16 table; float32 rows come out.

    Args:
        weight: ``[V, n]``.
        as_bits: keep the values as the int16 numbers of the same bits, for a runtime that looks up no float16 rows.
    """

    def __init__(self, weight: Tensor, *, as_bits: bool = False) -> None:
        super().__init__()
        half = weight.detach().to(torch.float16)
        self.register_buffer("values", half.view(torch.int16) if as_bits else half)

    values: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """``ids [n]`` int32 to ``[n, D]`` float32."""
        return _from_half(self.values.index_select(0, ids))


def _from_half(rows: Tensor) -> Tensor:
    return (rows.view(torch.float16) if rows.dtype == torch.int16 else rows).to(torch.float32)


class Int8Table(Table):
    """One byte a feature, one float16 scale a row: ``weight[v] = scale[v] * q[v]``, q in -127 .. 127.

    The scale is rounded before the row is divided by it, so that its rounding costs nothing. A zero row stays zero.

    Args:
        weight: ``[V, D]``.
        as_bits: as in :class:`HalfTable`.
        by_operator: make float32 of values by the operator of quantized programs, not by a cast.
    """

    def __init__(self, weight: Tensor, *, as_bits: bool = False, by_operator: bool = False) -> None:
        super().__init__()
        if by_operator:
            _register_operators()
        self.by_operator = by_operator
        quantized = torch.empty(weight.shape, dtype=torch.int8)
        scales = torch.empty(len(weight), 1, dtype=torch.float16)
        for start in range(0, len(weight), _BLOCK):
            rows = weight.detach()[start : start + _BLOCK].double()
            scale = _half_scale(rows.abs().amax(dim=1, keepdim=True), 127)
            quantized[start : start + _BLOCK] = (rows / scale.double()).round().clamp(-127, 127)
            scales[start : start + _BLOCK] = scale
        self.register_buffer("quantized", quantized)  # [V, D]
        self.scale = HalfTable(scales, as_bits=as_bits)  # [V, 1]

    quantized: Tensor

    def parts(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """``ids [n]`` int32 to values ``[n, D]`` and scales ``[n, 1]``."""
        return _from_int8(self.quantized.index_select(0, ids), by_operator=self.by_operator), self.scale(ids)

    def forward(self, ids: Tensor) -> Tensor:
        """``ids [n]`` int32 to ``[n, D]`` float32."""
        return self.finish(*self.parts(ids))


def _from_int8(values: Tensor, *, by_operator: bool, step: float = 1.0) -> Tensor:
    if by_operator:
        return torch.ops.quantized_decomposed.dequantize_per_tensor(values, step, 0, -128, 127, torch.int8)
    found = values.to(torch.float32)
    return found if step == 1.0 else found * step


class Int4Table(Table):
    """Half a byte a feature, one float16 scale a row; q in -8 .. 7 is stored as q + 8.

    Of :data:`CLIPS` shares of the row's largest value the scale takes the one with the least squared error: what is
    clipped costs less than what a finer step saves. The first half of a row's features are the low nibbles, the second
    half the high ones, of a byte that is stored less 128: not every converter takes unsigned bytes.
    """

    def __init__(self, weight: Tensor, *, as_bits: bool = False) -> None:
        super().__init__()
        size = weight.shape[1]
        if size % 2:
            raise ValueError(f"an int4 table needs an even number of features, got {size}")
        packed = torch.empty(len(weight), size // 2, dtype=torch.int8)
        scales = torch.empty(len(weight), 1, dtype=torch.float16)
        for start in range(0, len(weight), _BLOCK):
            scale, quantized = _least_squares(weight.detach()[start : start + _BLOCK])
            low, high = (quantized + 8).to(torch.int16).split(size // 2, dim=1)
            packed[start : start + _BLOCK] = low + 16 * high - 128
            scales[start : start + _BLOCK] = scale
        self.register_buffer("packed", packed)  # [V, D / 2]
        self.scale = HalfTable(scales, as_bits=as_bits)  # [V, 1]

    packed: Tensor

    def parts(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """``ids [n]`` int32 to values ``[n, D]`` and scales ``[n, 1]``."""
        # Arithmetic instead of shifts: not every runtime has them.
        packed = self.packed.index_select(0, ids).to(torch.float32) + 128
        high = torch.floor(packed * (1 / 16))
        return torch.cat((packed - 16 * high, high), dim=1) - 8, self.scale(ids)

    def forward(self, ids: Tensor) -> Tensor:
        """``ids [n]`` int32 to ``[n, D]`` float32."""
        return self.finish(*self.parts(ids))


class CodedTable(Table):
    """One byte for each of M codebooks: product quantization.

    A row is M short vectors of the codebooks side by side, times a scale of its own where rows have one, times a
    rotation. Where a matrix follows, the rotation goes into it: :meth:`parts` gives rows without.

    Args:
        weight: ``[V, D]``.
        books: M.
        scaled: whether rows have scales, one more byte; ``codes`` that are given say it themselves.
        by_operator: as in :class:`Int8Table`.
        codes: of the table; None fits them.
    """

    def __init__(
        self,
        weight: Tensor,
        *,
        books: int,
        scaled: bool = False,
        by_operator: bool = False,
        codes: Codes | None = None,
    ) -> None:
        super().__init__()
        if by_operator:
            _register_operators()
        self.by_operator = by_operator
        fitted = codes or fit_codes(weight, books, scaled=scaled)
        size = weight.shape[1]
        # Less 128: not every converter takes unsigned bytes.
        self.register_buffer("codes", (fitted.codes.to(torch.int16) - 128).to(torch.int8))  # [V, M]
        self.register_buffer("codebooks", fitted.codebooks.view(-1, size // books))  # [M * 256, D / M] int8
        starts = torch.arange(books, dtype=torch.int32).unsqueeze(0) * CENTROIDS + 128
        self.register_buffer("starts", starts)  # [1, M] where each codebook's code 0 is
        self.register_buffer("rotation", fitted.rotation)  # [D, D]
        self.register_buffer("scales", fitted.scales)  # [V, 1] int8, or None

    codes: Tensor
    codebooks: Tensor
    starts: Tensor
    rotation: Tensor
    scales: Tensor | None

    def parts(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """``ids [n]`` int32 to ``[n, D]`` float32 before the rotation, and scales ``[n, 1]`` if rows have them."""
        found = self.codebooks.index_select(0, self._places(ids)).view(ids.shape[0], self.rotation.shape[0])
        return _from_int8(found, by_operator=self.by_operator), self._scales(ids)

    def finish(self, values: Tensor, scale: Tensor | None) -> Tensor:
        """Rows of :meth:`parts` to those of the table."""
        return torch.mm(super().finish(values, scale), self.rotation)

    def forward(self, ids: Tensor) -> Tensor:
        """``ids [n]`` int32 to ``[n, D]`` float32."""
        return self.finish(*self.parts(ids))

    def products(self, user: Tensor) -> Tensor:
        """Products ``[M * 256, 1]`` of ``user [1, D]``, rotated as rows of :meth:`parts` are, with the codebooks.

        A row's product is the sum of M of them, which costs less than the row where there are many: :meth:`sums`.
        """
        books = self.starts.shape[1]
        values = self.codebooks.to(torch.float32).view(books, CENTROIDS, -1)
        return torch.bmm(values, user.view(books, -1, 1)).view(books * CENTROIDS, 1)

    def sums(self, products: Tensor, ids: Tensor) -> Tensor:
        """``ids [n]`` int32 to the products ``[1, n]`` of the user with their rows."""
        found = products.index_select(0, self._places(ids))
        sums = found.view(ids.shape[0], self.starts.shape[1]).sum(dim=1)
        scale = self._scales(ids)
        return (sums if scale is None else sums * scale.view(ids.shape[0])).unsqueeze(0)

    def _scales(self, ids: Tensor) -> Tensor | None:
        if self.scales is None:
            return None
        return _from_int8(self.scales.index_select(0, ids), by_operator=self.by_operator, step=1 / SCALE_STEPS)

    def _places(self, ids: Tensor) -> Tensor:
        """``ids [n]`` to the rows of the codebooks that they are made of, ``[n * M]``."""
        return (self.codes.index_select(0, ids).to(torch.int32) + self.starts).view(-1)


def table_codes(model: Ranker, precision: str, *, length: int, histories: Tensor | None = None) -> Codes:
    """The codes of a model's item table, fitted to where its users are.

    Args:
        model: in evaluation mode.
        precision: of a recipe, one of :data:`CODEBOOKS`.
        length: L, clicks in a history.
        histories: as in :func:`fit_table`.
    """
    scaled = precision in SCALED
    return fit_table(model, CODEBOOKS[precision], length=length, scaled=scaled, histories=histories)


def _least_squares(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The float16 scale ``[V, 1]`` of each row, and its values in -8 .. 7."""
    largest = weight.abs().amax(dim=1, keepdim=True)
    best_scale, best, least = torch.ones_like(largest, dtype=torch.float16), torch.zeros_like(weight), None
    for clip in CLIPS:
        scale = _half_scale(largest * clip, 7)
        quantized = (weight / scale.to(torch.float32)).round().clamp(-8, 7)
        error = (quantized * scale.to(torch.float32) - weight).square().sum(dim=1, keepdim=True)
        better = torch.ones_like(error, dtype=torch.bool) if least is None else error < least
        least = error if least is None else torch.where(better, error, least)
        best_scale, best = torch.where(better, scale, best_scale), torch.where(better, quantized, best)
    return best_scale, best


def _half_scale(largest: Tensor, levels: int) -> Tensor:
    """float16 scale of values up to ``largest`` in ``levels`` steps; zeros need none and get 1."""
    scale = (largest / levels).to(torch.float16).clamp_min(SMALLEST_HALF)
    return torch.where(largest == 0, torch.ones_like(scale), scale)


def _register_operators() -> None:
    """Those that stand for quantized weights in exported programs."""
    from torch.ao.quantization.fx import _decomposed  # noqa: F401


def make_table(
    weight: Tensor,
    precision: str,
    *,
    as_bits: bool = False,
    by_operator: bool = False,
    codes: Codes | None = None,
) -> Table:
    """The table module of a recipe's ``weights.embedding``.

    Args:
        weight: ``[V, D]``.
        precision: of the recipe.
        as_bits: as in :class:`HalfTable`.
        by_operator: as in :class:`Int8Table`.
        codes: as in :class:`CodedTable`.
    """
    if precision == "fp32":
        return FloatTable(weight)
    if precision in CODEBOOKS:
        scaled = precision in SCALED
        return CodedTable(weight, books=CODEBOOKS[precision], scaled=scaled, by_operator=by_operator, codes=codes)
    if precision == "int8-row":
        return Int8Table(weight, as_bits=as_bits, by_operator=by_operator)
    halves = {"fp16": HalfTable, "int4-row": Int4Table}
    return halves[precision](weight, as_bits=as_bits)


class Projection(nn.Module):
    """``x W^T + b`` in float32, which runtimes pack once."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """``[n, in]`` to ``[n, out]``."""
        return nn.functional.linear(x, self.weight, self.bias)


class HalfProjection(nn.Module):
    """The same with two bytes a weight, cast in the graph; products are float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        # Stored as [in, out], which is how the product reads it.
        self.register_buffer("weight", weight.detach().t().to(torch.float16).contiguous())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """``[n, in]`` to ``[n, out]``."""
        inputs, outputs = self.weight.shape
        weight = self.weight.to(torch.float32).view(1, inputs, outputs)
        y = torch.bmm(x.view(1, -1, inputs), weight).view(-1, outputs)
        return y if self.bias is None else y + self.bias

    def as_float(self) -> Projection:
        """The float32 projection that computes the same."""
        return Projection(self.weight.to(torch.float32).t().contiguous(), self.bias)


class Int8Projection(nn.Module):
    """The same with one byte a weight and one float32 scale an output; activations stay float32.

    Written with the operator that stands for a quantized weight in exported programs, so that a backend with kernels
    for such weights never makes a float32 copy of them.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        _register_operators()
        weight = weight.detach()
        largest = weight.abs().amax(dim=1)
        scale = torch.where(largest == 0, torch.ones_like(largest), largest / 127)
        self.register_buffer("quantized", (weight / scale.unsqueeze(1)).round().to(torch.int8))  # [out, in]
        self.register_buffer("scale", scale)  # [out]
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int64))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    quantized: Tensor
    scale: Tensor
    zero: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """``[n, in]`` to ``[n, out]``."""
        weight = torch.ops.quantized_decomposed.dequantize_per_channel(
            self.quantized, self.scale, self.zero, 0, -127, 127, torch.int8
        )
        # The bias apart: XNNPACK's float32 product with int8 weights takes none from this exporter.
        y = nn.functional.linear(x, weight)
        return y if self.bias is None else y + self.bias

    def as_float(self) -> Projection:
        """The float32 projection that computes the same."""
        return Projection(self.quantized.to(torch.float32) * self.scale.unsqueeze(1), self.bias)


def make_projection(weight: Tensor, bias: Tensor | None, precision: str) -> nn.Module:
    """The projection module of a recipe's ``weights.linear``."""
    return {"fp32": Projection, "fp16": HalfProjection, "int8-channel": Int8Projection}[precision](weight, bias)
