"""Mamba4Rec (Liu et al., 2024), as the paper's released implementation has it, with the scan in plain torch."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.frame import Baseline
from cocorrrec_export.modeling.layers import pick_rows
from cocorrrec_export.modeling.ranker import last_position

_POSITIONS = 40  # scanned at a time: their states take 0.7 MB


class MambaState(NamedTuple):
    """All that the next click needs to know, of both layers."""

    window: Tensor  # [B, layers, E, W - 1], the last inputs of the convolution
    hidden: Tensor  # [B, layers, N, E]


class _Scan(torch.autograd.Function):
    """``h_t = exp(d_t A) h_{t-1} + d_t x_t B_t``, ``y_t = h_t C_t``; the states are computed again for the gradient.

    ``x, d [B, L, E]``, ``A [N, E]``, ``B, C [B, L, N]`` to ``y [B, L, E]``. Selective scan of Gu and Dao (2023),
    Algorithm 2.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        ctx.save_for_backward(x, d, A, B, C)
        y = torch.empty_like(x)
        for rows in _parts(x):
            _, h = _states(x[rows], d[rows], A, B[rows])
            y[rows] = (C[rows].unsqueeze(2) @ h).squeeze(2)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        x, d, A, B, C = ctx.saved_tensors
        (gy,) = gradients
        gx, gd, gB, gC = (torch.empty_like(tensor) for tensor in (x, d, B, C))
        gA = torch.zeros_like(A)
        for rows in _parts(x):
            decay, h = _states(x[rows], d[rows], A, B[rows])
            gC[rows] = (h * gy[rows].unsqueeze(2)).sum(-1)
            gh = C[rows].unsqueeze(-1) * gy[rows].unsqueeze(2)
            for t in reversed(range(1, x.shape[1])):
                gh[:, t - 1].addcmul_(gh[:, t], decay[:, t])
            gB[rows] = (gh * (d[rows] * x[rows]).unsqueeze(2)).sum(-1)
            input_gradient = (B[rows].unsqueeze(2) @ gh).squeeze(2)  # of d_t x_t
            gx[rows] = input_gradient * d[rows]
            gd[rows] = input_gradient * x[rows]
            exponent = gh[:, 1:].mul_(decay[:, 1:]).mul_(h[:, :-1])  # gradient of d_t A
            gA += (exponent * d[rows, 1:].unsqueeze(2)).sum((0, 1))
            gd[rows, 1:] += exponent.mul_(A).sum(2)
        return gx, gd, gA, gB, gC


