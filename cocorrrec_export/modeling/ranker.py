"""What training, evaluation and export ask of an architecture."""

from typing import Any

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.config import PADDING_ID


def last_position(ids: Tensor) -> Tensor:
    """Index of the last click of each history: ``ids [B, L]`` to ``[B]``. An empty history gives 0."""
    return ((ids != PADDING_ID).sum(-1) - 1).clamp_min(0)


class Ranker(nn.Module):
    """Reads clicks into a user, items into vectors, and matches the two.

    A user is read once for all candidates, an item once for all users. Both start from rows of one table, which are
    passed in, so that training can look them up outside the graph.
    """

    item_embedding: nn.Embedding
    """The table, ``[V, D]``."""
    gcn: nn.Module | None
    """The cloud's half; None in every architecture but CoCorrRec's."""
    streams = False
    """Whether clicks can be read one by one in constant memory: :meth:`start_stream` and :meth:`step`."""

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Any:
        """The user after ``ids [B, L]``, whose rows of the table are ``clicks [B, L, D]``.

        A state ``[B, D]``, or what :meth:`match` of the architecture takes instead. ``corrected`` matters to a model
        with a GCN alone.
        """
        raise NotImplementedError

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:
        """The state after each click, ``[B, L, ...]``: what the published FLOPs are of; the last is the user."""
        raise NotImplementedError

    def item_side(self, rows: Tensor) -> Tensor:
        """Vectors of items, from their rows of the table: ``[..., D]`` to the same shape."""
        return rows

    def match(self, user: Any, vectors: Tensor) -> Tensor:
        """Logits ``[B, C]`` of items with ``vectors [B, C, D]``."""
        logits: Tensor = (vectors @ user.unsqueeze(-1)).squeeze(-1)
        return logits

    def initialise(self, *, std: float, generator: torch.Generator | None) -> None:
        """Draw what does not start as :func:`~cocorrrec_export.modeling.build.build_model` draws every layer."""

    def start_stream(self, batch: int) -> Any:
        """The streaming state before the first click."""
        raise NotImplementedError

    def step(self, items: Tensor, state: Any) -> tuple[Any, Tensor]:
        """Read one click ``items [B]``: the next state, a tuple of tensors, and the user state ``[B, D]``."""
        raise NotImplementedError

    def user_state(self, ids: Tensor, *, corrected: bool = True) -> Any:
        """The user after ``ids [B, L]``, with the cloud's correction unless told otherwise."""
        return self.read_rows(ids, self.item_embedding(ids), corrected=corrected)

    def item_vectors(self, items: Tensor) -> Tensor:
        """The item side, ``items [...]`` to ``[..., D]``."""
        return self.item_side(self.item_embedding(items))

    def forward(self, ids: Tensor, candidates: Tensor, *, corrected: bool = True) -> Tensor:
        """Logits ``[B, C]`` of ``candidates [B, C]``; their sigmoid is the score."""
        return self.match(self.user_state(ids, corrected=corrected), self.item_vectors(candidates))
