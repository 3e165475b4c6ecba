"""TTT-Linear: a layer whose hidden state is a small linear model that learns while it reads.

Letters: B batch, L clicks, D features, h heads, f = D / h, K mini-batch, k rows in the current mini-batch (k <= K).
The dual form reads a mini-batch at once; the streaming form reads one click at a time in constant memory. They are
equal at every position when no correction is applied. Source: CoCorrRec (IJCAI 2025), Algorithm 1 and Eq. 14-15;
the exact sequence of operations is that of the released implementation.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.layers import apply_rope, pick_rows, rope_tables

LN_EPS = 1e-6
STD_EPS = 1e-6


class Correction(NamedTuple):
    """What the cloud answers with, before it is normalized on the phone."""

    k_attn: Tensor  # [B, h, K, K]
    k_b: Tensor  # [B, h, K, f]


class StreamState(NamedTuple):
    """The streaming form's memory: 2 f (f + 1) floats a head, however many clicks were read."""

    W: Tensor  # [B, h, f, f]
    b: Tensor  # [B, h, 1, f]
    grad_W: Tensor  # [B, h, f, f], summed since the last commit
    grad_b: Tensor  # [B, h, 1, f]
    position: Tensor  # [B] int64, 0 .. K-1 within the mini-batch


class Learned(NamedTuple):
    """What the inner model takes from one mini-batch of k clicks."""

    XK: Tensor  # [B, h, k, f] keys
    XV: Tensor  # [B, h, k, f] values
    rate: Tensor  # [B, h, 1, k] step size of each click
    Z1: Tensor  # [B, h, k, f] reconstruction
    grad_Z1: Tensor  # [B, h, k, f]


class ReadOut(NamedTuple):
    """What r positions of a mini-batch see of it, under the names of the equations."""

    eta: Tensor  # [B, h, r, k] row i, column j = step size of click j seen from position i
    attn_pre: Tensor  # [B, h, r, k] before the correction
    b_pre: Tensor  # [B, h, r, f]
    attn_post: Tensor  # [B, h, r, k] after it (the same tensors without one)
    b_post: Tensor  # [B, h, r, f]
    Z: Tensor  # [B, h, r, f]
    Y: Tensor  # [B, h, r, f] output of the layer, heads apart


