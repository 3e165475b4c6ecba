"""The baselines in the form that every exporter lowers well; equal to the plain models, which tests hold them to.

Only what the last click needs is computed. Letters as in :mod:`cocorrrec_export.export.device_frame`; E inner features
and N states of a Mamba mixer.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.export.device_frame import (
    DeviceLayerNorm,
    DeviceRanker,
    Mean,
    Storage,
    constant,
    pick,
    product,
)
from cocorrrec_export.modeling.baselines.bert4rec import BERT4Rec, BERTBlock, DeviationNorm
from cocorrrec_export.modeling.baselines.din import DIN
from cocorrrec_export.modeling.baselines.frame import SelfAttention
from cocorrrec_export.modeling.baselines.gru4rec import GRU4Rec
from cocorrrec_export.modeling.baselines.mamba4rec import KERNEL, STATE_SIZE, Mamba4Rec, MambaBlock, MambaMixer
from cocorrrec_export.modeling.baselines.sasrec import SASRec
from cocorrrec_export.modeling.config import PADDING_ID

OUT = -1e4
"""The logit of what must not count: nothing, after a softmax or a sigmoid, and float16 has it."""


class Clicks(NamedTuple):
    """Which of L places hold a click, ``[1, L]`` each: 1 and 0, and what is added to logits."""

    keep: Tensor
    out: Tensor


def clicked(ids: Tensor) -> Clicks:
    """Of ``ids [1, L]``."""
    keep = (ids != PADDING_ID).to(torch.float32)
    return Clicks(keep, (1.0 - keep) * OUT)


def attend(query: Tensor, key: Tensor, value: Tensor, clicks: Clicks) -> Tensor:
    """Attention of ``query [h, r, f]``, scaled, to ``key [h, L, f]`` and ``value [h, L, n]``: ``[h, r, n]``.

    In an empty history every place counts the same, as in the plain models.
    """
    logits = torch.bmm(query, key.transpose(1, 2)) * clicks.keep.unsqueeze(0) + clicks.out.unsqueeze(0)
    return torch.bmm(torch.softmax(logits, dim=-1), value)


def later(length: int) -> Tensor:
    """``[s, r]``, 1 where place r comes after place s."""
    return torch.ones(length, length).triu(1)


def position_rows(table: nn.Embedding, length: int) -> Tensor:
    """The first ``length`` rows of a table of positions.

    A history that is longer than the model was trained for is exported to be measured alone: its further rows are zero.
    """
    rows = table.weight[:length]
    return nn.functional.pad(rows, (0, 0, 0, length - len(rows)))


# ---------------------------------------------------------------------- DIN


class DeviceDIN(DeviceRanker):
    """Keys and values of the clicks once; each candidate then attends to them.

    Matrices without anything between them are one. The query projection goes over to the keys, since q . k is
    v^T (Wq^T Wk) x; the half of the classifier's first layer that reads what was found goes over to the values. So a
    candidate costs no product with either.
    """

    def __init__(self, model: DIN, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, (model.item_proj, nn.Tanh()), sequence_length=sequence_length, storage=storage)
        first, *rest = model.classifier
        assert isinstance(first, nn.Linear)
        for_item, for_interest = first.weight.split(self.hidden, dim=1)
        keys = model.query_proj.weight.T @ model.key_proj.weight / math.sqrt(self.hidden)
        self.click_proj = storage.projection(model.click_proj.weight, model.click_proj.bias)
        self.interest_proj = storage.projection(torch.cat((keys, for_interest @ model.value_proj.weight)))
        self.target_proj = storage.projection(for_item, first.bias)
        self.classifier = storage.layers(rest)

    def read(self, ids: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Clicks]:
        """Keys ``[L, D]``, values ``[L, 2 D]``, and where there are clicks."""
        x = self.interest_proj(torch.tanh(self.click_proj(rows)))
        return x[:, : self.hidden], x[:, self.hidden :], clicked(ids)

    def match(self, user: tuple[Tensor, Tensor, Clicks], vectors: Tensor) -> Tensor:
        """Logits ``[1, C]`` of items with ``vectors [C, D]``."""
        key, value, clicks = user
        interest = attend(vectors.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), clicks)
        count = vectors.shape[0]
        logits: Tensor = self.classifier(self.target_proj(vectors) + interest.view(count, 2 * self.hidden))
        return logits.view(1, count)


# ---------------------------------------------------------------------- GRU4Rec


class DeviceGRU4Rec(DeviceRanker):
    """A GRU cell a click, ``h' = h + a (n - h)``: its rows of the update gate are negated, so that a = 1 - z.

    After the last click the gate is shut, so the last state is the user's, and none has to be picked.
    """

    def __init__(self, model: GRU4Rec, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, list(model.item_mlp), sequence_length=sequence_length, storage=storage)
        gru, size = model.gru, self.hidden
        bias, sign = gru.get_parameter("bias_hh_l0"), torch.ones(3 * size)
        sign[size : 2 * size] = -1.0  # rows are r, z, n
        self.click_proj = storage.projection(model.click_proj.weight, model.click_proj.bias)
        self.input_proj = storage.projection(
            gru.get_parameter("weight_ih_l0") * sign[:, None], gru.get_parameter("bias_ih_l0") * sign
        )
        self.hidden_proj = storage.projection(gru.get_parameter("weight_hh_l0") * sign[:, None], bias * sign)
        self.user_mlp = storage.layers(list(model.user_mlp))
        constant(self, "hidden_bias", (bias * sign).unsqueeze(0))  # [1, 3 D], what the first click gets
        constant(self, "later", later(sequence_length))
        constant(self, "gate", (torch.arange(3 * size) // size == 1).to(torch.float32).unsqueeze(0))  # [1, 3 D]

    hidden_bias: Tensor
    later: Tensor
    gate: Tensor

    def gate_inputs(self, rows: Tensor) -> Tensor:
        """What the gates get of the clicks' rows ``[L, D]``: ``[L, 3 D]``."""
        inputs: Tensor = self.input_proj(torch.tanh(self.click_proj(rows)))
        return inputs

    def cell(self, x: Tensor, h: Tensor | None) -> Tensor:
        """The next state ``[1, D]`` after a click's ``x [1, 3 D]``; before the first click there is none."""
        size = self.hidden
        y = self.hidden_bias if h is None else self.hidden_proj(h)
        gates = torch.sigmoid(x[:, : 2 * size] + y[:, : 2 * size])
        new = torch.tanh(x[:, 2 * size :] + gates[:, :size] * y[:, 2 * size :])
        update = gates[:, size:]
        return update * new if h is None else h + update * (new - h)

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]``."""
        length = ids.shape[1]
        shut = product(self.one_hot(self.last_click(ids), length), self.later) * OUT  # [1, L]
        x = self.gate_inputs(rows) + shut.view(length, 1) * self.gate
        h = None
        for t in range(length):
            h = self.cell(x if length == 1 else x[t : t + 1], h)
        user: Tensor = self.user_mlp(h)
        return user

    def step(self, row: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """The next ``hidden [1, D]``, and the user state."""
        hidden = self.cell(self.gate_inputs(row), state[0])
        return hidden, self.user_mlp(hidden)


# ---------------------------------------------------------------------- SASRec and BERT4Rec


class DeviceAttention(nn.Module):
    """Self-attention of every click, or of the last one alone; the scale is in the query's weights."""

    def __init__(self, attention: SelfAttention, *, storage: Storage) -> None:
        super().__init__()
        self.heads, size = attention.num_heads, attention.out_proj.in_features
        scale = torch.ones(3 * size)
        scale[:size] = 1.0 / math.sqrt(size / self.heads)
        self.sizes = (size, 2 * size)
        weight, bias = attention.in_proj.weight * scale[:, None], attention.in_proj.bias * scale
        self.query_proj = storage.projection(weight[:size], bias[:size])
        self.click_proj = storage.projection(weight[size:], bias[size:])
        self.out_proj = storage.projection(attention.out_proj.weight, attention.out_proj.bias)

    def split_heads(self, x: Tensor) -> Tensor:
        """``[r, D]`` to ``[h, r, f]``."""
        return x.view(x.shape[0], self.heads, x.shape[1] // self.heads).transpose(0, 1)

    def forward(self, x: Tensor, asking: Tensor, clicks: Clicks) -> Tensor:
        """The clicks ``x [L, D]``, read by those ``asking [r, D]``: ``[r, D]``."""
        rows, size = asking.shape
        both = self.click_proj(x)
        key, value = self.split_heads(both[:, :size]), self.split_heads(both[:, size:])
        mixed = attend(self.split_heads(self.query_proj(asking)), key, value, clicks)
        out: Tensor = self.out_proj(mixed.transpose(0, 1).reshape(rows, size))
        return out


class DeviceSASRec(DeviceRanker):
    """Keys and values of every click, and the last click's query; only the positions that are read are kept."""

    def __init__(self, model: SASRec, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, list(model.item_mlp), sequence_length=sequence_length, storage=storage)
        constant(self, "positions", position_rows(model.position_embedding, sequence_length))  # [L, D]
        self.click_proj = storage.projection(model.click_proj.weight, model.click_proj.bias)
        self.attention = DeviceAttention(model.attention, storage=storage)
        self.attention_norm = DeviceLayerNorm(model.attention_norm)
        self.ffn = storage.layers(list(model.ffn))
        self.ffn_norm = DeviceLayerNorm(model.ffn_norm)
        self.user_mlp = storage.layers(list(model.user_mlp))

    positions: Tensor

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]``."""
        x = torch.tanh(self.click_proj(rows + self.positions))
        last = pick(self.one_hot(self.last_click(ids), ids.shape[1]), x)
        y = self.attention_norm(last + self.attention(x, last, clicked(ids)))
        user: Tensor = self.user_mlp(self.ffn_norm(y + self.ffn(y)))
        return user


class DeviceDeviationNorm(nn.Module):
    """:class:`DeviationNorm` with means as products."""

    def __init__(self, norm: DeviationNorm) -> None:
        super().__init__()
        size = norm.weight.shape[0]
        constant(self, "weight", norm.weight)
        constant(self, "bias", norm.bias)
        self.mean = Mean(size)
        self.variance = Mean(size, divisor=size - 1, plus=1e-12)
        self.eps = norm.eps

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """``[n, size]`` to the same shape."""
        centred = x - self.mean(x)
        return self.weight * (centred / (torch.sqrt(self.variance(centred * centred)) + self.eps)) + self.bias


class DeviceBERTBlock(nn.Module):
    """A block of every click, or of the last one alone."""

    def __init__(self, block: BERTBlock, *, storage: Storage) -> None:
        super().__init__()
        self.attention_norm = DeviceDeviationNorm(block.attention_norm)
        self.attention = DeviceAttention(block.attention, storage=storage)
        self.ffn_norm = DeviceDeviationNorm(block.ffn_norm)
        self.ffn = storage.layers(list(block.ffn))

    def forward(self, x: Tensor, clicks: Clicks, here: Tensor | None) -> Tensor:
        """``x [L, D]`` to the same shape, or at the one-hot row ``here [1, L]`` alone to ``[1, D]``."""
        read = asking = self.attention_norm(x)
        if here is not None:
            x, asking = pick(here, x), pick(here, read)
        x = x + self.attention(read, asking, clicks)
        out: Tensor = x + self.ffn(self.ffn_norm(x))
        return out


class DeviceBERT4Rec(DeviceRanker):
    """Every block over all clicks, but the last, which is read at the last click."""

    def __init__(self, model: BERT4Rec, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, (), sequence_length=sequence_length, storage=storage)
        constant(self, "positions", position_rows(model.position_embedding, sequence_length))  # [L, D]
        blocks = [block for block in model.blocks if isinstance(block, BERTBlock)]
        self.blocks = nn.ModuleList(DeviceBERTBlock(block, storage=storage) for block in blocks)

    positions: Tensor

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]``."""
        clicks, here = clicked(ids), self.one_hot(self.last_click(ids), ids.shape[1])
        x = rows + self.positions
        for index, block in enumerate(self.blocks):
            x = block(x, clicks, here if index + 1 == len(self.blocks) else None)
        return x


