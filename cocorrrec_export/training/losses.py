"""Training objectives, as pure functions of logits."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.modeling.config import PADDING_ID

_NEVER = -1e9  # finite, so that a row with nothing else gives numbers


def bce_loss(logits: Tensor) -> Tensor:
    """Mean binary cross-entropy of ``logits [B, 1 + negatives]``, the positive in column 0 (as released)."""
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1.0
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)


def softmax_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the vocabulary (Eq. 12, 16): ``logits [B, V]``, ``targets [B]``; padding cannot be drawn."""
    logits = logits.index_fill(1, torch.tensor([PADDING_ID], device=logits.device), float("-inf"))
    return torch.nn.functional.cross_entropy(logits, targets)


def sampled_softmax_loss(
    logits: Tensor, targets: Tensor, candidates: Tensor, log_expected: Tensor, *, first: int = 0
) -> Tensor:
    """Cross-entropy over a sample of the vocabulary that holds every target.

    An item that is in the sample more often than once would count so in the sum of exponentials: its logit is lowered
    by the logarithm of how often it is expected there (log q of Bengio and Senecal, 2008). With the whole vocabulary
    as the sample, once each, this is :func:`softmax_loss`.

    Args:
        logits: ``[B, C]`` of the candidates.
        targets: ``[B]`` items; row b's is ``candidates[first + b]``.
        candidates: ``[C >= B]`` items, repeats allowed.
        log_expected: ``[C]`` logarithm of how often each candidate is expected in a sample.
        first: place of the first row's target among the candidates.
    """
    rows = torch.arange(len(targets), device=logits.device)
    own = first + rows
    again = candidates == targets[:, None]  # [B, C]: the target in a second place is not a wrong answer
    again[rows, own] = False
    corrected = (logits - log_expected).masked_fill(again, _NEVER)
    return torch.nn.functional.cross_entropy(corrected, own)


class ExpectedCounts:
    """How often items are expected among the targets of a step and a uniform sample of the items.

    Args:
        clicks: ``[V]`` how often each item is a training click, which targets follow; the padding's place 0.
    """

    def __init__(self, clicks: NDArray[np.integer]) -> None:
        self._clicks, self._all = clicks, max(1, int(clicks.sum()))

    def of(self, items: NDArray[np.integer], *, targets: int, sampled: int) -> NDArray[np.float64]:
        """Of ``items [n]`` alone: a step must not cost more the larger the catalog is.

        Args:
            items: of the step.
            targets: how many it has.
            sampled: how many items are drawn.
        """
        return sampled / (len(self._clicks) - 1) + targets * self._clicks[items] / self._all
