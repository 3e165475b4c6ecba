"""Training objectives, as pure functions of logits."""

import torch
from torch import Tensor

from cocorrrec_export.modeling.config import PADDING_ID


def bce_loss(logits: Tensor) -> Tensor:
    """Mean binary cross-entropy of ``logits [B, 1 + negatives]``, the positive in column 0 (as released)."""
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1.0
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)


def softmax_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the vocabulary (Eq. 12, 16): ``logits [B, V]``, ``targets [B]``; padding cannot be drawn."""
    logits = logits.index_fill(1, torch.tensor([PADDING_ID], device=logits.device), float("-inf"))
    return torch.nn.functional.cross_entropy(logits, targets)