def _rows(x: Tensor) -> int:
    """How many rows of a batch ``[B, L, E]`` to scan at a time, so that states stay in the processor's cache."""
    return max(1, _POSITIONS // x.shape[1])


def _parts(x: Tensor) -> Iterator[slice]:
    rows = _rows(x)
    return (slice(start, start + rows) for start in range(0, len(x), rows))


def _states(x: Tensor, d: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """The decay before and the state after each position, ``[B, L, N, E]``."""
    decay = (d.unsqueeze(2) * A).exp_()
    h = (d * x).unsqueeze(2) * B.unsqueeze(-1)
    for t in range(1, x.shape[1]):
        h[:, t].addcmul_(decay[:, t], h[:, t - 1])
    return decay, h


def _scan_to(last: Tensor, x: Tensor, d: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The scan's output at one position of each row, where all decays from a click to it are one: ``[B, E]``.

    ``last [B]``, ``C [B, N]``, the others as in :class:`_Scan`; what follows ``last`` is not read.
    """
    d = d * (torch.arange(d.shape[1], device=d.device) <= last.unsqueeze(1)).unsqueeze(-1)
    inputs, total = d * x, d.cumsum(1)
    steps_after, weights = total[:, -1:] - total, B * C.unsqueeze(1)
    # By split, whose gradient is one cat; that of a slice is as large as the whole batch.
    parts = zip(*(tensor.split(_rows(x)) for tensor in (inputs, steps_after, weights)), strict=True)
    y = []
    for own, steps, weight in parts:
        decay = (steps.unsqueeze(2) * A).exp()  # [rows, L, N, E]
        kernel = (weight.unsqueeze(2) @ decay).squeeze(2)
        y.append((kernel * own).sum(1))
    return torch.cat(y)


class MambaMixer(nn.Module):
    """A selective state-space layer (Mamba, Gu and Dao 2023): E channels, each with N states.

    Args:
        hidden_size: D.
        state_size: N.
        conv_kernel: W, clicks under the convolution.
        expand: E / D.
    """

    fused = True
    """The released implementation runs the layer as one kernel, which its FLOP count does not see."""

    def __init__(self, *, hidden_size: int, state_size: int, conv_kernel: int, expand: int) -> None:
        super().__init__()
        inner = expand * hidden_size
        self.state_size, self.kernel = state_size, conv_kernel
        self.rank = math.ceil(hidden_size / 16)
        self.in_proj = nn.Linear(hidden_size, 2 * inner, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(inner, conv_kernel))
        self.conv_bias = nn.Parameter(torch.empty(inner))
        self.x_proj = nn.Linear(inner, self.rank + 2 * state_size, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.empty(state_size, inner))
        self.D = nn.Parameter(torch.empty(inner))
        self.out_proj = nn.Linear(inner, hidden_size, bias=False)

    def initialize(self, generator: torch.Generator | None) -> None:
        """The start of Mamba's released implementation: steps between 0.001 and 0.1, A = -1 .. -N."""
        bound = self.rank**-0.5
        self.dt_proj.weight.uniform_(-bound, bound, generator=generator)
        low, high = math.log(0.001), math.log(0.1)
        step = torch.empty_like(self.dt_proj.bias).uniform_(low, high, generator=generator).exp().clamp_min(1e-4)
        self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
        self.A_log.copy_(torch.arange(1, self.state_size + 1).log().unsqueeze(1).expand_as(self.A_log))
        self.D.fill_(1.0)
        bound = self.kernel**-0.5
        self.conv_weight.uniform_(-bound, bound, generator=generator)
        self.conv_bias.uniform_(-bound, bound, generator=generator)

    def forward(self, H: Tensor) -> Tensor:
        """``H [B, L, D]`` to the same shape."""
        x, gate, (d, B, C) = self._enter(H)
        y: Tensor = _Scan.apply(x, d, -self.A_log.exp(), B, C)
        return self._leave(y, x, gate)

    def read(self, H: Tensor, last: Tensor) -> Tensor:
        """What :meth:`forward` gives at ``last [B]``, in less time: ``H [B, L, D]`` to ``[B, D]``."""
        x, gate, (d, B, C) = self._enter(H)
        y = _scan_to(last, x, d, -self.A_log.exp(), B, pick_rows(C, last))
        return self._leave(y, pick_rows(x, last), pick_rows(gate, last))

    def step(self, H: Tensor, window: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One click ``H [B, D]`` with this layer's state: the output ``[B, D]`` and the next state."""
        x, gate = self.in_proj(H).chunk(2, dim=-1)
        taps = torch.cat((window, x.unsqueeze(-1)), dim=-1)  # [B, E, W]
        x = nn.functional.silu((taps * self.conv_weight).sum(-1) + self.conv_bias)
        d, B, C = self._select(x)
        decay = (d.unsqueeze(1) * -self.A_log.exp()).exp()
        hidden = decay * hidden + (d * x).unsqueeze(1) * B.unsqueeze(-1)
        y = (C.unsqueeze(1) @ hidden).squeeze(1)
        return self._leave(y, x, gate), taps[..., 1:], hidden

    def _enter(self, H: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        x, gate = self.in_proj(H).chunk(2, dim=-1)  # [B, L, E]
        padded = nn.functional.pad(x, (0, 0, self.kernel - 1, 0))
        taps = [padded[:, k : k + x.shape[1]] * self.conv_weight[:, k] for k in range(self.kernel)]
        x = nn.functional.silu(sum(taps, self.conv_bias))
        return x, gate, self._select(x)

    def _select(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step, B, C = self.x_proj(x).split((self.rank, self.state_size, self.state_size), dim=-1)
        return nn.functional.softplus(self.dt_proj(step)), B, C

    def _leave(self, y: Tensor, x: Tensor, gate: Tensor) -> Tensor:
        return self.out_proj((y + x * self.D) * nn.functional.silu(gate))


class MambaBlock(nn.Module):
    """A mixer and a feed-forward network, each added to its input and normalized.

    Args:
        mixer: the layer that reads the clicks.
        hidden_size: D.
        residual: whether the mixer's output is added to its input; alone in a model it is not.
        layer_norm_eps: epsilon of the norms.
        dropout: share of features dropped in training.
    """

    def __init__(
        self, *, mixer: MambaMixer, hidden_size: int, residual: bool, layer_norm_eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.mixer = mixer
        self.mixer_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.ffn = nn.Sequential(
            nn.Linear(hidden_size, 4 * hidden_size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * hidden_size, hidden_size),
        )
        self.ffn_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """``x [B, L, D]`` to the same shape."""
        return self.feed_forward(x, self.mixer(x))

    def feed_forward(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows the mixer, row by row."""
        mixed = self.dropout(mixed)
        x = self.mixer_norm(mixed + x if self.residual else mixed)
        return self.ffn_norm(self.dropout(self.ffn(x)) + x)


class Mamba4Rec(Baseline):
    """Blocks over the clicks; the score is the product with the item's own row.

    Args:
        vocab_size: V.
        hidden_size: D.
        num_layers: how many blocks.
        state_size: N, states per channel.
        conv_kernel: W, clicks under the convolution.
        expand: E / D, channels of a mixer.
        layer_norm_eps: epsilon of the norms.
        dropout: share of features dropped in training.
    """

    streams = True

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        num_layers: int = 2,
        state_size: int = 32,
        conv_kernel: int = 4,
        expand: int = 2,
        layer_norm_eps: float = 1e-12,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(vocab_size=vocab_size, hidden_size=hidden_size, dropout=dropout)
        self.input_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.blocks = nn.ModuleList(
            MambaBlock(
                mixer=MambaMixer(
                    hidden_size=hidden_size, state_size=state_size, conv_kernel=conv_kernel, expand=expand
                ),
                hidden_size=hidden_size,
                residual=num_layers > 1,
                layer_norm_eps=layer_norm_eps,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )

    def initialize(self, *, std: float, generator: torch.Generator | None) -> None:  # noqa: ARG002
        """The mixers start as Mamba's do."""
        for block in self._blocks():
            block.mixer.initialize(generator)

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The user state ``[B, D]``; all of the last block that can reads the last click alone."""
        x, last = self.input_norm(self.dropout(clicks)), last_position(ids)
        *first, final = self._blocks()
        for block in first:
            x = block(x)
        return final.feed_forward(pick_rows(x, last), final.mixer.read(x, last))

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The last block's outputs, ``[B, L, D]``."""
        x = self.input_norm(self.dropout(clicks))
        for block in self.blocks:
            x = block(x)
        return x

    def states(self, ids: Tensor, clicks: Tensor) -> Tensor:
        """The user after each click, ``[B, L, D]``."""
        return self.every_position(ids, clicks)

    def _blocks(self) -> list[MambaBlock]:
        return [block for block in self.blocks if isinstance(block, MambaBlock)]

    def start_stream(self, batch: int) -> MambaState:
        """The state before the first click: zeros."""
        blocks, zeros = self._blocks(), self.item_embedding.weight.new_zeros
        mixer = blocks[0].mixer
        inner = mixer.D.shape[0]
        return MambaState(
            zeros(batch, len(blocks), inner, mixer.kernel - 1), zeros(batch, len(blocks), mixer.state_size, inner)
        )

    def step(self, items: Tensor, state: MambaState) -> tuple[MambaState, Tensor]:
        """Read one click ``items [B]``: the next state and the user state ``[B, D]``."""
        x = self.input_norm(self.item_embedding(items))
        windows, hiddens = [], []
        for index, block in enumerate(self._blocks()):
            mixed, window, hidden = block.mixer.step(x, state.window[:, index], state.hidden[:, index])
            x = block.feed_forward(x, mixed)
            windows.append(window)
            hiddens.append(hidden)
        return MambaState(torch.stack(windows, 1), torch.stack(hiddens, 1)), x
