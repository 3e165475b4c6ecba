"""The cloud model of ``correction = "vector"``: reads a longer memory than the phone's, and answers with one vector.

It is trained on its own in the phone's item table, so what it answers is an independent opinion of the user in the
space of the phone's user state, and adding the two is a blend of both rankings. The paper has nothing of it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.transformer import bert_blocks, read_blocks
from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.ranker import last_position

LAYERS = 2


class VectorAnswer(NamedTuple):
    """What the cloud answers with."""

    vector: Tensor  # [B, D]


class VectorReader(nn.Module):
    """Causal attention over the clicks and their positions.

    Args:
        hidden_size: D.
        num_heads: h.
        length: L_cloud, rows of the table of positions.
        dropout: share of features dropped in training.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, length: int, dropout: float) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(length, hidden_size)
        self.blocks = bert_blocks(hidden_size=hidden_size, num_heads=num_heads, num_layers=LAYERS, dropout=dropout)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, rows: Tensor, last: Tensor | None = None) -> Tensor:
        """The vector after each click of ``ids [B, L]``, from their rows of the table ``[B, L, D]``.

        ``[B, L, D]``, or at ``last [B]`` alone ``[B, D]``.
        """
        x = self.dropout(rows + self.position_embedding.weight[: rows.shape[1]])
        return self.output(self.dropout(read_blocks(self.blocks, x, ids != PADDING_ID, causal=True, last=last)))


class VectorCloud(nn.Module):
    """One reader or several, whose mean vector, times a weight, is what the phone adds to its user state.

    Args:
        hidden_size: D.
        num_heads: h.
        length: L_cloud.
        networks: how many readers.
        dropout: share of features dropped in training.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, length: int, networks: int, dropout: float) -> None:
        super().__init__()
        self.length = length
        self.networks = nn.ModuleList(
            VectorReader(hidden_size=hidden_size, num_heads=num_heads, length=length, dropout=dropout)
            for _ in range(networks)
        )
        self.register_buffer("weight", torch.ones(1))  # chosen on validation

    weight: Tensor

    def initialize(self, *, std: float, generator: torch.Generator | None) -> None:
        """Layers start by Xavier's rule, positions by ``std``."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, std, generator=generator)

    def forward(self, ids: Tensor, rows: Tensor) -> Tensor:
        """The weighted vector after the last click, ``[B, D]``."""
        return self.weight * self.mean(ids, rows)

    def mean(self, ids: Tensor, rows: Tensor) -> Tensor:
        """The same without the weight."""
        last = last_position(ids)
        vectors = [network(ids, rows, last) for network in self.networks]
        # Sums, not a stack and a mean: exporters of a batch of any size lower them well.
        return vectors[0] if len(vectors) == 1 else sum(vectors[1:], vectors[0]) * (1.0 / len(vectors))