def layer_norm_heads(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm over ``f`` with per-head ``weight``, ``bias`` ``[h, 1, f]``; ``x [B, h, k, f]``."""
    return weight * _standardise(x)[0] + bias


def _mean(x: Tensor) -> Tensor:
    # The gradient of torch.mean divides at every place; here the few sums are multiplied.
    return x.sum(-1, keepdim=True) * (1.0 / x.shape[-1])


def _standardise(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x`` with mean 0 and deviation 1 over the last dimension, and what it was multiplied by."""
    centred = x - _mean(x)
    inverse_std = torch.rsqrt(_mean(centred * centred) + LN_EPS)
    return centred * inverse_std, inverse_std


def layernorm_l2_gradient(Z1: Tensor, target: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Gradient of ``1/2 ||LN(Z1) - target||^2`` with respect to ``Z1``; all ``[B, h, k, f]``, norm ``[h, 1, f]``."""
    x_hat, inverse_std = _standardise(Z1)
    grad = (weight * x_hat + bias - target) * weight
    projected = _mean(grad) + x_hat * _mean(grad * x_hat)
    return (grad - projected) * inverse_std


def through_state(x: Tensor, W: Tensor) -> Tensor:
    """``x [B, h, k, f]`` times ``W``: ``[B, h, f, f]``, or ``[h, f, f]`` where all histories share it."""
    # Shared, it is one large product a head; expanded over the batch, it would be one small product a history.
    return x @ W if W.dim() == 4 else torch.einsum("bhkf,hfg->bhkg", x, W)


def sigmoid_gradient(Z1: Tensor, target: Tensor) -> Tensor:
    """Derivative of ``sum sigmoid(Z1 - target)``: the inner loss of the paper's Algorithm 1."""
    activation = torch.sigmoid(Z1 - target)
    return activation * (1 - activation)


def match_statistics(correction: Tensor, reference: Tensor) -> Tensor:
    """Give each row of ``correction`` the mean and standard deviation of the same row of ``reference`` (Eq. 14).

    Both ``[..., n]``; the deviation has n - 1 degrees of freedom. A row of one element has no deviation: it becomes
    the reference.
    """
    if reference.shape[-1] == 1:
        return reference
    centre, spread = _mean_and_std(correction)
    ref_centre, ref_spread = _mean_and_std(reference)
    centred = correction - centre
    centred = centred - _mean(centred)  # a constant correction has no deviation on paper alone: the mean is rounded
    return centred * (ref_spread / (spread + STD_EPS)) + ref_centre


def _mean_and_std(x: Tensor) -> tuple[Tensor, Tensor]:
    # torch.std_mean over a short last dimension takes several times as long on a CPU.
    mean = _mean(x)
    variance = (x - mean).square().sum(-1, keepdim=True) / (x.shape[-1] - 1)
    return mean, variance.clamp_min(1e-30).sqrt()  # the root has no slope at 0


def _pick(x: Tensor, position: Tensor) -> Tensor:
    """Row ``position [B]`` of ``x [B, h, K, n]``: ``[B, h, 1, n]``."""
    return x.gather(2, position[:, None, None, None].expand(-1, x.shape[1], 1, x.shape[3]))


class CorrectionFusion(nn.Module):
    """The phone's side of the correction: normalize what the cloud sent and add a learned share of it (Eq. 14, 15)."""

    def __init__(self, *, remask: bool = False) -> None:
        super().__init__()
        self.P = nn.Parameter(torch.zeros(1))
        self.Q = nn.Parameter(torch.full((1,), 0.25))
        self.remask = remask

    def forward(self, attn: Tensor, b: Tensor, correction: Correction, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Correct the rows ``attn [B, h, r, k]`` and ``b [B, h, r, f]`` by the same rows of ``correction``.

        ``mask [..., r, k]`` is 1 where a row may look; it is applied again only with ``remask``.
        """
        attn = attn + self.P * match_statistics(correction.k_attn, attn)
        if self.remask:
            attn = attn * mask
        return attn, b + self.Q * match_statistics(correction.k_b, b)


class TTTLinear(nn.Module):
    """The TTT-Linear layer.

    Args:
        hidden_size: D.
        num_heads: h; D must be a multiple of 2 h.
        mini_batch: K, clicks that share one gradient step.
        inner_loss: ``"layernorm_l2"`` (released implementation) or ``"sigmoid"`` (Algorithm 1).
    """

    def __init__(self, *, hidden_size: int, num_heads: int, mini_batch: int, inner_loss: str = "layernorm_l2") -> None:
        super().__init__()
        if hidden_size % (2 * num_heads):
            raise ValueError(f"hidden_size {hidden_size} is not a multiple of 2 * num_heads = {2 * num_heads}")
        self.num_heads, self.mini_batch, self.inner_loss = num_heads, mini_batch, inner_loss
        self.head_dim = head_dim = hidden_size // num_heads
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.o_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.lr_weight = nn.Parameter(torch.empty(num_heads, hidden_size))
        self.lr_bias = nn.Parameter(torch.zeros(num_heads))
        self.token_offset = nn.Parameter(torch.zeros(mini_batch))
        self.W1 = nn.Parameter(torch.empty(num_heads, head_dim, head_dim))
        self.b1 = nn.Parameter(torch.zeros(num_heads, 1, head_dim))
        self.ln_weight = nn.Parameter(torch.ones(num_heads, head_dim))
        self.ln_bias = nn.Parameter(torch.zeros(num_heads, head_dim))
        self.post_norm = nn.LayerNorm(hidden_size, eps=LN_EPS)
        cos, sin = rope_tables(mini_batch, head_dim)
        self.register_buffer("rope_cos", cos, persistent=False)  # [K, f]
        self.register_buffer("rope_sin", sin, persistent=False)

    rope_cos: Tensor
    rope_sin: Tensor

    # ------------------------------------------------------------------ what both forms share

    def token_rate(self) -> Tensor:
        """``tok [K]``: how far position p moves along the summed gradients, 1 / (p + 1) plus a learned offset."""
        steps = torch.arange(1, self.mini_batch + 1, device=self.token_offset.device, dtype=self.token_offset.dtype)
        return torch.relu(1.0 / steps + self.token_offset)

    def click_rate(self, H: Tensor) -> Tensor:
        """Learned step size of each click: ``H [B, k, D]`` to ``[B, h, k]``."""
        return torch.sigmoid(nn.functional.linear(H, self.lr_weight, self.lr_bias)).transpose(1, 2) / self.head_dim

    def split_heads(self, x: Tensor) -> Tensor:
        """``[B, k, D]`` to ``[B, h, k, f]``."""
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def inner_gradient(self, Z1: Tensor, target: Tensor) -> Tensor:
        """Gradient of the inner loss with respect to the reconstruction ``Z1``; all ``[B, h, k, f]``."""
        if self.inner_loss == "sigmoid":
            return sigmoid_gradient(Z1, target)
        return layernorm_l2_gradient(Z1, target, self.ln_weight.unsqueeze(1), self.ln_bias.unsqueeze(1))

    def head_norm(self, Z: Tensor) -> Tensor:
        """The output norm of each head, with the same weights as the inner loss; ``[B, h, k, f]``."""
        return layer_norm_heads(Z, self.ln_weight.unsqueeze(1), self.ln_bias.unsqueeze(1))

    def output(self, Y: Tensor) -> Tensor:
        """Merged heads ``[..., D]`` to the layer's output ``[..., D]``: norm and projection."""
        return self.o_proj(self.post_norm(Y))

    # ------------------------------------------------------------------ dual form: a mini-batch at once

    def queries(self, H: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotated queries ``[B, h, r, f]`` of the rows ``H [B, r, D]``, with their positions' rotary tables."""
        return apply_rope(self.split_heads(self.q_proj(H)), cos, sin)

    def learn(self, H: Tensor, W: Tensor, b: Tensor) -> Learned:
        """The gradient step that one mini-batch ``H [B, k, D]``, k <= K, asks for at ``W``, ``b``."""
        rows = H.shape[1]
        XK = apply_rope(self.split_heads(self.k_proj(H)), self.rope_cos[:rows], self.rope_sin[:rows])
        XV = self.split_heads(self.v_proj(H))
        Z1 = through_state(XK, W) + b
        return Learned(XK, XV, self.click_rate(H).unsqueeze(2), Z1, self.inner_gradient(Z1, XV - XK))

    def read(
        self,
        XQ: Tensor,
        token_rate: Tensor,
        mask: Tensor,
        learned: Learned,
        W: Tensor,
        b: Tensor,
        correction: Correction | None = None,
        fusion: CorrectionFusion | None = None,
    ) -> ReadOut:
        """Read r positions of a mini-batch.

        Args:
            XQ: ``[B, h, r, f]`` their queries.
            token_rate: ``[..., r, 1]`` their rows of :meth:`token_rate`.
            mask: ``[..., r, k]``, 1 where a position may look: itself and the clicks before it.
            learned: what the mini-batch taught.
            W: ``[B, h, f, f]`` state before the mini-batch, or ``[h, f, f]`` where all histories share it.
            b: ``[B, h, 1, f]`` or ``[h, 1, f]`` likewise.
            correction: the same r rows of the cloud's answer, ``[B, h, r, k]`` and ``[B, h, r, f]``.
            fusion: how it is mixed in.
        """
        eta = token_rate * learned.rate
        attn_pre = (XQ @ learned.XK.transpose(-2, -1)) * mask
        b_pre = b - (eta * mask) @ learned.grad_Z1
        attn, b_bar = attn_pre, b_pre
        if correction is not None:
            if fusion is None:
                raise ValueError("a correction needs the layer that fuses it: this model was built without a GCN")
            attn, b_bar = fusion(attn_pre, b_pre, correction, mask)
        Z = through_state(XQ, W) - (eta * attn) @ learned.grad_Z1 + b_bar
        return ReadOut(eta, attn_pre, b_pre, attn, b_bar, Z, XQ + self.head_norm(Z))

    def next_state(self, learned: Learned, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The state after a mini-batch; the correction does not touch it."""
        last = self.token_rate()[learned.XK.shape[2] - 1] * learned.rate.transpose(-2, -1)  # [B, h, k, 1]
        step = last * learned.grad_Z1
        return W - learned.XK.transpose(-2, -1) @ step, b - step.sum(2, keepdim=True)

    def read_all(
        self,
        H: Tensor,
        learned: Learned,
        W: Tensor,
        b: Tensor,
        correction: Correction | None = None,
        fusion: CorrectionFusion | None = None,
    ) -> ReadOut:
        """Every position of the mini-batch ``H [B, k, D]``; the arguments are those of :meth:`read`."""
        rows = H.shape[1]
        if correction is not None:  # a mini-batch of k < K rows takes the leading part
            correction = Correction(correction.k_attn[..., :rows, :rows], correction.k_b[..., :rows, :])
        XQ = self.queries(H, self.rope_cos[:rows], self.rope_sin[:rows])
        mask = torch.ones(rows, rows, device=H.device).tril()
        return self.read(XQ, self.token_rate()[:rows, None], mask, learned, W, b, correction, fusion)

    def _read_one(
        self,
        H: Tensor,
        position: Tensor,
        learned: Learned,
        W: Tensor,
        b: Tensor,
        correction: Correction | None,
        fusion: CorrectionFusion | None,
    ) -> ReadOut:
        """One position of each history: ``position [B]`` in the mini-batch ``H [B, k, D]``."""
        rows = H.shape[1]
        if correction is not None:
            correction = Correction(_pick(correction.k_attn, position)[..., :rows], _pick(correction.k_b, position))
        cos, sin = self.rope_cos[position, None, None], self.rope_sin[position, None, None]  # [B, 1, 1, f]
        XQ = self.queries(pick_rows(H, position).unsqueeze(1), cos, sin)  # [B, h, 1, f]
        mask = (torch.arange(rows, device=H.device) <= position[:, None, None, None]).to(H.dtype)  # [B, 1, 1, k]
        token_rate = self.token_rate()[position, None, None, None]  # [B, 1, 1, 1]
        return self.read(XQ, token_rate, mask, learned, W, b, correction, fusion)

    def forward(
        self, H: Tensor, last: Tensor, correction: Correction | None = None, fusion: CorrectionFusion | None = None
    ) -> Tensor:
        """Read the clicks ``H [B, L, D]`` in the dual form, any L >= 1, and answer at ``last [B]``.

        Only the rows that the answer needs are computed: everything after the inner model works row by row.

        Returns:
            ``Y [B, D]``: the merged heads at ``last``, before :meth:`output`.
        """
        W: Tensor = self.W1  # shared by all histories until the first commit
        b: Tensor = self.b1
        chunks = H.split(self.mini_batch, dim=1)
        Y = H.new_zeros(H.shape[0], H.shape[2])
        for index, rows in enumerate(chunks):
            learned = self.learn(rows, W, b)
            position = (last - index * self.mini_batch).clamp(0, rows.shape[1] - 1)
            one = self._read_one(rows, position, learned, W, b, correction, fusion).Y.flatten(1)  # [B, D]
            here = last // self.mini_batch == index
            Y = one if len(chunks) == 1 else torch.where(here[:, None], one, Y)
            if index + 1 < len(chunks):
                W, b = self.next_state(learned, W, b)
        return Y

    def every_position(
        self, H: Tensor, correction: Correction | None = None, fusion: CorrectionFusion | None = None
    ) -> Tensor:
        """The same as :meth:`forward`, at every position: ``Y [B, L, D]``. The plain form, to test the others by."""
        W: Tensor = self.W1
        b: Tensor = self.b1
        merged = []
        for rows in H.split(self.mini_batch, dim=1):
            learned = self.learn(rows, W, b)
            merged.append(self.read_all(rows, learned, W, b, correction, fusion).Y.transpose(1, 2).flatten(2))
            W, b = self.next_state(learned, W, b)
        return torch.cat(merged, dim=1)

    # ------------------------------------------------------------------ streaming form: a click at a time

    def start_stream(self, batch: int) -> StreamState:
        """The state before the first click."""
        W, b = (x.expand(batch, -1, -1, -1).clone() for x in (self.W1, self.b1))
        position = torch.zeros(batch, dtype=torch.int64, device=W.device)
        return StreamState(W, b, torch.zeros_like(W), torch.zeros_like(b), position)

    def step(self, H: Tensor, state: StreamState) -> tuple[StreamState, Tensor]:
        """Read one click ``H [B, D]``; the cost does not depend on how many came before.

        Returns:
            The next state, and ``Y [B, D]``, before :meth:`output`.
        """
        cos, sin = self.rope_cos[state.position, None, None], self.rope_sin[state.position, None, None]  # [B, 1, 1, f]
        row = H.unsqueeze(1)  # [B, 1, D]
        XQ = self.queries(row, cos, sin)  # [B, h, 1, f]
        XK = apply_rope(self.split_heads(self.k_proj(row)), cos, sin)
        XV = self.split_heads(self.v_proj(row))
        grad = self.click_rate(row).unsqueeze(-1) * self.inner_gradient(XK @ state.W + state.b, XV - XK)
        grad_W = state.grad_W + XK.transpose(-2, -1) @ grad
        grad_b = state.grad_b + grad
        rate = self.token_rate()[state.position, None, None, None]  # [B, 1, 1, 1]
        W, b = state.W - rate * grad_W, state.b - rate * grad_b
        Y = XQ + self.head_norm(XQ @ W + b)
        commit = (state.position == self.mini_batch - 1)[:, None, None, None]
        keep = (~commit).to(grad_W.dtype)
        next_state = StreamState(
            torch.where(commit, W, state.W),
            torch.where(commit, b, state.b),
            grad_W * keep,
            grad_b * keep,
            (state.position + 1) % self.mini_batch,
        )
        return next_state, Y.transpose(1, 2).flatten(1)
