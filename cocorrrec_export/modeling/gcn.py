"""The global correction network: what runs in the cloud."""

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.layers import pick_rows
from cocorrrec_export.modeling.ttt import Correction


class CorrectionNetwork(nn.Module):
    """A GRU over the uploaded clicks, and three layers on its last state (Eq. 13).

    Args:
        hidden_size: D.
        outputs: N, the number of values in one correction.
    """

    def __init__(self, *, hidden_size: int, outputs: int) -> None:
        super().__init__()
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.fc1 = nn.Linear(hidden_size, hidden_size, bias=False)
        self.fc2 = nn.Linear(hidden_size, hidden_size, bias=False)
        self.fc3 = nn.Linear(hidden_size, outputs, bias=False)

    def forward(self, H: Tensor, last: Tensor) -> Tensor:
        """``H [B, L, D]`` and the index of its last click ``[B]``: ``[B, N]``."""
        x = pick_rows(self.gru(H)[0], last)
        x = nn.functional.leaky_relu(self.fc1(x))
        x = nn.functional.leaky_relu(self.fc2(x))
        return self.fc3(x)


class GCN(nn.Module):
    """Two correction networks with weights of their own, both fed the whole upload.

    Args:
        hidden_size: D.
        num_heads: h.
        mini_batch: K.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, mini_batch: int) -> None:
        super().__init__()
        self.num_heads, self.mini_batch, self.head_dim = num_heads, mini_batch, hidden_size // num_heads
        self.attn = CorrectionNetwork(hidden_size=hidden_size, outputs=num_heads * mini_batch * mini_batch)
        self.b = CorrectionNetwork(hidden_size=hidden_size, outputs=mini_batch * hidden_size)

    def forward(self, H: Tensor) -> Correction:
        """``H [B, L, D]``, padded rows zero: the corrections ``[B, h, K, K]`` and ``[B, h, K, f]``."""
        # A clicked row of H is never all zero; sum and clamp are kept in int64 for the gather.
        last = ((H != 0).any(-1).to(torch.int64).sum(-1) - 1).clamp_min(0)
        k_attn = self.attn(H, last).reshape(-1, self.num_heads, self.mini_batch, self.mini_batch)
        k_b = self.b(H, last).reshape(-1, self.num_heads, self.mini_batch, self.head_dim)
        return Correction(k_attn, k_b)
