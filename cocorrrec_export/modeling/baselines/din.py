"""DIN (Zhou et al., KDD 2018), as the paper's released implementation has it: target attention by scaled products."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.frame import MASKED, Baseline
from cocorrrec_export.modeling.config import PADDING_ID


class Interests(NamedTuple):
    """A user: the candidates decide what of it counts."""

    keys: Tensor  # [B, L, D]
    values: Tensor  # [B, L, D]
    mask: Tensor  # [B, 1, L], added to attention logits


class DIN(Baseline):
    """A candidate attends to the clicks; a small network reads the candidate and what it found.

    There is no one state of a user: the score is not an inner product. What depends on the clicks alone (keys and
    values) is computed once for all candidates; each candidate then costs L products and the classifier.

    Args:
        vocab_size: V.
        hidden_size: D.
        dropout: share of features dropped in training.
    """

    one_state = False

    def __init__(self, *, vocab_size: int, hidden_size: int, dropout: float = 0.0) -> None:
        super().__init__(vocab_size=vocab_size, hidden_size=hidden_size, dropout=dropout)
        size = hidden_size
        self.click_proj = nn.Linear(size, size)
        self.item_proj = nn.Linear(size, size)
        self.query_proj = nn.Linear(size, size, bias=False)
        self.key_proj = nn.Linear(size, size, bias=False)
        self.value_proj = nn.Linear(size, size, bias=False)
        self.classifier = nn.Sequential(
            nn.Linear(2 * size, 2 * size), nn.Tanh(), nn.Linear(2 * size, size), nn.Tanh(), nn.Linear(size, 1)
        )

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Interests:  # noqa: ARG002
        """Keys and values of the clicks."""
        x = self.click_proj(self.dropout(clicks)).tanh()
        mask = (ids == PADDING_ID).to(x.dtype)[:, None] * MASKED
        return Interests(self.key_proj(x), self.value_proj(x), mask)

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:
        """Keys and values, ``[B, L, 2 D]``."""
        user = self.read_rows(ids, clicks, corrected=corrected)
        return torch.cat((user.keys, user.values), dim=-1)

    def item_side(self, rows: Tensor) -> Tensor:
        """``tanh`` of a layer."""
        return self.item_proj(rows).tanh()

    def match(self, user: Interests, vectors: Tensor) -> Tensor:
        """``vectors [B, C, D]`` attend to the clicks: logits ``[B, C]``."""
        query = self.query_proj(vectors) / math.sqrt(vectors.shape[-1])
        weights = (query @ user.keys.transpose(-1, -2) + user.mask).softmax(-1)  # [B, C, L]
        interest = self.dropout(weights @ user.values)  # [B, C, D]
        return self.classifier(torch.cat((vectors, interest), dim=-1)).squeeze(-1)

    def match_all(self, user: Interests, vectors: Tensor) -> Tensor:
        """``vectors [C, D]``, which every user's clicks are asked about: logits ``[B, C]``."""
        return self.match(user, vectors.expand(user.keys.shape[0], -1, -1))
