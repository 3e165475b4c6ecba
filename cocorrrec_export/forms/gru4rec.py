"""GRU4Rec as an export graph, equal to the plain model, which tests hold it to."""

import torch
from torch import Tensor, nn

from cocorrrec_export.forms.frame import OUT, DeviceRanker, Storage, constant, later, pick, product
from cocorrrec_export.modeling.baselines.gru4rec import GRU4Rec


class DeviceGRULayer(nn.Module):
    """A cell per click, ``h' = h + a (n - h)``: its rows of the update gate are negated, so that a = 1 - z."""

    def __init__(self, gru: nn.GRU, layer: int, *, storage: Storage) -> None:
        super().__init__()
        size = self.size = gru.hidden_size
        sign = torch.ones(3 * size)
        sign[size : 2 * size] = -1.0  # rows are r, z, n

        def signed(name: str) -> tuple[Tensor, Tensor]:
            bias = gru.get_parameter(f"bias_{name}_l{layer}") if gru.bias else torch.zeros(3 * size)
            return gru.get_parameter(f"weight_{name}_l{layer}") * sign[:, None], bias * sign

        hidden = signed("hh")
        self.input_proj = storage.projection(*signed("ih"))
        self.hidden_proj = storage.projection(*hidden)
        constant(self, "hidden_bias", hidden[1].unsqueeze(0))  # [1, 3 S], what the first click gets

    hidden_bias: Tensor

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        """The next state ``[1, S]`` after a click's ``x [1, 3 S]``; before the first click there is none."""
        size = self.size
        y = self.hidden_bias if h is None else self.hidden_proj(h)
        gates = torch.sigmoid(x[:, : 2 * size] + y[:, : 2 * size])
        new = torch.tanh(x[:, 2 * size :] + gates[:, :size] * y[:, 2 * size :])
        update = gates[:, size:]
        return update * new if h is None else h + update * (new - h)


class DeviceGRU4Rec(DeviceRanker):
    """The GRU unrolled. Behind the last click its gates are shut, so the last state is the user's: none is picked."""

    def __init__(self, model: GRU4Rec, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, list(model.item_mlp), sequence_length=sequence_length, storage=storage)
        gru, size = model.gru, model.gru.hidden_size
        self.size, self.residual = size, model.residual
        self.click_proj = (
            None if model.click_proj is None else storage.projection(model.click_proj.weight, model.click_proj.bias)
        )
        self.layers = nn.ModuleList(DeviceGRULayer(gru, layer, storage=storage) for layer in range(gru.num_layers))
        self.user_mlp = storage.layers(list(model.user_mlp))
        constant(self, "later", later(sequence_length))
        constant(self, "gate", (torch.arange(3 * size) // size == 1).to(torch.float32).unsqueeze(0))  # [1, 3 S]

    later: Tensor
    gate: Tensor

    def project(self, rows: Tensor) -> Tensor:
        """What the GRU reads of the clicks' rows, both ``[L, D]``."""
        return rows if self.click_proj is None else torch.tanh(self.click_proj(rows))

    def _layers(self) -> list[DeviceGRULayer]:
        return [layer for layer in self.layers if isinstance(layer, DeviceGRULayer)]

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]``."""
        length = ids.shape[1]
        here = self.last_click(ids)
        shut = (product(here, self.later) * OUT).view(length, 1) * self.gate  # [L, 3 S]
        inputs = self.project(rows)
        for layer in self._layers():
            x = layer.input_proj(inputs) + shut
            states: list[Tensor] = []
            for t in range(length):
                states.append(layer(x if length == 1 else x[t : t + 1], states[-1] if states else None))
            inputs = states[0] if length == 1 else torch.cat(states, dim=0)
        user: Tensor = self.user_mlp(states[-1])
        return user + pick(here, rows) if self.residual else user

    def step(self, row: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """The next ``hidden [1, layers S]``, and the user state."""
        x, states = self.project(row), []
        layers = self._layers()
        for index, layer in enumerate(layers):
            before = state[0] if len(layers) == 1 else state[0][:, index * self.size : (index + 1) * self.size]
            x = layer(layer.input_proj(x), before)
            states.append(x)
        user = self.user_mlp(x)
        hidden = states[0] if len(states) == 1 else torch.cat(states, dim=1)
        return hidden, user + row if self.residual else user
