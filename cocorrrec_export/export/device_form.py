"""The SCN in the form that every exporter lowers well; equal to the plain model, which tests hold it to.

One user at a time. Heads are the batch of a matrix product; a position is picked by a one-hot row; a mean is a product
with a constant row; the key, value and step-size projections of a click are one product. Letters as in
:mod:`cocorrrec_export.modeling.ttt`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.export.tables import make_projection, make_table
from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.layers import RMSNorm, rotate_pairs
from cocorrrec_export.modeling.scn import SCN
from cocorrrec_export.modeling.ttt import LN_EPS, STD_EPS

NEW_STREAM = -1
"""The position that, with a state of zeros, stands for a stream before its first click."""


class Clicks(NamedTuple):
    """What one mini-batch of k clicks turns into."""

    XK: Tensor  # [h, k, f]
    XV: Tensor  # [h, k, f]
    rate: Tensor  # [h, 1, k]


def _constant(module: nn.Module, name: str, value: Tensor) -> None:
    module.register_buffer(name, value.detach().clone().contiguous())


class Mean(nn.Module):
    """Mean over the last dimension as a product with a constant row, ``[..., n]`` to ``[..., 1]``.

    Args:
        size: n.
        divisor: what the sum is divided by, n by default.
        plus: added to the mean; as the product's bias, since one converter stumbles over a number added to a product.
    """

    def __init__(self, size: int, *, divisor: int | None = None, plus: float = 0.0) -> None:
        super().__init__()
        _constant(self, "weight", torch.full((1, size), 1.0 / (size if divisor is None else divisor)))
        self.register_buffer("bias", torch.full((1,), plus) if plus else None)

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """``[..., n]`` to ``[..., 1]``."""
        return nn.functional.linear(x, self.weight, self.bias)


class DeviceSCN(nn.Module):
    """The weights of an SCN, rearranged once.

    Args:
        scn: the plain model, in evaluation mode.
        sequence_length: L.
        embedding: precision of the item tables, as in a recipe.
        linear: precision of the projections, as in a recipe.
        item_side: ``"computed"`` in the graph, or ``"folded"`` into a second table.
        half_as_bits: keep float16 tables as int16, for a runtime that looks up no float16 rows.

    Raises:
        ValueError: the model is in training mode.
    """

    def __init__(
        self,
        scn: SCN,
        *,
        sequence_length: int,
        embedding: str = "fp32",
        linear: str = "fp32",
        item_side: str,
        half_as_bits: bool = False,
    ) -> None:
        super().__init__()
        if scn.training:
            raise ValueError("the model is in training mode: call eval() before exporting it")
        ttt = scn.ttt
        self.heads, self.head_dim, self.mini_batch = ttt.num_heads, ttt.head_dim, ttt.mini_batch
        self.hidden = self.heads * self.head_dim
        self.inner_loss = ttt.inner_loss
        self.table = make_table(scn.item_embedding.weight, embedding, as_bits=half_as_bits)
        self.item_table: nn.Module | None = None
        if item_side == "folded":
            with torch.no_grad():
                folded = scn.item_vectors(torch.arange(scn.item_embedding.num_embeddings))
            self.item_table = make_table(folded, embedding, as_bits=half_as_bits)
        else:
            layers = [layer for layer in scn.item_mlp if isinstance(layer, nn.Linear)]
            first, second = (make_projection(layer.weight, layer.bias, linear) for layer in layers)
            self.item_mlp = nn.Sequential(first, nn.Tanh(), second)
        self.input_norm = DeviceRMSNorm(scn.input_norm)
        self.output_norm = DeviceRMSNorm(scn.output_norm)
        self.o_proj = make_projection(ttt.o_proj.weight, None, linear)
        self.query_proj = make_projection(ttt.q_proj.weight, None, linear)
        self.click_proj = make_projection(
            torch.cat((ttt.k_proj.weight, ttt.v_proj.weight, ttt.lr_weight)),
            torch.cat((torch.zeros(2 * self.hidden), ttt.lr_bias)),
            linear,
        )
        _constant(self, "rotation", rotate_pairs(torch.eye(self.head_dim)).T)  # [f, f], for a product with rows
        _constant(self, "rope_cos", ttt.rope_cos)  # [K, f]
        _constant(self, "rope_sin", ttt.rope_sin)
        _constant(self, "token_rate", ttt.token_rate().unsqueeze(1))  # [K, 1]
        _constant(self, "mask", torch.ones(self.mini_batch, self.mini_batch).tril())
        _constant(self, "W1", ttt.W1)  # [h, f, f]
        _constant(self, "b1", ttt.b1)  # [h, 1, f]
        _constant(self, "ln_weight", ttt.ln_weight.unsqueeze(1))  # [h, 1, f]
        _constant(self, "ln_bias", ttt.ln_bias.unsqueeze(1))
        _constant(self, "post_weight", ttt.post_norm.weight)
        _constant(self, "post_bias", ttt.post_norm.bias)
        self.head_mean = Mean(self.head_dim)
        self.head_mean_plus_eps = Mean(self.head_dim, plus=LN_EPS)
        # Rows of a mini-batch, full and remainder, and features of a head: what a correction is normalised over.
        sizes = {min(self.mini_batch, sequence_length), sequence_length % self.mini_batch, self.head_dim} - {0, 1}
        self.means = nn.ModuleDict({str(n): Mean(n) for n in sizes})
        self.variances = nn.ModuleDict({str(n): Mean(n, divisor=n - 1) for n in sizes})
        _constant(self, "places", torch.arange(max(sequence_length, self.mini_batch), dtype=torch.int32))
        self.hidden_mean = Mean(self.hidden)
        self.hidden_mean_plus_eps = Mean(self.hidden, plus=LN_EPS)
        self.fusion = scn.fusion
        if scn.fusion is not None:
            _constant(self, "P", scn.fusion.P)
            _constant(self, "Q", scn.fusion.Q)

    rotation: Tensor
    rope_cos: Tensor
    rope_sin: Tensor
    token_rate: Tensor
    mask: Tensor
    W1: Tensor
    b1: Tensor
    ln_weight: Tensor
    ln_bias: Tensor
    post_weight: Tensor
    post_bias: Tensor
    places: Tensor
    P: Tensor
    Q: Tensor

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary embedding of ``x [h, k, f]`` by the tables ``[k, f]``."""
        rows = x.shape[1]
        return x * cos.view(1, rows, -1) + nn.functional.linear(x, self.rotation) * sin.view(1, rows, -1)

    def split_heads(self, x: Tensor) -> Tensor:
        """``[k, D]`` to ``[h, k, f]``."""
        return x.view(-1, self.heads, self.head_dim).transpose(0, 1)

    # ------------------------------------------------------------------ items

    def encode(self, rows: Tensor) -> Tensor:
        """Rows of the table ``[L, D]`` to ``H [L, D]``."""
        return self.input_norm(rows)

    def score_rows(self, user: Tensor, rows: Tensor) -> Tensor:
        """Scores ``[1, C]`` of the candidates' rows ``[C, D]`` of the item table for ``user [1, D]``."""
        vectors = rows if self.item_table is not None else self.item_mlp(rows)
        count = vectors.shape[0]
        logits = torch.bmm(vectors.view(1, count, self.hidden), user.view(1, self.hidden, 1))
        return torch.sigmoid(logits.view(1, count))

    def look_up(self, ids: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the clicks ``ids [1, L]`` and of the candidates ``[1, C]``, one look-up where they share a table."""
        length, count = ids.shape[1], candidates.shape[1]
        if self.item_table is not None:
            return self.table(ids.view(length)), self.item_table(candidates.view(count))
        rows = self.table(torch.cat((ids, candidates), dim=1).view(length + count))
        return rows[:length], rows[length:]

    def candidate_rows(self, candidates: Tensor) -> Tensor:
        """Rows of the candidates ``[1, C]`` alone."""
        table = self.table if self.item_table is None else self.item_table
        return table(candidates.view(candidates.shape[1]))

    # ------------------------------------------------------------------ the inner model

    def last_click(self, ids: Tensor) -> Tensor:
        """One-hot row ``[1, L]`` of the last click of ``ids [1, L]``; of the first place in an empty history."""
        count = (ids != PADDING_ID).to(torch.int32).sum(dim=1, keepdim=True, dtype=torch.int32)  # [1, 1]
        places = self._leading(self.places, ids.shape[1]).unsqueeze(0)
        return (places == (count - 1).clamp(min=0)).to(torch.float32)

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

    def inner_gradient(self, x: Clicks, W: Tensor, b: Tensor) -> Tensor:
        """Gradient of the inner loss, ``[h, k, f]``, at ``W [h, f, f]``, ``b [h, 1, f]``."""
        Z1 = torch.bmm(x.XK, W) + b
        target = x.XV - x.XK
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
        centred = merged - self.hidden_mean(merged)
        inverse_std = torch.rsqrt(self.hidden_mean_plus_eps(centred * centred))
        return self.output_norm(self.o_proj(self.post_weight * (centred * inverse_std) + self.post_bias))

    # ------------------------------------------------------------------ dual form

    def user_state(self, ids: Tensor, H: Tensor, correction: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """User state ``[1, D]`` after ``ids [1, L]``, from ``H [L, D]``.

        ``correction`` is the cloud's answer: ``k_attn [1, h, K, K]`` and ``k_b [1, h, K, f]``.
        """
        last, length = self.last_click(ids), ids.shape[1]
        if length <= self.mini_batch:
            return self.read_out(*self._mini_batch(H, last, self.W1, self.b1, correction)[:2])
        sizes = [min(self.mini_batch, length - at) for at in range(0, length, self.mini_batch)]
        W, b = self.W1, self.b1
        queries, outputs = [], []
        for rows, here in zip(H.split(sizes), last.split(sizes, dim=1), strict=True):
            XQ, Z, x, grad = self._mini_batch(rows, here, W, b, correction)
            is_here = here.sum(dim=1, keepdim=True).unsqueeze(0)  # only the one with the last click answers
            queries.append(XQ * is_here)
            outputs.append(Z * is_here)
            if len(queries) < len(sizes):
                W, b = self._next_state(x, grad, W, b)
        return self.read_out(sum(queries[1:], queries[0]), sum(outputs[1:], outputs[0]))

    @staticmethod
    def _leading(table: Tensor, rows: int) -> Tensor:
        # A slice of the full range becomes an alias, which one converter does not know.
        return table if rows == table.shape[0] else table[:rows]

    def _mini_batch(
        self, H: Tensor, here: Tensor, W: Tensor, b: Tensor, correction: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Clicks, Tensor]:
        """Learn from the clicks ``H [k, D]`` and answer at the one that ``here [1, k]`` picks.

        Returns:
            Its query and ``Z``, both ``[h, 1, f]``; what was learned, and the gradient ``[h, k, f]``.
        """
        rows = H.shape[0]
        tables = [self._leading(x, rows) for x in (self.rope_cos, self.rope_sin, self.token_rate, self.mask)]
        x = self.project(H, *tables[:2])
        grad = self.inner_gradient(x, W, b)
        cos, sin, rate, mask = (torch.mm(here, table) for table in tables)
        mask = (mask if rows == self.mini_batch else mask[:, :rows]).unsqueeze(0)  # [1, 1, k]
        clicked = torch.bmm(here.view(1, 1, rows), H.view(1, rows, self.hidden)).view(1, self.hidden)
        XQ = self.query(clicked, cos, sin)
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

    def step(
        self, row: Tensor, W: Tensor, b: Tensor, grad_W: Tensor, grad_b: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Read one click.

        Args:
            row: ``[1, D]`` its row of the table.
            W: ``[h, f, f]``.
            b: ``[h, 1, f]``.
            grad_W: ``[h, f, f]``, summed since the last commit.
            grad_b: ``[h, 1, f]``, likewise.
            position: ``[1]`` int32, 0 .. K-1; -1 starts a new stream, and the rest of the state must then be zero.

        Returns:
            The next W, b, grad_W, grad_b and position, and the user state ``[1, D]``.
        """
        starts = (position == NEW_STREAM).to(torch.float32).view(1, 1, 1)
        W, b = W + self.W1 * starts, b + self.b1 * starts
        position = position.clamp(min=0)
        places = self._leading(self.places, self.mini_batch)
        here = (places == position).to(torch.float32).unsqueeze(0)  # [1, K]
        cos, sin, rate = (torch.mm(here, table) for table in (self.rope_cos, self.rope_sin, self.token_rate))
        H = self.encode(row)
        x = self.project(H, cos, sin)
        grad = x.rate * self.inner_gradient(x, W, b)
        grad_W = grad_W + torch.bmm(x.XK.transpose(1, 2), grad)
        grad_b = grad_b + grad
        rate = rate.unsqueeze(0)  # [1, 1, 1]
        W_now, b_now = W - rate * grad_W, b - rate * grad_b
        XQ = self.query(H, cos, sin)
        user = self.read_out(XQ, torch.bmm(XQ, W_now) + b_now)
        commits = (position == self.mini_batch - 1).to(torch.float32).view(1, 1, 1)
        keeps = 1.0 - commits
        next_position = (position + 1) * (position != self.mini_batch - 1).to(torch.int32)
        return (
            W * keeps + W_now * commits,
            b * keeps + b_now * commits,
            grad_W * keeps,
            grad_b * keeps,
            next_position,
            user,
        )


class DeviceRMSNorm(nn.Module):
    """:class:`RMSNorm` with the mean as a product with a constant matrix."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        _constant(self, "weight", norm.weight)
        self.mean_plus_eps = Mean(norm.weight.shape[0], plus=norm.eps)

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """``[n, size]`` to the same shape."""
        return self.weight * (x * torch.rsqrt(self.mean_plus_eps(x * x)))
