"""The SCN's export graph with the kernels of the cloud (``correction = "kernel"``): each mini-batch corrected.

Letters as in :mod:`cocorrrec_export.modeling.ttt`.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cocorrrec_export.forms.frame import Mean, constant, leading, pick
from cocorrrec_export.modeling.ttt import STD_EPS, CorrectionFusion, TTTLinear

if TYPE_CHECKING:
    from cocorrrec_export.forms.scn import DeviceSCN


class KernelFusion(nn.Module):
    """:class:`CorrectionFusion` at one click, with means as products.

    Args:
        fusion: of the plain model.
        ttt: the layer whose mini-batches are corrected.
        sequence_length: L.
    """

    def __init__(self, fusion: CorrectionFusion, ttt: TTTLinear, *, sequence_length: int) -> None:
        super().__init__()
        self.heads, self.head_dim, self.mini_batch = ttt.num_heads, ttt.head_dim, ttt.mini_batch
        self.remask = fusion.remask
        constant(self, "P", fusion.P)
        constant(self, "Q", fusion.Q)
        # Rows of a mini-batch, full and remainder, and features of a head: what a correction is normalized over.
        sizes = {min(self.mini_batch, sequence_length), sequence_length % self.mini_batch, self.head_dim} - {0, 1}
        self.means = nn.ModuleDict({str(n): Mean(n) for n in sizes})
        self.variances = nn.ModuleDict({str(n): Mean(n, divisor=n - 1) for n in sizes})

    P: Tensor
    Q: Tensor

    def forward(
        self, attn: Tensor, b_bar: Tensor, here: Tensor, mask: Tensor, k_attn: Tensor, k_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Correct the attention ``[h, 1, k]`` and the bias ``[h, 1, f]`` of the click that ``here [1, k]`` picks."""
        rows = attn.shape[2]
        k_attn = k_attn.view(self.heads, self.mini_batch, self.mini_batch)
        k_b = k_b.view(self.heads, self.mini_batch, self.head_dim)
        if rows < self.mini_batch:
            k_attn, k_b = k_attn[:, :rows, :rows], k_b[:, :rows]
        asking = here.unsqueeze(0).expand(self.heads, 1, rows)
        attn = attn + self.P * self._match(torch.bmm(asking, k_attn), attn, rows)
        if self.remask:
            attn = attn * mask
        return attn, b_bar + self.Q * self._match(torch.bmm(asking, k_b), b_bar, self.head_dim)

    def _match(self, correction: Tensor, reference: Tensor, size: int) -> Tensor:
        """Equation 14: ``correction [h, 1, n]`` with the mean and deviation of ``reference [h, 1, n]``."""
        if size == 1:
            return reference
        mean, variance = self.means[str(size)], self.variances[str(size)]
        centre, ref_centre = mean(correction), mean(reference)
        centred, ref_centred = correction - centre, reference - ref_centre
        centred = centred - mean(centred)  # a constant correction has no deviation on paper alone: the mean is rounded
        spread = torch.sqrt(variance(centred * centred))
        ref_spread = torch.sqrt(variance(ref_centred * ref_centred))
        # This quotient first: ref_spread / eps is beyond float16, and times nothing it would be no number.
        return centred / (spread + STD_EPS) * ref_spread + ref_centre


def corrected_user_state(scn: "DeviceSCN", ids: Tensor, H: Tensor, k_attn: Tensor, k_b: Tensor) -> Tensor:
    """User state ``[1, D]`` after ``ids [1, L]``, from ``H [L, D]`` and the cloud's answer.

    Args:
        scn: with a fusion.
        ids: ``[1, L]``.
        H: their encoding.
        k_attn: ``[1, h, K, K]``.
        k_b: ``[1, h, K, f]``.
    """
    length, size = H.shape[0], scn.mini_batch
    one_hot = scn.last_click(ids)  # to the end of the last mini-batch
    Wb, queries, outputs = scn.Wb1, [], []
    click = pick(one_hot if length == one_hot.shape[1] else one_hot[:, :length], H)
    if length <= size:
        XQ, Z, _ = _mini_batch(scn, H, one_hot, Wb, k_attn, k_b)
        return scn.read_out(XQ, Z, click)
    for at in range(0, length, size):
        here = one_hot[:, at : at + size]
        XQ, Z, taught = _mini_batch(scn, H[at : min(at + size, length)], here, Wb, k_attn, k_b)
        Wb = Wb - taught
        is_here = here.sum(dim=1, keepdim=True).unsqueeze(0)  # only the one with the last click answers
        queries.append(XQ * is_here)
        outputs.append(Z * is_here)
    return scn.read_out(sum(queries[1:], queries[0]), sum(outputs[1:], outputs[0]), click)


def _mini_batch(
    scn: "DeviceSCN", H: Tensor, here: Tensor, Wb: Tensor, k_attn: Tensor, k_b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Learn from the clicks ``H [k, D]`` and answer at the one that ``here [1, K]`` picks.

    Returns:
        Its query and ``Z``, both ``[h, 1, f]``; what a full mini-batch takes off the state ``Wb [h, f + 1, f]``.
    """
    assert scn.fusion is not None
    rows, size = H.shape[0], scn.head_dim
    x = scn.project(H, leading(scn.rope_cos, rows), leading(scn.rope_sin, rows))
    keys = scn.with_one(x.XK)
    gradient = scn.inner_gradient(torch.bmm(keys, Wb), x.goal)
    cos, sin, rate, mask = scn.at_place(here)
    if rows < scn.mini_batch:
        here, mask = here[:, :rows], mask[:, :rows]
    mask = mask.unsqueeze(0)  # [1, 1, k]
    XQ = scn.query(pick(here, H), cos, sin)
    eta = x.rate * (rate * (1.0 / size)).unsqueeze(0)  # [h, 1, k]
    attn = torch.bmm(XQ, x.XK.transpose(1, 2)) * mask
    b_bar = Wb[:, size:] - torch.bmm(eta * mask, gradient)
    attn, b_bar = scn.fusion(attn, b_bar, here, mask, k_attn, k_b)
    at_end = x.rate * scn.end_rate
    taught = torch.bmm(keys.transpose(1, 2) * at_end, gradient)
    return XQ, torch.bmm(XQ, Wb[:, :size]) - torch.bmm(eta * attn, gradient) + b_bar, taught
