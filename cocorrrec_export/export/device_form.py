"""The SCN in the form that every exporter lowers well; equal to the plain model, which tests hold it to.

The key, value and step-size projections of a click are one product. Letters as in
:mod:`cocorrrec_export.modeling.ttt`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.export.device_frame import (
    DeviceLayerNorm,
    DeviceRanker,
    Mean,
    Storage,
    constant,
    leading,
    pick,
)
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.layers import RMSNorm, rotate_pairs
from cocorrrec_export.modeling.ttt import LN_EPS, STD_EPS

NEW_STREAM = -1
"""The position that, with a state of zeros, stands for a stream before its first click."""


class Clicks(NamedTuple):
    """What one mini-batch of k clicks turns into."""

    XK: Tensor  # [h, k, f]
    XV: Tensor  # [h, k, f]
    rate: Tensor  # [h, 1, k]


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
        super().__init__(model, list(scn.item_mlp), sequence_length=places, storage=storage)
        self.heads, self.head_dim, self.mini_batch = ttt.num_heads, ttt.head_dim, ttt.mini_batch
        self.inner_loss = ttt.inner_loss
        self.input_norm = DeviceRMSNorm(scn.input_norm)
        self.output_norm = DeviceRMSNorm(scn.output_norm)
        self.o_proj = storage.projection(ttt.o_proj.weight)
        self.query_proj = storage.projection(ttt.q_proj.weight)
        self.click_proj = storage.projection(
            torch.cat((ttt.k_proj.weight, ttt.v_proj.weight, ttt.lr_weight)),
            torch.cat((torch.zeros(2 * self.hidden), ttt.lr_bias)),
        )
        constant(self, "rotation", rotate_pairs(torch.eye(self.head_dim)).T)  # [f, f], for a product with rows
        constant(self, "rope_cos", ttt.rope_cos)  # [K, f]
        constant(self, "rope_sin", ttt.rope_sin)
        constant(self, "token_rate", ttt.token_rate().unsqueeze(1))  # [K, 1]
        # Of each place: rotation, token rate, and which places it sees. It is a weight, the tables above are operands:
        # XNNPACK in ExecuTorch frees a weight's values once they are packed, also where an operand shares them.
        sees = torch.ones(self.mini_batch, self.mini_batch).tril()
        constant(self, "by_place", torch.cat((self.rope_cos, self.rope_sin, self.token_rate, sees), dim=1))
        constant(self, "W1", ttt.W1)  # [h, f, f]
        constant(self, "b1", ttt.b1)  # [h, 1, f]
        constant(self, "ln_weight", ttt.ln_weight.unsqueeze(1))  # [h, 1, f]
        constant(self, "ln_bias", ttt.ln_bias.unsqueeze(1))
        if sequence_length > self.mini_batch:
            self._keep_positions(sequence_length)
        self.post_norm = DeviceLayerNorm(ttt.post_norm)
        self.head_mean = Mean(self.head_dim)
        self.head_mean_plus_eps = Mean(self.head_dim, plus=LN_EPS)
        # Rows of a mini-batch, full and remainder, and features of a head: what a correction is normalised over.
        sizes = {min(self.mini_batch, sequence_length), sequence_length % self.mini_batch, self.head_dim} - {0, 1}
        self.means = nn.ModuleDict({str(n): Mean(n) for n in sizes})
        self.variances = nn.ModuleDict({str(n): Mean(n, divisor=n - 1) for n in sizes})
        self.fusion = scn.fusion
        if scn.fusion is not None:
            constant(self, "P", scn.fusion.P)
            constant(self, "Q", scn.fusion.Q)

    def _keep_positions(self, length: int) -> None:
        """Of each click: rotation, token rate, where its mini-batch starts and where it is, ``[L, 2 f + 3]``."""
        place = torch.arange(length)
        within = place % self.mini_batch
        numbers = torch.stack((place - within, place), dim=1)  # [L, 2]
        constant(
            self,
            "positions",
            torch.cat((self.rope_cos[within], self.rope_sin[within], self.token_rate[within], numbers), dim=1),
        )
        constant(self, "place", place.to(torch.float32).unsqueeze(0))  # [1, L]
        constant(self, "ones", torch.ones(self.heads, length, 1))
        constant(self, "Wb1", torch.cat((self.W1, self.b1), dim=1))  # [h, f + 1, f]

    positions: Tensor
    place: Tensor
    ones: Tensor
    Wb1: Tensor
    rotation: Tensor
    rope_cos: Tensor
    rope_sin: Tensor
    token_rate: Tensor
    by_place: Tensor
    W1: Tensor
    b1: Tensor
    ln_weight: Tensor
    ln_bias: Tensor
    P: Tensor
    Q: Tensor

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary embedding of ``x [h, k, f]`` by the tables ``[k, f]``."""
        rows = x.shape[1]
        return x * cos.view(1, rows, -1) + nn.functional.linear(x, self.rotation) * sin.view(1, rows, -1)

    def at_place(self, here: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rotation, cos and sin ``[1, f]``, token rate ``[1, 1]`` and mask ``[1, K]`` of the place ``here [1, K]``."""
        size = self.head_dim
        row = torch.mm(here, self.by_place)
        return row[:, :size], row[:, size : 2 * size], row[:, 2 * size : 2 * size + 1], row[:, 2 * size + 1 :]

    def split_heads(self, x: Tensor) -> Tensor:
        """``[k, D]`` to ``[h, k, f]``."""
        return x.view(-1, self.heads, self.head_dim).transpose(0, 1)

    # ------------------------------------------------------------------ items

    def encode(self, rows: Tensor) -> Tensor:
        """Rows of the table ``[L, D]`` to ``H [L, D]``."""
        return self.input_norm(rows)

    # ------------------------------------------------------------------ the inner model

    def project(self, H: Tensor, cos: Tensor, sin: Tensor) -> Clicks:
        """Keys, values and step sizes of the clicks ``H [k, D]`` at the positions of ``cos``, ``sin [k, D]``."""
        size, rows = self.hidden, H.shape[0]
        x = self.click_proj(H)  # [k, 2 D + h]
        rate = torch.sigmoid(x[:, 2 * size :]) * (1.0 / self.head_dim)
        XK = self.rotate(self.split_heads(x[:, :size]), cos, sin)
        return Clicks(XK, self.split_heads(x[:, size : 2 * size]), rate.t().reshape(self.heads, 1, rows))

    def query(self, H: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Query ``[h, 1, f]`` of one click ``H [1, D]``."""
        return self.rotate(self.split_heads(self.query_proj(H)), cos, sin)

    def _standardise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        centred = x - self.head_mean(x)
        inverse_std = torch.rsqrt(self.head_mean_plus_eps(centred * centred))
        return centred * inverse_std, inverse_std

    def inner_gradient(self, Z1: Tensor, target: Tensor) -> Tensor:
        """Gradient of the inner loss with respect to ``Z1``, all ``[h, k, f]``."""
        if self.inner_loss == "sigmoid":
            activation = torch.sigmoid(Z1 - target)
            return activation * (1.0 - activation)
        x_hat, inverse_std = self._standardise(Z1)
        grad = (self.ln_weight * x_hat + self.ln_bias - target) * self.ln_weight
        return (grad - self.head_mean(grad) - x_hat * self.head_mean(grad * x_hat)) * inverse_std

    def read_out(self, XQ: Tensor, Z: Tensor) -> Tensor:
        """User state ``[1, D]`` from the query and what the inner model makes of it, both ``[h, 1, f]``."""
        Y = XQ + self.ln_weight * self._standardise(Z)[0] + self.ln_bias
        merged = Y.transpose(0, 1).reshape(1, self.hidden)
        return self.output_norm(self.o_proj(self.post_norm(merged)))

    # ------------------------------------------------------------------ dual form

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]`` without a correction."""
        return self.user_state(ids, self.encode(rows))

    def user_state(self, ids: Tensor, H: Tensor, correction: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """User state ``[1, D]`` after ``ids [1, L]``, from ``H [L, D]``.

        ``correction`` is the cloud's answer: ``k_attn [1, h, K, K]`` and ``k_b [1, h, K, f]``.
        """
        length, index = ids.shape[1], self.last_click(ids)
        if length > self.mini_batch and correction is None:
            return self._read_long(H, self.one_hot(index, length))
        last = self.one_hot(index, self.places.shape[0])  # to the end of the last mini-batch
        if length <= self.mini_batch:
            return self.read_out(*self._mini_batch(H, last, self.W1, self.b1, correction)[:2])
        sizes = [min(self.mini_batch, length - at) for at in range(0, length, self.mini_batch)]
        W, b = self.W1, self.b1
        queries, outputs = [], []
        for rows, here in zip(H.split(sizes), last.split(self.mini_batch, dim=1), strict=True):
            XQ, Z, x, grad = self._mini_batch(rows, here, W, b, correction)
            is_here = here.sum(dim=1, keepdim=True).unsqueeze(0)  # only the one with the last click answers
            queries.append(XQ * is_here)
            outputs.append(Z * is_here)
            if len(queries) < len(sizes):
                W, b = self._next_state(x, grad, W, b)
        return self.read_out(sum(queries[1:], queries[0]), sum(outputs[1:], outputs[0]))

    def _read_long(self, H: Tensor, last: Tensor) -> Tensor:
        """User state ``[1, D]`` at the click of ``H [L, D]`` that ``last [1, L]`` picks, over several mini-batches.

        What an earlier mini-batch taught is in the state as the sum that it would be read from. So the state is
        computed to learn with alone, and what the last click reads is one sum over all clicks,
        ``Z = XQ W1 + b1 - sum_j w_j (XQ . XK_j + 1) G_j``: for a click of an earlier mini-batch w_j is its step size at
        the end of it, for one of the same mini-batch that at the last click, and for a later one 0.
        """
        size, length = self.head_dim, H.shape[0]
        x = self.project(H, self.positions[:, :size], self.positions[:, size : 2 * size])
        keys = torch.cat((x.XK, self.ones), dim=2)  # the bias is one more row of W
        target = x.XV - x.XK
        at_end = self.token_rate[self.mini_batch - 1 :].unsqueeze(0)  # [1, 1, 1]
        taught = keys.transpose(1, 2) * (x.rate * at_end)  # [h, f + 1, L]
        W, gradients = self.Wb1, []
        for start in range(0, length, self.mini_batch):
            rows = slice(start, min(start + self.mini_batch, length))
            gradients.append(self.inner_gradient(torch.bmm(keys[:, rows], W), target[:, rows]))
            if rows.stop < length:
                W = W - torch.bmm(taught[:, :, rows], gradients[-1])
        here = pick(last, self.positions)  # [1, 2 f + 3]
        rate, first, place = (here[:, 2 * size + column : 2 * size + column + 1] for column in range(3))
        earlier = (first - self.place).clamp(0.0, 1.0)
        until = (place + 1.0 - self.place).clamp(0.0, 1.0)
        weight = earlier * at_end[0] + (until - earlier) * rate  # [1, L]
        XQ = self.query(pick(last, H), here[:, :size], here[:, size : 2 * size])
        query = torch.cat((XQ, self.ones[:, :1]), dim=2)
        read = torch.bmm(query, keys.transpose(1, 2)) * (x.rate * weight.unsqueeze(0))  # [h, 1, L]
        return self.read_out(XQ, torch.bmm(query, self.Wb1) - torch.bmm(read, torch.cat(gradients, dim=1)))

    def _mini_batch(
        self, H: Tensor, here: Tensor, W: Tensor, b: Tensor, correction: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Clicks, Tensor]:
        """Learn from the clicks ``H [k, D]`` and answer at the one that ``here [1, K]`` picks.

        Returns:
            Its query and ``Z``, both ``[h, 1, f]``; what was learned, and the gradient ``[h, k, f]``.
        """
        rows = H.shape[0]
        x = self.project(H, leading(self.rope_cos, rows), leading(self.rope_sin, rows))
        grad = self.inner_gradient(torch.bmm(x.XK, W) + b, x.XV - x.XK)
        cos, sin, rate, mask = self.at_place(here)
        if rows < self.mini_batch:
            here, mask = here[:, :rows], mask[:, :rows]
        mask = mask.unsqueeze(0)  # [1, 1, k]
        XQ = self.query(pick(here, H), cos, sin)
        eta = x.rate * rate.unsqueeze(0)  # [h, 1, k]
        attn = torch.bmm(XQ, x.XK.transpose(1, 2)) * mask
        b_bar = b - torch.bmm(eta * mask, grad)
        if correction is not None:
            attn, b_bar = self._correct(attn, b_bar, here, mask, *correction)
        return XQ, torch.bmm(XQ, W) - torch.bmm(eta * attn, grad) + b_bar, x, grad

    def _correct(
        self, attn: Tensor, b_bar: Tensor, here: Tensor, mask: Tensor, k_attn: Tensor, k_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = attn.shape[2]
        k_attn = k_attn.view(self.heads, self.mini_batch, self.mini_batch)
        k_b = k_b.view(self.heads, self.mini_batch, self.head_dim)
        if rows < self.mini_batch:
            k_attn, k_b = k_attn[:, :rows, :rows], k_b[:, :rows]
        pick = here.unsqueeze(0).expand(self.heads, 1, rows)
        attn = attn + self.P * self._match(torch.bmm(pick, k_attn), attn, rows)
        if self.fusion is not None and self.fusion.remask:
            attn = attn * mask
        return attn, b_bar + self.Q * self._match(torch.bmm(pick, k_b), b_bar, self.head_dim)

    def _match(self, correction: Tensor, reference: Tensor, size: int) -> Tensor:
        """Equation 14: ``correction [h, 1, n]`` with the mean and deviation of ``reference [h, 1, n]``."""
        if size == 1:
            return reference
        mean, variance = self.means[str(size)], self.variances[str(size)]
        centre, ref_centre = mean(correction), mean(reference)
        centred, ref_centred = correction - centre, reference - ref_centre
        spread = torch.sqrt(variance(centred * centred))
        ref_spread = torch.sqrt(variance(ref_centred * ref_centred))
        return centred * (ref_spread / (spread + STD_EPS)) + ref_centre

    def _next_state(self, x: Clicks, grad: Tensor, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The state after a full mini-batch."""
        rate = x.rate * self.token_rate[self.mini_batch - 1 :].unsqueeze(0)  # [h, 1, k]
        return W - torch.bmm(x.XK.transpose(1, 2) * rate, grad), b - torch.bmm(rate, grad)

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
        W, b = W + self.W1 * starts, b + self.b1 * starts
        position = position.clamp(min=0)
        places = leading(self.places, self.mini_batch)
        here = (places == position).to(torch.float32).unsqueeze(0)  # [1, K]
        cos, sin, rate, _ = self.at_place(here)
        H = self.encode(row)
        x = self.project(H, cos, sin)
        grad = x.rate * self.inner_gradient(torch.bmm(x.XK, W) + b, x.XV - x.XK)
        grad_W = grad_W + torch.bmm(x.XK.transpose(1, 2), grad)
        grad_b = grad_b + grad
        rate = rate.unsqueeze(0)  # [1, 1, 1]
        W_now, b_now = W - rate * grad_W, b - rate * grad_b
        XQ = self.query(H, cos, sin)
        user = self.read_out(XQ, torch.bmm(XQ, W_now) + b_now)
        commits = (position == self.mini_batch - 1).to(torch.float32).view(1, 1, 1)
        keeps = 1.0 - commits
        next_position = (position + 1) * (position != self.mini_batch - 1).to(torch.int32)
        following = (W * keeps + W_now * commits, b * keeps + b_now * commits, grad_W * keeps, grad_b * keeps)
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
