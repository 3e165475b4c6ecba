"""The cloud model of ``correction = "vector"``: reads a longer memory than the phone's, and answers with one vector.

It is trained on its own in the phone's item table, so what it answers is an independent opinion of the user in the
space of the phone's user state, and adding the two is a blend of both rankings. The paper has nothing of it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.transformer import bert_blocks, read_blocks
from cocorrrec_export.modeling.config import PADDING_ID, CloudReader, reader_kinds
from cocorrrec_export.modeling.layers import RMSNorm, pick_rows
from cocorrrec_export.modeling.ranker import last_position

LAYERS = 2
"""Blocks of attention."""
GRU_WIDTH = 2
"""Features of a GRU's state, in units of D."""


class VectorAnswer(NamedTuple):
    """What the cloud answers with."""

    vector: Tensor  # [B, D]


class VectorReader(nn.Module):
    """Reads clicks into one vector after each."""

    def forward(self, ids: Tensor, rows: Tensor, last: Tensor | None = None) -> Tensor:
        """The vector after each click of ``ids [B, L]``, from their rows of the table ``[B, L, D]``.

        ``[B, L, D]``, or at ``last [B]`` alone ``[B, D]``.
        """
        raise NotImplementedError


class AttentionReader(VectorReader):
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
        """As :meth:`VectorReader.forward`."""
        x = self.dropout(rows + self.position_embedding.weight[: rows.shape[1]])
        return self.output(self.dropout(read_blocks(self.blocks, x, ids != PADDING_ID, causal=True, last=last)))


class GRUReader(VectorReader):
    """A GRU over the clicks, whose output is added to the last click and normed, as in the phone's residual read-out.

    Args:
        hidden_size: D.
        dropout: share of features dropped in training, of the clicks and of what is read out.
    """

    def __init__(self, *, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(hidden_size, GRU_WIDTH * hidden_size, batch_first=True)
        self.output = nn.Linear(GRU_WIDTH * hidden_size, hidden_size)
        self.input_norm = RMSNorm(hidden_size)
        self.output_norm = RMSNorm(hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, rows: Tensor, last: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """As :meth:`VectorReader.forward`; padding comes behind the last click, where a GRU has not been yet."""
        x = self.gru(self.dropout(rows))[0]
        if last is not None:
            x, rows = pick_rows(x, last), pick_rows(rows, last)
        return self.dropout(self.output_norm(self.output(self.dropout(x)) + self.input_norm(rows)))


class VectorCloud(nn.Module):
    """One reader or several, whose mean vector, times a weight, is what the phone adds to its user state.

    Args:
        hidden_size: D.
        num_heads: h.
        reader: of what kind the readers are, as in a config.
        length: L_cloud.
        networks: how many readers.
        dropout: share of features dropped in training.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        reader: CloudReader,
        length: int,
        networks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.length = length
        self.networks = nn.ModuleList(
            GRUReader(hidden_size=hidden_size, dropout=dropout)
            if kind == "gru"
            else AttentionReader(hidden_size=hidden_size, num_heads=num_heads, length=length, dropout=dropout)
            for kind in reader_kinds(reader, networks)
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
