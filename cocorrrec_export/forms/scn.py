"""The SCN in the form that every exporter lowers well; equal to the plain model, which tests hold it to.

The key, value and step-size projections of a click are one product; the bias b of the inner model is one more row of
W, ``Wb``, and a key's last feature is 1. With the inner loss behind a LayerNorm, what the inner model makes of a click
counts without its mean. The first W and b are kept without one; later it is taken off in the graph: gradients have none
on paper, but in float32 W and b gather one over many mini-batches. Letters as in :mod:`cocorrrec_export.modeling.ttt`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.contract import NEW_STREAM
from cocorrrec_export.forms.frame import (
    DeviceLayerNorm,
    DeviceRanker,
    Mean,
    Storage,
    constant,
    leading_columns,
    pick,
)
from cocorrrec_export.forms.kernel import KernelFusion
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.layers import RMSNorm, rotate_pairs
from cocorrrec_export.modeling.ttt import LN_EPS, TTTLinear

MOST_TABULATED = 100
"""Clicks whose weights for every last click are kept as a table; those of more are computed, which is smaller."""
FEW = 5
"""Mini-batches that are so few that means which do not count may add up in the inner model: float32 has room for them.
"""


class InnerBatch(NamedTuple):
    """What one mini-batch of k clicks turns into."""

    XK: Tensor  # [h, k, f]
    goal: Tensor  # [h, k, f] what the reconstruction is held against, behind a LayerNorm times its weight
    rate: Tensor  # [h, 1, k] step sizes, times f


class DeviceSCN(DeviceRanker):
    """The weights of an SCN, rearranged once.

    Args:
        model: the plain model, in evaluation mode.
        sequence_length: L.
        storage: how weights are kept.
    """

    def __init__(self, model: CoCorrRec, *, sequence_length: int, storage: Storage) -> None:
        scn, ttt = model.scn, model.scn.ttt
        places = -(-sequence_length // ttt.mini_batch) * ttt.mini_batch
        super().__init__(model, list(scn.item_mlp), sequence_length=sequence_length, storage=storage, places=places)
        self.heads, self.head_dim, self.mini_batch = ttt.num_heads, ttt.head_dim, ttt.mini_batch
        self.inner_loss = ttt.inner_loss
        self.residual = scn.residual
        self.input_norm = DeviceRMSNorm(scn.input_norm)
        self.output_norm = DeviceRMSNorm(scn.output_norm)
        self.o_proj = storage.projection(ttt.o_proj.weight)
        self.query_proj = storage.projection(ttt.q_proj.weight)
        self.click_proj = storage.projection(
            torch.cat((ttt.k_proj.weight, ttt.v_proj.weight, ttt.lr_weight)),
            torch.cat((torch.zeros(self.hidden), self._value_bias(ttt), ttt.lr_bias)),
        )
        constant(self, "rotation", rotate_pairs(torch.eye(self.head_dim)).T)  # [f, f], for a product with rows
        constant(self, "rope_cos", ttt.rope_cos)  # [K, f]
        constant(self, "rope_sin", ttt.rope_sin)
        constant(self, "token_rate", ttt.token_rate().unsqueeze(1))  # [K, 1]
        # Of each place: rotation, token rate, and which places it sees. It is a weight, the tables above are operands:
        # XNNPACK in ExecuTorch frees a weight's values once they are packed, also where an operand shares them.
        sees = torch.ones(self.mini_batch, self.mini_batch).tril()
        constant(self, "by_place", torch.cat((self.rope_cos, self.rope_sin, self.token_rate, sees), dim=1))
        constant(self, "end_rate", self.token_rate[-1:].unsqueeze(0) / self.head_dim)  # [1, 1, 1]
        constant(self, "places", torch.arange(self.mini_batch, dtype=torch.int32))
        constant(self, "Wb1", torch.cat((ttt.W1, ttt.b1), dim=1))  # [h, f + 1, f]
        by_norm = self.inner_loss != "sigmoid"
        centred = self.Wb1 - self.Wb1.mean(dim=2, keepdim=True) if by_norm else self.Wb1
        constant(self, "centred_Wb1", centred)
        constant(self, "ones", torch.ones(self.heads, sequence_length, 1))
        constant(self, "one", torch.ones(self.heads, 1, 1))
        constant(self, "centring", torch.eye(self.head_dim) - 1.0 / self.head_dim)  # [f, f]
        constant(self, "ln_weight", ttt.ln_weight.unsqueeze(1))  # [h, 1, f]
        constant(self, "ln_bias", ttt.ln_bias.unsqueeze(1))
        constant(self, "squared_weight", self.ln_weight.square())
        self._keep_positions(sequence_length)
        self.post_norm = DeviceLayerNorm(ttt.post_norm)
        self.head_mean = Mean(self.head_dim, outputs=self.head_dim)
        self.head_mean_plus_eps = Mean(self.head_dim, outputs=self.head_dim, plus=LN_EPS)
        self.fusion = None if scn.fusion is None else KernelFusion(scn.fusion, ttt, sequence_length=sequence_length)

    def _keep_positions(self, length: int) -> None:
        """Rotation of each click, and what a last click at each place asks for."""
        place = torch.arange(length)
        within = place % self.mini_batch
        first = place - within
        cos, sin, rate = self.rope_cos[within], self.rope_sin[within], self.token_rate[within]
        constant(self, "click_cos", cos.unsqueeze(0))  # [1, L, f]
        constant(self, "click_sin", sin.unsqueeze(0))
        if length <= MOST_TABULATED:
            earlier = (place < first[:, None]).to(torch.float32)  # [L, L], a row a last click
            until = (place <= place[:, None]).to(torch.float32)
            weight = (earlier * self.token_rate[-1] + (until - earlier) * rate) / self.head_dim
            constant(self, "by_last", torch.cat((cos, sin, weight), dim=1).T)  # [2 f + L, L]
        else:
            numbers = torch.stack((first, place), dim=1)  # [L, 2]
            constant(self, "positions", torch.cat((cos, sin, rate / self.head_dim, numbers), dim=1).T)  # [2 f + 3, L]
            constant(self, "place", place.to(torch.float32).view(1, 1, length))

    click_cos: Tensor
    click_sin: Tensor
    positions: Tensor
    place: Tensor
    places: Tensor
    rotation: Tensor
    rope_cos: Tensor
    rope_sin: Tensor
    token_rate: Tensor
    by_place: Tensor
    by_last: Tensor
    end_rate: Tensor
    Wb1: Tensor
    centred_Wb1: Tensor
    ones: Tensor
    one: Tensor
    centring: Tensor
    ln_weight: Tensor
    ln_bias: Tensor
    squared_weight: Tensor

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary embedding of ``x [h, k, f]`` by the tables ``[k, f]`` or ``[1, k, f]``."""
        if cos.dim() == 2:
            cos, sin = cos.view(1, *cos.shape), sin.view(1, *sin.shape)
        return x * cos + nn.functional.linear(x, self.rotation) * sin

    def at_place(self, here: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rotation, cos and sin ``[1, f]``, token rate ``[1, 1]`` and mask ``[1, K]`` of the place ``here [1, K]``."""
        size = self.head_dim
        row = torch.mm(here, self.by_place)
        return row[:, :size], row[:, size : 2 * size], row[:, 2 * size : 2 * size + 1], row[:, 2 * size + 1 :]

    def split_heads(self, x: Tensor) -> Tensor:
        """``[k, D]`` to ``[h, k, f]``."""
        if x.shape[0] == 1:
            return x.view(self.heads, 1, self.head_dim)
        return x.view(-1, self.heads, self.head_dim).transpose(0, 1)

    def with_one(self, x: Tensor) -> Tensor:
        """``[h, k, f]`` to ``[h, k, f + 1]``: the feature that the bias is multiplied by."""
        rows = x.shape[1]
        if rows == 1:
            return torch.cat((x, self.one), dim=2)
        return torch.cat((x, self.ones if rows == self.ones.shape[1] else self.ones[:, :rows]), dim=2)

    def centre(self, x: Tensor) -> Tensor:
        """``[h, k, f]`` less its mean over f, as one product."""
        return nn.functional.linear(x, self.centring)

    # ------------------------------------------------------------------ items

    def encode(self, rows: Tensor) -> Tensor:
        """Rows of the table ``[L, D]`` to ``H [L, D]``."""
        return self.input_norm(rows)

    # ------------------------------------------------------------------ the inner model

    def project(self, H: Tensor, cos: Tensor, sin: Tensor) -> InnerBatch:
        """Keys, goals and step sizes of the clicks ``H [k, D]`` at the positions of ``cos``, ``sin [k, f]``."""
        size, rows = self.hidden, H.shape[0]
        x = self.click_proj(H)  # [k, 2 D + h]
        rate = torch.sigmoid(x[:, 2 * size :])
        XK = self.rotate(self.split_heads(x[:, :size]), cos, sin)
        goal = self._goal(XK, self.split_heads(x[:, size : 2 * size]))
        return InnerBatch(XK, goal, rate.t().reshape(self.heads, 1, rows))

    def _value_bias(self, ttt: TTTLinear) -> Tensor:
        """What is added to values ``[D]``, so that the goal lacks nothing: the LayerNorm's bias, taken off."""
        return torch.zeros(self.hidden) if self.inner_loss == "sigmoid" else -ttt.ln_bias.detach().reshape(-1)

    def _goal(self, XK: Tensor, value: Tensor) -> Tensor:
        # Not the other way around behind a LayerNorm: where a mini-batch is one click, LiteRT loses a later sign.
        return value - XK if self.inner_loss == "sigmoid" else (XK - value) * self.ln_weight

    def query(self, H: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Query ``[h, 1, f]`` of one click ``H [1, D]``."""
        return self.rotate(self.split_heads(self.query_proj(H)), cos, sin)

    def _standardise(self, centred: Tensor) -> tuple[Tensor, Tensor]:
        inverse_std = torch.rsqrt(self.head_mean_plus_eps(centred * centred))
        return centred * inverse_std, inverse_std

    def inner_gradient(self, Z1: Tensor, goal: Tensor) -> Tensor:
        """Gradient of the inner loss with respect to ``Z1 [h, k, f]``."""
        return self._gradient(self._without_mean(Z1), goal)

    def _without_mean(self, Z: Tensor) -> Tensor:
        return Z if self.inner_loss == "sigmoid" else self.centre(Z)

    def _gradient(self, Z1: Tensor, goal: Tensor, *, loose: bool = False) -> Tensor:
        """The gradient for a ``Z1`` without its mean; where it is ``loose``, with a mean that does not belong to it.

        What the inner model makes of a click is read without its mean, so that this one takes part in nothing.
        """
        if self.inner_loss == "sigmoid":
            activation = torch.sigmoid(Z1 - goal)
            return activation * (1.0 - activation)
        x_hat, inverse_std = self._standardise(Z1)
        grad = self.squared_weight * x_hat + goal
        grad = grad if loose else self.centre(grad)
        return (grad - x_hat * self.head_mean(grad * x_hat)) * inverse_std

    def read_out(self, XQ: Tensor, Z: Tensor, click: Tensor) -> Tensor:
        """User state ``[1, D]`` from the query and what the inner model makes of it, both ``[h, 1, f]``.

        ``click [1, D]`` is the row of H that asks; a residual read-out adds it.
        """
        Y = XQ + self.ln_weight * self._standardise(self.centre(Z))[0] + self.ln_bias
        merged = Y.view(1, self.hidden)
        answer = self.o_proj(self.post_norm(merged))
        return self.output_norm(answer + click if self.residual else answer)

    # ------------------------------------------------------------------ dual form

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]`` without a correction."""
        return self.user_state(ids, self.encode(rows))

    def user_state(self, ids: Tensor, H: Tensor) -> Tensor:
        """User state ``[1, D]`` after ``ids [1, L]``, from ``H [L, D]``; ``kernel.py`` has the corrected one.

        What an earlier mini-batch taught is in the state as the sum that it would be read from. So the state is
        computed to learn with alone, and what the last click reads is one sum over all clicks: for a click of an
        earlier mini-batch with its step size at the end of it, for one of the same mini-batch with that at the last
        click, and for a later one with 0.
        """
        length = H.shape[0]
        x = self.project(H, self.click_cos, self.click_sin)
        keys = self.with_one(x.XK)
        queried = keys.transpose(1, 2)
        if length <= self.mini_batch:
            gradient = self._gradient(torch.bmm(keys, self.centred_Wb1), x.goal, loose=True)
        else:
            gradient = self._gradients(keys, queried, x)
        here = leading_columns(self.last_click(ids), length)
        click = pick(here, H)
        cos, sin, weight = self._at_last(here.view(1, 1, length))
        return self._answer(click, cos, sin, queried, x.rate * weight, gradient)

    def _gradients(self, keys: Tensor, queried: Tensor, x: InnerBatch) -> Tensor:
        """Inner gradients ``[h, L, f]`` of several mini-batches, each with what the earlier ones taught.

        ``queried [h, f + 1, L]`` are the keys as columns.
        """
        length = keys.shape[1]
        few = length <= FEW * self.mini_batch
        taught = queried * (x.rate * self.end_rate)
        Wb, gradients = self.centred_Wb1 if few else self.Wb1, []
        for start in range(0, length, self.mini_batch):
            rows = slice(start, min(start + self.mini_batch, length))
            Z1 = torch.bmm(keys[:, rows], Wb)
            Z1 = Z1 if few and start == 0 else self._without_mean(Z1)
            gradients.append(self._gradient(Z1, x.goal[:, rows], loose=few))
            if rows.stop < length:
                Wb = Wb - torch.bmm(taught[:, :, rows], gradients[-1])
        return torch.cat(gradients, dim=1)

    def _at_last(self, here: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotation, cos and sin ``[1, 1, f]``, of the last click, and each click's weight for it ``[1, 1, L]``."""
        size = self.head_dim
        if here.shape[2] <= MOST_TABULATED:
            row = nn.functional.linear(here, self.by_last)
            return row[:, :, :size], row[:, :, size : 2 * size], row[:, :, 2 * size :]
        row = nn.functional.linear(here, self.positions)  # [1, 1, 2 f + 3]
        rate, first, place = (row[:, :, 2 * size + column : 2 * size + column + 1] for column in range(3))
        earlier = (first - self.place).clamp(0.0, 1.0)
        until = (place + 1.0 - self.place).clamp(0.0, 1.0)
        return row[:, :, :size], row[:, :, size : 2 * size], earlier * self.end_rate + (until - earlier) * rate

    def _answer(
        self, click: Tensor, cos: Tensor, sin: Tensor, queried: Tensor, rate: Tensor, gradient: Tensor
    ) -> Tensor:
        """User state ``[1, D]`` of the last click ``[1, D]``: ``Z = q Wb1 - sum_j rate_j (q . k_j) G_j``.

        ``queried [h, f + 1, L]``, ``rate [h, 1, L]`` as seen from the last click, ``gradient [h, L, f]``.
        """
        XQ = self.query(click, cos, sin)
        query = self.with_one(XQ)
        read = torch.bmm(query, queried) * rate  # [h, 1, L]
        Z = torch.bmm(query, self.centred_Wb1) - torch.bmm(read, gradient)
        return self.read_out(XQ, Z, click)

    # ------------------------------------------------------------------ streaming form

    def step(self, row: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Read one click.

        Args:
            row: ``[1, D]`` its row of the table.
            state: W ``[1, h, f, f]`` and b ``[1, h, 1, f]``; their gradients, summed since the last commit;
                position ``[1]`` int32, 0 .. K-1. -1 starts a new stream, and the rest of the state must then be zero.

        Returns:
            The next state, and the user state ``[1, D]``.
        """
        W, b, grad_W, grad_b = (x[0] for x in state[:4])
        position = state[4]
        starts = (position == NEW_STREAM).to(torch.float32).view(1, 1, 1)
        first = self.Wb1 * starts
        W, b = W + first[:, : self.head_dim], b + first[:, self.head_dim :]
        position = position.clamp(min=0)
        here = (self.places == position).to(torch.float32).unsqueeze(0)  # [1, K]
        cos, sin, rate, _ = self.at_place(here)
        H = self.encode(row)
        x = self.project(H, cos, sin)
        Z1 = torch.bmm(x.XK, W) + b
        grad = x.rate * (1.0 / self.head_dim) * self.inner_gradient(Z1, x.goal)
        grad_W = grad_W + torch.bmm(x.XK.transpose(1, 2), grad)
        grad_b = grad_b + grad
        rate = rate.unsqueeze(0)  # [1, 1, 1]
        XQ = self.query(H, cos, sin)
        Z = torch.bmm(XQ, W - rate * grad_W) + (b - rate * grad_b)
        user = self.read_out(XQ, Z, H)
        commits = (position == self.mini_batch - 1).to(torch.float32).view(1, 1, 1)
        keeps, committed = 1.0 - commits, rate * commits
        next_position = (position + 1) * (position != self.mini_batch - 1).to(torch.int32)
        following = (W - committed * grad_W, b - committed * grad_b, grad_W * keeps, grad_b * keeps)
        return (*(x.unsqueeze(0) for x in following), next_position, user)


class DeviceRMSNorm(nn.Module):
    """:class:`RMSNorm` with the mean as a product with a constant matrix."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        constant(self, "weight", norm.weight)
        self.mean_plus_eps = Mean(norm.weight.shape[0], plus=norm.eps)

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """``[n, size]`` to the same shape."""
        return self.weight * (x * torch.rsqrt(self.mean_plus_eps(x * x)))