# ---------------------------------------------------------------------- Mamba4Rec


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
        self.in_proj = storage.projection(mixer.in_proj.weight)
        self.x_proj = storage.projection(mixer.x_proj.weight)
        self.dt_proj = storage.projection(mixer.dt_proj.weight, mixer.dt_proj.bias)
        self.out_proj = storage.projection(mixer.out_proj.weight)
        constant(self, "conv_weight", mixer.conv_weight.T)  # [KERNEL, E]
        constant(self, "conv_bias", mixer.conv_bias)
        constant(self, "A", -mixer.A_log.exp().unsqueeze(0))  # [1, N, E]
        constant(self, "D", mixer.D)
        constant(self, "before_first", torch.zeros(KERNEL - 1, self.inner))
        constant(self, "later", later(sequence_length))

    conv_weight: Tensor
    conv_bias: Tensor
    A: Tensor
    D: Tensor
    before_first: Tensor
    later: Tensor

    def select(self, H: Tensor, window: Tensor) -> tuple[Selected, Tensor]:
        """What is read of ``H [L, D]`` behind the convolution's last inputs ``window [KERNEL - 1, E]``; the inputs."""
        rows, E = H.shape[0], self.inner
        both = self.in_proj(H)
        x, gate = both[:, :E], both[:, E:]
        inputs = torch.cat((window, x), dim=0)
        taps = [inputs[k : k + rows] * self.conv_weight[k : k + 1] for k in range(KERNEL)]
        x = silu(taps[0] + taps[1] + taps[2] + taps[3] + self.conv_bias)
        y = self.x_proj(x)
        d = softplus(self.dt_proj(y[:, : self.rank]))
        B, C = y[:, self.rank : self.rank + STATE_SIZE], y[:, self.rank + STATE_SIZE :]
        return Selected(x, gate, d, B, C), inputs

    def leave(self, y: Tensor, x: Tensor, gate: Tensor) -> Tensor:
        """The output ``[n, D]`` of what was read out, ``y [n, E]``."""
        out: Tensor = self.out_proj((y + x * self.D) * silu(gate))
        return out

    def changes(self, s: Selected) -> tuple[Tensor, Tensor]:
        """By what each click multiplies the state, and what it adds, ``[L, N, E]``."""
        rows, E = s.x.shape
        decay = torch.exp(s.d.view(rows, 1, E) * self.A)
        return decay, (s.d * s.x).view(rows, 1, E) * s.B.reshape(rows, STATE_SIZE, 1)

    def read_out(self, s: Selected, states: Tensor) -> Tensor:
        """Outputs ``[L, D]`` from the state after each click, ``[L, N, E]``."""
        rows, E = s.x.shape
        y = torch.bmm(s.C.reshape(rows, 1, STATE_SIZE), states).view(rows, E)
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
        y = torch.bmm((s.B * C).view(rows, 1, STATE_SIZE), decay).view(rows, E)
        return self.leave(pick(until, y * s.d * s.x), pick(here, s.x), pick(here, s.gate))

    def step(self, H: Tensor, window: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One click ``H [1, D]`` after ``window [KERNEL - 1, E]`` and ``hidden [1, N, E]``: output and next state."""
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

    def feed_forward(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows the mixer, row by row, ``[n, D]``."""
        x = self.mixer_norm(mixed + x)
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
        here = self.one_hot(self.last_click(ids), ids.shape[1])
        x = self.input_norm(rows)
        for block in self._blocks()[:-1]:
            x = block.feed_forward(x, block.mixer.every(x))
        return self.final.feed_forward(pick(here, x), self.final.mixer.last(x, here))

    def _blocks(self) -> list[DeviceMambaBlock]:
        return [block for block in (*self.first, self.final) if isinstance(block, DeviceMambaBlock)]

    def step(self, row: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """From ``window [1, layers, E, KERNEL - 1]`` and ``hidden [1, layers, N, E]`` to the next, and the user."""
        x = self.input_norm(row)
        windows, hiddens = [], []
        for index, block in enumerate(self._blocks()):
            window, hidden = state[0][0, index].transpose(0, 1), state[1][:, index]
            mixed, window, hidden = block.mixer.step(x, window, hidden)
            x = block.feed_forward(x, mixed)
            windows.append(window.transpose(0, 1).unsqueeze(0).unsqueeze(0))
            hiddens.append(hidden.unsqueeze(1))
        return torch.cat(windows, dim=1), torch.cat(hiddens, dim=1), x
