"""The joint model as one writes it down first: the equations, line by line, for one (history, item) pair a row.

It takes the parameters of our model, so that both sides of a benchmark train and score the same thing. One mini-batch
only (L <= K). Every history starts from its own copy of W1 and b1, every position is computed, the last one picked.
"""

import torch
from torch import Tensor

from cocorrrec_export.modeling.gcn import CorrectionNetwork
from cocorrrec_export.modeling.joint import CoCorrRec


def logits(model: CoCorrRec, ids: Tensor, items: Tensor) -> Tensor:
    """Logit of each pair: ``ids [B, L]``, ``items [B]`` to ``[B]``."""
    scn, ttt = model.scn, model.scn.ttt
    B, L = ids.shape
    h, f, D = ttt.num_heads, ttt.head_dim, ttt.num_heads * ttt.head_dim
    e = scn.item_embedding(ids)
    H = scn.input_norm.weight * e * torch.rsqrt((e**2).mean(-1, keepdim=True) + 1e-6)

    def heads(x: Tensor) -> Tensor:
        return x.view(B, L, h, f).transpose(1, 2)

    XQ, XK, XV = (heads(layer(H)) for layer in (ttt.q_proj, ttt.k_proj, ttt.v_proj))
    XQ, XK = rotate(XQ), rotate(XK)
    lr = torch.sigmoid(torch.einsum("bkc,hc->bhk", H, ttt.lr_weight) + ttt.lr_bias[:, None]) / f
    token = torch.clamp(1.0 / torch.arange(1, ttt.mini_batch + 1) + ttt.token_offset, min=0)[:L]
    eta = token[:, None] * lr[:, :, None, :]
    W = torch.tile(ttt.W1[None], (B, 1, 1, 1))
    b = torch.tile(ttt.b1[None], (B, 1, 1, 1))
    gamma, beta = ttt.ln_weight[:, None], ttt.ln_bias[:, None]
    Z1 = XK @ W + b
    G = norm_gradient(Z1, XV - XK, gamma, beta)
    A = torch.tril(XQ @ XK.transpose(-2, -1))
    b_bar = b - torch.tril(eta) @ G
    if model.gcn is not None and scn.fusion is not None:
        last = ((H != 0).any(-1).sum(-1) - 1).clamp(min=0)
        K_attn = correction(model.gcn.attn, H, last).view(B, h, ttt.mini_batch, ttt.mini_batch)[..., :L, :L]
        K_b = correction(model.gcn.b, H, last).view(B, h, ttt.mini_batch, f)[..., :L, :]
        A = A + scn.fusion.P * match(K_attn, A)
        b_bar = b_bar + scn.fusion.Q * match(K_b, b_bar)
    Z = XQ @ W - (eta * A) @ G + b_bar
    mean, variance = Z.mean(-1, keepdim=True), Z.var(-1, keepdim=True, unbiased=False)
    Y = XQ + gamma * (Z - mean) / torch.sqrt(variance + 1e-6) + beta
    O = ttt.o_proj(ttt.post_norm(Y.transpose(1, 2).reshape(B, L, D)))  # noqa: E741
    R = scn.output_norm.weight * O * torch.rsqrt((O**2).mean(-1, keepdim=True) + 1e-6)
    user = R[torch.arange(B), ((ids != 0).sum(-1) - 1).clamp(min=0)]
    return (user * scn.item_mlp(scn.item_embedding(items))).sum(-1)


def rotate(x: Tensor) -> Tensor:
    """Rotary embedding of ``[B, h, L, f]``, interleaved pairs."""
    length, features = x.shape[-2:]
    theta = 10000.0 ** (-torch.arange(0, features, 2) / features)
    angles = torch.arange(length)[:, None] * theta
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = (even * angles.cos() - odd * angles.sin(), odd * angles.cos() + even * angles.sin())
    return torch.stack(turned, dim=-1).flatten(-2)


def norm_gradient(Z1: Tensor, target: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Gradient of half the squared error of the normed reconstruction."""
    f = Z1.shape[-1]
    s = torch.sqrt(Z1.var(-1, keepdim=True, unbiased=False) + 1e-6)
    xh = (Z1 - Z1.mean(-1, keepdim=True)) / s
    gx = (gamma * xh + beta - target) * gamma
    return (f * gx - gx.sum(-1, keepdim=True) - xh * (gx * xh).sum(-1, keepdim=True)) / (f * s)


def correction(network: CorrectionNetwork, H: Tensor, last: Tensor) -> Tensor:
    """One of the cloud's two networks."""
    g = network.gru(H)[0][torch.arange(len(H)), last]
    leaky = torch.nn.functional.leaky_relu
    return network.fc3(leaky(network.fc2(leaky(network.fc1(g)))))


def match(K: Tensor, S: Tensor) -> Tensor:
    """``K`` with the mean and deviation of ``S``, row by row."""
    normed = (K - K.mean(-1, keepdim=True)) / (K.std(-1, keepdim=True) + 1e-6)
    return normed * S.std(-1, keepdim=True) + S.mean(-1, keepdim=True)
