"""The cloud model of ``correction = "vector"``: reads a longer memory than the phone's, and answers with one vector.

It is trained on its own in the phone's item table, so what it answers is an independent opinion of the user in the
space of the phone's user state, and adding the two is a blend of both rankings. The paper has nothing of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.baselines.frame import MASKED
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


class Recall(nn.Module):
    """Attention of a GRU's states to the clicks that the phone no longer has; zeros where there are none.

    Args:
        hidden_size: D.
        num_heads: h.
        phone_length: L, the newest clicks, which are not attended to.
        length: L_cloud.
        dropout: share of features dropped in training.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, phone_length: int, length: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.phone_length = phone_length
        self.norm = RMSNorm(hidden_size)
        self.query = nn.Linear(GRU_WIDTH * hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.distance = nn.Embedding(max(1, length - phone_length), num_heads)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, rows: Tensor, at: Tensor) -> Tensor:
        """What ``states [B, Q, 2 D]`` after the clicks ``at [B or 1, Q]`` find in ``rows [B, L, D]``: ``[B, Q, D]``."""
        older = at[..., None] - torch.arange(rows.shape[1], device=at.device) - self.phone_length  # [B or 1, Q, L]
        rows = self.norm(rows)
        query, key, value = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x in (self.query(states), self.key(rows), self.value(rows))
        )
        bias = self.distance(older.clamp(0, self.distance.num_embeddings - 1)).permute(0, 3, 1, 2)  # [., h, Q, L]
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias + (older < 0)[:, None] * MASKED
        found = self.output((logits.softmax(-1) @ value).transpose(1, 2).flatten(2))
        return self.dropout(found) * (at >= self.phone_length)[..., None]


class GRUReader(VectorReader):
    """A GRU over the clicks, whose output is added to the last click and normed, as in the phone's residual read-out.

    Args:
        hidden_size: D.
        dropout: share of features dropped in training, of the clicks and of what is read out.
        recall: what is added from clicks that the phone no longer has.
    """

    def __init__(self, *, hidden_size: int, dropout: float, recall: Recall | None = None) -> None:
        super().__init__()
        self.gru = nn.GRU(hidden_size, GRU_WIDTH * hidden_size, batch_first=True)
        self.output = nn.Linear(GRU_WIDTH * hidden_size, hidden_size)
        self.input_norm = RMSNorm(hidden_size)
        self.output_norm = RMSNorm(hidden_size)
        self.recall = recall
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, rows: Tensor, last: Tensor | None = None) -> Tensor:
        """As :meth:`VectorReader.forward`; padding comes behind the last click, where a GRU has not been yet."""
        clicks, at = self.dropout(rows), torch.arange(ids.shape[1], device=ids.device)[None]
        x = self.gru(clicks)[0]
        if last is not None:
            x, rows, at = pick_rows(x, last)[:, None], pick_rows(rows, last)[:, None], last[:, None]
        user = self.output(self.dropout(x)) + self.input_norm(rows)
        if self.recall is not None:
            user = user + self.recall(x, clicks, at)
        vectors: Tensor = self.dropout(self.output_norm(user))
        return vectors if last is None else vectors.squeeze(1)


class VectorCloud(nn.Module):
    """One reader or several, whose mean vector, times a weight, is what the phone adds to its user state.

    Args:
        hidden_size: D.
        num_heads: h.
        reader: of what kind the readers are, as in a config.
        phone_length: L.
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
        phone_length: int,
        length: int,
        networks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.length = length
        size: dict[str, Any] = {"hidden_size": hidden_size, "dropout": dropout}
        attention = size | {"num_heads": num_heads, "length": length}
        make: dict[str, Callable[[], VectorReader]] = {
            "attention": lambda: AttentionReader(**attention),
            "gru": lambda: GRUReader(**size),
            "recall": lambda: GRUReader(**size, recall=Recall(**attention, phone_length=phone_length)),
        }
        self.networks = nn.ModuleList(make[kind]() for kind in reader_kinds(reader, networks))
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
