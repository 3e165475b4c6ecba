"""Mamba4Rec as an export graph, equal to the plain model, which tests hold it to; only the last click is read out.

Letters as in :mod:`cocorrrec_export.forms.frame`; E inner features and N states of a mixer, W clicks
under its convolution.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.forms.frame import DeviceLayerNorm, DeviceRanker, Storage, constant, later, pick, product
from cocorrrec_export.modeling.baselines.mamba4rec import Mamba4Rec, MambaBlock, MambaMixer


class Selected(NamedTuple):
    """What a mixer reads of L clicks."""

    x: Tensor  # [L, E]
    gate: Tensor  # [L, E]
    d: Tensor  # [L, E] step sizes
    B: Tensor  # [L, N]
    C: Tensor  # [L, N]


class DeviceMixer(nn.Module):
    """A Mamba mixer.

    Every position: the scan click by click, what does not depend on the state before computed for all clicks at once.
    The last position alone needs no scan: ``y = sum_s exp(A sum_(s < r <= last) d_r) d_s x_s (B_s . C_last)`` has
    exponents <= 0 only, whose sums of steps are one product with a triangle of ones.
    """

    def __init__(self, mixer: MambaMixer, *, sequence_length: int, storage: Storage) -> None:
        super().__init__()
        self.rank, self.inner = mixer.rank, mixer.D.shape[0]
        self.states, self.kernel = mixer.state_size, mixer.kernel
        self.in_proj = storage.projection(mixer.in_proj.weight)
        self.x_proj = storage.projection(mixer.x_proj.weight)
        self.dt_proj = storage.projection(mixer.dt_proj.weight, mixer.dt_proj.bias)
        self.out_proj = storage.projection(mixer.out_proj.weight)
        constant(self, "conv_weight", mixer.conv_weight.T)  # [W, E]
        constant(self, "conv_bias", mixer.conv_bias)
        constant(self, "A", -mixer.A_log.exp().unsqueeze(0))  # [1, N, E]
        constant(self, "D", mixer.D)
        constant(self, "before_first", torch.zeros(self.kernel - 1, self.inner))
        constant(self, "later", later(sequence_length))

    conv_weight: Tensor
    conv_bias: Tensor
    A: Tensor
    D: Tensor
    before_first: Tensor
    later: Tensor

    def select(self, H: Tensor, window: Tensor) -> tuple[Selected, Tensor]:
        """What is read of ``H [L, D]`` behind the convolution's last inputs ``window [W - 1, E]``; the inputs."""
        rows, E = H.shape[0], self.inner
        both = self.in_proj(H)
        x, gate = both[:, :E], both[:, E:]
        inputs = torch.cat((window, x), dim=0)
        taps = [inputs[k : k + rows] * self.conv_weight[k : k + 1] for k in range(self.kernel)]
        x = silu(sum(taps[1:], taps[0]) + self.conv_bias)
        y = self.x_proj(x)
        d = softplus(self.dt_proj(y[:, : self.rank]))
        B, C = y[:, self.rank : self.rank + self.states], y[:, self.rank + self.states :]
        return Selected(x, gate, d, B, C), inputs

    def leave(self, y: Tensor, x: Tensor, gate: Tensor) -> Tensor:
        """The output ``[n, D]`` of what was read out, ``y [n, E]``."""
        out: Tensor = self.out_proj((y + x * self.D) * silu(gate))
        return out

    def changes(self, s: Selected) -> tuple[Tensor, Tensor]:
        """By what each click multiplies the state, and what it adds, ``[L, N, E]``."""
        rows, E = s.x.shape
        decay = torch.exp(s.d.view(rows, 1, E) * self.A)
        return decay, (s.d * s.x).view(rows, 1, E) * s.B.reshape(rows, self.states, 1)

    def read_out(self, s: Selected, states: Tensor) -> Tensor:
        """Outputs ``[L, D]`` from the state after each click, ``[L, N, E]``."""
        rows, E = s.x.shape
        y = torch.bmm(s.C.reshape(rows, 1, self.states), states).view(rows, E)
        return self.leave(y, s.x, s.gate)

    def every(self, H: Tensor) -> Tensor:
        """``H [L, D]`` to the same shape."""
        s, _ = self.select(H, self.before_first)
        decay, added = self.changes(s)
        if H.shape[0] == 1:
            return self.read_out(s, added)
        states = [added[:1]]
        for t in range(1, H.shape[0]):
            states.append(decay[t : t + 1] * states[-1] + added[t : t + 1])
        return self.read_out(s, torch.cat(states, dim=0))

    def last(self, H: Tensor, here: Tensor) -> Tensor:
        """At the one-hot row ``here [1, L]`` alone: ``[1, D]``."""
        until = 1.0 - product(here, self.later)
        s, _ = self.select(H, self.before_first)
        rows, E = s.x.shape
        since = product(self.later, s.d * until.view(rows, 1))  # [L, E]: sum of the steps after each click
        decay = torch.exp(since.view(rows, 1, E) * self.A)  # [L, N, E]
        C = pick(here, s.C)  # [1, N]
        y = torch.bmm((s.B * C).view(rows, 1, self.states), decay).view(rows, E)
        return self.leave(pick(until, y * s.d * s.x), pick(here, s.x), pick(here, s.gate))

    def step(self, H: Tensor, window: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One click ``H [1, D]`` after ``window [W - 1, E]`` and ``hidden [1, N, E]``: output and next state."""
        s, inputs = self.select(H, window)
        decay, added = self.changes(s)
        hidden = decay * hidden + added
        return self.read_out(s, hidden), inputs[1:], hidden


def silu(x: Tensor) -> Tensor:
    """``x sigmoid(x)``, in two operators that every backend has."""
    return x * torch.sigmoid(x)


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``, without an exponent above 0."""
    return torch.relu(x) + torch.log(1.0 + torch.exp(-torch.abs(x)))


class DeviceMambaBlock(nn.Module):
    """A mixer and what follows it."""

    def __init__(self, block: MambaBlock, *, sequence_length: int, storage: Storage) -> None:
        super().__init__()
        self.mixer = DeviceMixer(block.mixer, sequence_length=sequence_length, storage=storage)
        self.mixer_norm = DeviceLayerNorm(block.mixer_norm)
        self.ffn = storage.layers([layer for layer in block.ffn if not isinstance(layer, nn.Dropout)])
        self.ffn_norm = DeviceLayerNorm(block.ffn_norm)
        self.residual = block.residual

    def feed_forward(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows the mixer, row by row, ``[n, D]``."""
        x = self.mixer_norm(mixed + x if self.residual else mixed)
        out: Tensor = self.ffn_norm(self.ffn(x) + x)
        return out


class DeviceMamba4Rec(DeviceRanker):
    """Every block over all clicks, but the last, which is read at the last click."""

    def __init__(self, model: Mamba4Rec, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, (), sequence_length=sequence_length, storage=storage)
        self.input_norm = DeviceLayerNorm(model.input_norm)
        plain = [block for block in model.blocks if isinstance(block, MambaBlock)]
        blocks = [DeviceMambaBlock(block, sequence_length=sequence_length, storage=storage) for block in plain]
        self.first, self.final = nn.ModuleList(blocks[:-1]), blocks[-1]

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]``."""
        here = self.last_click(ids)
        x = self.input_norm(rows)
        for block in self._blocks()[:-1]:
            x = block.feed_forward(x, block.mixer.every(x))
        return self.final.feed_forward(pick(here, x), self.final.mixer.last(x, here))

    def _blocks(self) -> list[DeviceMambaBlock]:
        return [block for block in (*self.first, self.final) if isinstance(block, DeviceMambaBlock)]

    def step(self, row: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """From ``window [1, layers, E, W - 1]`` and ``hidden [1, layers, N, E]`` to the next, and the user."""
        x = self.input_norm(row)
        windows, hiddens = [], []
        for index, block in enumerate(self._blocks()):
            window, hidden = state[0][0, index].transpose(0, 1), state[1][:, index]
            mixed, window, hidden = block.mixer.step(x, window, hidden)
            x = block.feed_forward(x, mixed)
            windows.append(window.transpose(0, 1).unsqueeze(0).unsqueeze(0))
            hiddens.append(hidden.unsqueeze(1))
        return torch.cat(windows, dim=1), torch.cat(hiddens, dim=1), x
