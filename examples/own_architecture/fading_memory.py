"""An architecture of one's own: the user is a mean of the clicks that fades, feature by feature, and a layer on it.

``pip install examples/own_architecture`` makes it known: ``train --architecture fading_memory``, ``scn``, ``parity``,
``evaluate`` and ``cocorr-profile`` then take it like any other. Letters: B batch, L clicks, D features, V items.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.contract import TensorSpec
from cocorrrec_export.export.graphs import Form
from cocorrrec_export.forms.frame import DeviceRanker, Storage, constant
from cocorrrec_export.modeling.config import PADDING_ID, ModelConfig
from cocorrrec_export.modeling.ranker import Ranker


class Memory(NamedTuple):
    """All that the next click needs to know."""

    memory: Tensor  # [B, D]


class FadingMemory(Ranker):
    """``m = m + (1 - fade) (click - m)`` per click, from zeros; the user state is a layer on ``m``."""

    streams = True

    def __init__(self, *, vocab_size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.gcn = None
        self.item_embedding = nn.Embedding(vocab_size, hidden_size, padding_idx=PADDING_ID)
        self.fade = nn.Parameter(torch.zeros(hidden_size))  # before the sigmoid
        self.output = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:
        """The user state ``[B, D]``: padding changes nothing, so it is that of the last place."""
        return self.every_position(ids, clicks, corrected=corrected)[:, -1]

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The state after each place, ``[B, L, D]``."""
        clicked = (ids != PADDING_ID).unsqueeze(-1)
        memory, after = torch.zeros_like(clicks[:, 0]), []
        for place in range(ids.shape[1]):
            memory = memory + clicked[:, place] * self._learned(self.dropout(clicks[:, place]), memory)
            after.append(memory)
        return self.output(torch.stack(after, dim=1))

    def states(self, ids: Tensor, clicks: Tensor) -> Tensor:
        """The same: no place knows what comes after it, so training can predict every click."""
        return self.every_position(ids, clicks)

    def start_stream(self, batch: int) -> Memory:
        """The state before the first click."""
        return Memory(self.fade.new_zeros(batch, len(self.fade)))

    def step(self, items: Tensor, state: Memory) -> tuple[Memory, Tensor]:
        """One click ``items [B]``: the next state, and the user state ``[B, D]``."""
        memory = state.memory + self._learned(self.item_embedding(items), state.memory)
        return Memory(memory), self.output(memory)

    def _learned(self, click: Tensor, memory: Tensor) -> Tensor:
        return torch.sigmoid(-self.fade) * (click - memory)


class DeviceFadingMemory(DeviceRanker):
    """The same for one user, in operators that every exporter has; parity holds it to the plain model."""

    def __init__(self, model: FadingMemory, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, (), sequence_length=sequence_length, storage=storage)
        constant(self, "share", torch.sigmoid(-model.fade).unsqueeze(0))  # [1, D]
        self.output = storage.projection(model.output.weight, model.output.bias)

    share: Tensor

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]`` from the clicks' rows ``[L, D]``."""
        length = ids.shape[1]
        shares = (ids != PADDING_ID).to(torch.float32).view(length, 1) * self.share  # [L, D]
        memory = shares[:1] * rows[:1] if length > 1 else shares * rows
        for place in range(1, length):
            memory = memory + shares[place : place + 1] * (rows[place : place + 1] - memory)
        user: Tensor = self.output(memory)
        return user

    def step(self, row: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """The next memory and the user state, both ``[1, D]``."""
        memory = state[0] + self.share * (row - state[0])
        return memory, self.output(memory)


def build(config: ModelConfig) -> FadingMemory:
    """The model of a config; names what it reads of it."""
    return FadingMemory(vocab_size=config.vocab_size, hidden_size=config.hidden_size, dropout=config.dropout)


def _state(config: ModelConfig) -> tuple[TensorSpec, ...]:
    return (TensorSpec("memory", "float32", (1, config.hidden_size)),)


FORM = Form(DeviceFadingMemory, ("rank", "step", "score"), _state)
