"""Small layers that the two networks share."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension: ``w * x / sqrt(mean(x^2) + eps)``. A zero row stays zero."""

    def __init__(self, size: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``x [..., size]`` to the same shape."""
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))


def tanh_layers(size: int, count: int) -> nn.Sequential:
    """``count`` square layers with tanh between them; none change nothing."""
    layers: list[nn.Module] = []
    for index in range(count):
        layers += [nn.Linear(size, size), *([nn.Tanh()] if index + 1 < count else [])]
    return nn.Sequential(*layers)


def rope_tables(positions: int, head_dim: int, *, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, each pair's value twice: two tensors ``[positions, head_dim]``."""
    theta = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)  # [f/2]
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), theta)  # [positions, f/2]
    angles = angles.repeat_interleave(2, dim=-1)  # [positions, f]
    return angles.cos(), angles.sin()


def rotate_pairs(x: Tensor) -> Tensor:
    """``[..., f]``: each interleaved pair (a, b) becomes (-b, a)."""
    pairs = x.unflatten(-1, (-1, 2))
    return torch.stack((-pairs[..., 1], pairs[..., 0]), dim=-1).flatten(-2)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate ``x [..., k, f]`` by tables ``[k, f]``: interleaved pairs, as in the released implementation."""
    return x * cos + rotate_pairs(x) * sin


def pick_rows(x: Tensor, index: Tensor) -> Tensor:
    """``x [B, L, D]`` at ``index [B]``: ``[B, D]``."""
    return x.gather(1, index[:, None, None].expand(-1, 1, x.shape[-1])).squeeze(1)
