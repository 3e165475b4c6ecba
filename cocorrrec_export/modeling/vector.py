"""The cloud model of ``correction = "vector"``: reads a longer memory than the phone's, and answers with one vector.

It is trained on its own in the phone's item table, so what it answers is an independent opinion of the user in the
space of the phone's user state, and adding the two is a blend of both rankings. The paper has nothing of it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.bert4rec import BERTBlock, read_blocks
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
        self.blocks = nn.ModuleList(
            BERTBlock(hidden_size=hidden_size, num_heads=num_heads, dropout=dropout) for _ in range(LAYERS)
        )
        self.output = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, rows: Tensor, last: Tensor | None = None) -> Tensor:
        """The vector after each click of ``ids [B, L]``, from their rows of the table ``[B, L, D]``.

        ``[B, L, D]``, or at ``last [B]`` alone ``[B, D]``.
        """
        x = self.dropout(rows + self.position_embedding.weight[: rows.shape[1]])
        return self.output(self.dropout(read_blocks(self.blocks, x, ids, causal=True, last=last)))


class VectorCloud(nn.Module):
    """One reader or several, whose vectors are averaged.

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

    def initialise(self, *, std: float, generator: torch.Generator | None) -> None:
        """Layers start by Xavier's rule, positions by ``std``."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, std, generator=generator)

    def states(self, ids: Tensor, rows: Tensor) -> Tensor:
        """The vector after each click of ``ids [B, L]``, whose rows of the table are ``rows [B, L, D]``."""
        return self._mean([network(ids, rows) for network in self.networks])

    def forward(self, ids: Tensor, rows: Tensor) -> Tensor:
        """The same after the last click alone, ``[B, D]``."""
        last = last_position(ids)
        return self._mean([network(ids, rows, last) for network in self.networks])

    @staticmethod
    def _mean(vectors: list[Tensor]) -> Tensor:
        return vectors[0] if len(vectors) == 1 else torch.stack(vectors).mean(0)


class VectorFusion(nn.Module):
    """The phone's side: a share of the cloud's vector on top of its own user state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(1))

    weight: Tensor

    def forward(self, user: Tensor, answer: VectorAnswer) -> Tensor:
        """``user [B, D]`` and the answer's vector to the user state ``[B, D]``."""
        return user + self.weight * answer.vector
