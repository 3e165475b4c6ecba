"""Weights in every precision: explicit buffers, dequantised in the graph, so that each runtime computes the same."""

import torch
from torch import Tensor, nn

GROUP = 32
"""Features that share one scale in an int4 table."""
SMALLEST_HALF = 2.0**-24


class FloatTable(nn.Module):
    """A table in float32 or float16; float32 rows come out."""

    def __init__(self, weight: Tensor, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().to(dtype))

    weight: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """``ids [n]`` int32 to ``[n, D]`` float32."""
        rows = self.weight.index_select(0, ids)
        return rows if rows.dtype == torch.float32 else rows.to(torch.float32)


class Int8Table(nn.Module):
    """One byte a feature, one float16 scale a row: ``weight[v] = scale[v] * q[v]``, q in -127 .. 127.

    The scale is rounded before the row is divided by it, so that its rounding costs nothing. A zero row stays zero.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        weight = weight.detach().double()
        scale = _half_scale(weight.abs().amax(dim=1, keepdim=True), 127)
        quantised = (weight / scale.double()).round().clamp(-127, 127)
        self.register_buffer("quantised", quantised.to(torch.int8))  # [V, D]
        self.register_buffer("scale", scale)  # [V, 1] float16

    quantised: Tensor
    scale: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """``ids [n]`` int32 to ``[n, D]`` float32."""
        scale = self.scale.index_select(0, ids).to(torch.float32)
        return self.quantised.index_select(0, ids).to(torch.float32) * scale


class Int4Table(nn.Module):
    """Half a byte a feature, one float16 scale for each :data:`GROUP` features; q in -7 .. 7 is stored as q + 8.

    The first half of a row's features are the low nibbles, the second half the high ones.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows, size = weight.shape
        if size % (2 * GROUP):
            raise ValueError(f"an int4 table needs a multiple of {2 * GROUP} features, got {size}")
        groups = weight.detach().double().reshape(rows, size // GROUP, GROUP)
        scale = _half_scale(groups.abs().amax(dim=2, keepdim=True), 7)
        quantised = ((groups / scale.double()).round().clamp(-7, 7) + 8).reshape(rows, size).to(torch.uint8)
        low, high = quantised.split(size // 2, dim=1)
        self.register_buffer("packed", low + 16 * high)  # [V, D / 2] uint8
        self.register_buffer("scale", scale.squeeze(2))  # [V, D / GROUP] float16

    packed: Tensor
    scale: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """``ids [n]`` int32 to ``[n, D]`` float32."""
        # Arithmetic instead of shifts: not every runtime has them.
        packed = self.packed.index_select(0, ids).to(torch.float32)
        high = torch.floor(packed * (1 / 16))
        values = torch.cat((packed - 16 * high, high), dim=1) - 8
        scale = self.scale.index_select(0, ids).to(torch.float32)
        groups = values.view(-1, scale.shape[1], GROUP) * scale.unsqueeze(2)
        return groups.view(-1, values.shape[1])


def _half_scale(largest: Tensor, levels: int) -> Tensor:
    """float16 scale of values up to ``largest`` in ``levels`` steps; zeros need none and get 1."""
    scale = (largest / levels).to(torch.float16).clamp_min(SMALLEST_HALF)
    return torch.where(largest == 0, torch.ones_like(scale), scale)


def make_table(weight: Tensor, precision: str) -> nn.Module:
    """The table module of a recipe's ``weights.embedding``."""
    if precision == "int8-row":
        return Int8Table(weight)
    if precision == "int4-group32":
        return Int4Table(weight)
    return FloatTable(weight, dtype={"fp32": torch.float32, "fp16": torch.float16}[precision])


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


class Int8Projection(nn.Module):
    """The same with one byte a weight and one float32 scale an output; activations stay float32.

    Written with the operator that stands for a quantised weight in exported programs, so that a backend with kernels
    for such weights never makes a float32 copy of them.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        from torch.ao.quantization.fx import _decomposed  # noqa: F401  # registers the operator

        weight = weight.detach()
        largest = weight.abs().amax(dim=1)
        scale = torch.where(largest == 0, torch.ones_like(largest), largest / 127)
        self.register_buffer("quantised", (weight / scale.unsqueeze(1)).round().to(torch.int8))  # [out, in]
        self.register_buffer("scale", scale)  # [out]
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int64))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    quantised: Tensor
    scale: Tensor
    zero: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """``[n, in]`` to ``[n, out]``."""
        weight = torch.ops.quantized_decomposed.dequantize_per_channel(
            self.quantised, self.scale, self.zero, 0, -127, 127, torch.int8
        )
        # The bias apart: XNNPACK's float32 product with int8 weights takes none from this exporter.
        y = nn.functional.linear(x, weight)
        return y if self.bias is None else y + self.bias


def make_projection(weight: Tensor, bias: Tensor | None, precision: str) -> nn.Module:
    """The projection module of a recipe's ``weights.linear``."""
    return {"fp32": Projection, "fp16": HalfProjection, "int8-channel": Int8Projection}[precision](weight, bias)
