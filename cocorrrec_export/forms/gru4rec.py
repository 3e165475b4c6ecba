"""GRU4Rec as an export graph, equal to the plain model, which tests hold it to."""

import torch
from torch import Tensor

from cocorrrec_export.forms.frame import OUT, DeviceRanker, Storage, constant, later, pick, product
from cocorrrec_export.modeling.baselines.gru4rec import GRU4Rec


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
        self.residual = model.residual
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
        here = self.one_hot(self.last_click(ids), length)
        shut = product(here, self.later) * OUT  # [1, L]
        x = self.gate_inputs(rows) + shut.view(length, 1) * self.gate
        h = None
        for t in range(length):
            h = self.cell(x if length == 1 else x[t : t + 1], h)
        user: Tensor = self.user_mlp(h)
        return user + pick(here, rows) if self.residual else user

    def step(self, row: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """The next ``hidden [1, D]``, and the user state."""
        hidden = self.cell(self.gate_inputs(row), state[0])
        user = self.user_mlp(hidden)
        return hidden, user + row if self.residual else user
