"""What training, evaluation and export ask of an architecture."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cocorrrec_export.errors import UsageError
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
    """The cloud model; None in every architecture but CoCorrRec's."""
    architecture = ""
    """Its name in a config, for messages; :func:`~cocorrrec_export.modeling.build.build_model` sets it."""
    streams = False
    """Whether clicks can be read one by one in constant memory: :meth:`start_stream` and :meth:`step`."""
    renamed: ClassVar[dict[str, str]] = {}
    """What tensors of earlier versions begin with, and what they begin with now."""
    one_state = True
    """Whether a user is one vector ``[D]``, and a score its product with an item's."""

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Any:
        """The user after ``ids [B, L]``, whose rows of the table are ``clicks [B, L, D]``.

        A state ``[B, D]``, or what :meth:`match` of the architecture takes instead. ``corrected`` matters to a model
        with a GCN alone.
        """
        raise NotImplementedError

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:
        """The state after each click, ``[B, L, ...]``: what the published FLOPs are of; the last is the user."""
        raise NotImplementedError

    def states(self, ids: Tensor, clicks: Tensor) -> Tensor:  # noqa: ARG002
        """The user as it is after each click, ``[B, L, D]``, without a correction; a padded click's is meaningless.

        Training on every position reads it. At the last click it equals :meth:`read_rows`.

        Raises:
            UsageError: the model reads later clicks into earlier positions, or has no state of its own.
        """
        raise UsageError(
            f"{self.architecture or type(self).__name__} does not have one user state per click that only that click "
            "and earlier ones decide: use positions 'last'"
        )

    def item_side(self, rows: Tensor) -> Tensor:
        """Vectors of items, from their rows of the table: ``[..., D]`` to the same shape."""
        return rows

    def candidate_vectors(self, rows: Tensor, items: Tensor | None) -> Tensor:  # noqa: ARG002
        """The same of ``items [...]``, or of the whole table, with what a score needs of an item next to its row."""
        return self.item_side(rows)

    def match(self, user: Any, vectors: Tensor) -> Tensor:
        """Logits ``[B, C]`` of items with ``vectors [B, C, D]``."""
        logits: Tensor = (vectors @ user.unsqueeze(-1)).squeeze(-1)
        return logits

    def match_all(self, user: Any, vectors: Tensor) -> Tensor:
        """Logits ``[B, C]`` of the same items for every user: ``vectors [C, D]``."""
        logits: Tensor = user @ vectors.T
        return logits

    def item_tensors(self) -> list[str]:
        """Names of the tensors that have a row per item: the table, and what an architecture has next to it."""
        table = self.item_embedding.weight
        return [name for name, x in self.named_parameters() if x is table]

    def initialize(self, *, std: float, generator: torch.Generator | None) -> None:
        """Draw what does not start as :func:`~cocorrrec_export.modeling.build.build_model` draws every layer."""

    def start_stream(self, batch: int) -> Any:
        """The streaming state before the first click."""
        raise NotImplementedError

    def step(self, items: Tensor, state: Any) -> tuple[Any, Tensor]:
        """Read one click ``items [B]``: the next state, a tuple of tensors, and the user state ``[B, D]``."""
        raise NotImplementedError

    def user_state(self, ids: Tensor, *, corrected: bool = True, memory: Tensor | None = None) -> Any:  # noqa: ARG002
        """The user after ``ids [B, L]``, with the cloud's correction unless told otherwise.

        ``memory [B, L_cloud]``: the last clicks as a cloud with a longer memory has them; other models do not read it.
        """
        return self.read_rows(ids, self.item_embedding(ids), corrected=corrected)

    def item_vectors(self, items: Tensor) -> Tensor:
        """The item side, ``items [...]`` to ``[..., D]``."""
        return self.candidate_vectors(self.item_embedding(items), items)

    def forward(
        self, ids: Tensor, candidates: Tensor, *, corrected: bool = True, memory: Tensor | None = None
    ) -> Tensor:
        """Scores ``[B, C]`` of ``candidates [B, C]``: logits. The arguments are those of :meth:`user_state`."""
        return self.match(self.user_state(ids, corrected=corrected, memory=memory), self.item_vectors(candidates))
