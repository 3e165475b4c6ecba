"""The joint model: the phone's network and the cloud's, as they are trained together."""

import torch
from torch import Tensor, nn

from cocorrrec_export.errors import UsageError
from cocorrrec_export.modeling.gcn import GCN
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.scn import SCN
from cocorrrec_export.modeling.ttt import Correction, StreamState
from cocorrrec_export.modeling.vector import VectorAnswer, VectorCloud

Answer = Correction | VectorAnswer
"""What the cloud sends: the two kernels, or one vector."""


class CoCorrRec(Ranker):
    """SCN and, where the model has one, a cloud model: the paper's GCN or a network that answers with a vector."""

    gcn: GCN | VectorCloud | None
    streams = True

    def __init__(self, *, scn: SCN, gcn: GCN | VectorCloud | None) -> None:
        super().__init__()
        self.scn = scn
        self.gcn = gcn

    @property
    def item_embedding(self) -> nn.Embedding:  # type: ignore[override]
        """The table, which the SCN holds."""
        return self.scn.item_embedding

    def initialize(self, *, std: float, generator: torch.Generator | None) -> None:
        """The item side starts by Xavier's rule, the inner model like a layer."""
        for layer in self.scn.item_mlp:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)
        self.scn.ttt.W1.normal_(0.0, std, generator=generator)
        self.scn.ttt.lr_weight.normal_(0.0, std, generator=generator)
        if isinstance(self.gcn, VectorCloud):
            self.gcn.initialize(std=std, generator=generator)

    def answer(self, ids: Tensor, memory: Tensor | None = None) -> Answer | None:
        """What the cloud answers after ``ids [B, L]``; None in a model without a cloud model.

        ``memory [B, L_cloud]`` is what a cloud that answers with a vector reads, the clicks of ``ids`` and older ones;
        without it, it reads ``ids`` alone.
        """
        if isinstance(self.gcn, VectorCloud):
            clicks = ids if memory is None else memory
            return VectorAnswer(self.gcn(clicks, self.item_embedding(clicks)))
        return self.correction(self.scn.encode(ids))

    def fuse(self, ids: Tensor, answer: Answer | None) -> Tensor:
        """The user state ``[B, D]`` after ``ids [B, L]``, with the cloud's answer or without one."""
        return self._fuse_rows(ids, self.scn.encode(ids), answer)

    def _fuse_rows(self, ids: Tensor, H: Tensor, answer: Answer | None) -> Tensor:
        if isinstance(answer, VectorAnswer):
            return self.scn.user_state(ids, H) + answer.vector
        return self.scn.user_state(ids, H, answer)

    def user_state(self, ids: Tensor, *, corrected: bool = True, memory: Tensor | None = None) -> Tensor:
        """The user after ``ids [B, L]``; ``memory`` as in :meth:`answer`."""
        return self.fuse(ids, self.answer(ids, memory) if corrected else None)

    def correction(self, H: Tensor) -> Correction | None:
        """What the paper's GCN answers to the upload ``H [B, L, D]``; None in a model without one."""
        return self.gcn(H) if isinstance(self.gcn, GCN) else None

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:
        """The user state ``[B, D]``."""
        H = self.scn.encode_rows(clicks)
        if isinstance(self.gcn, VectorCloud):
            return self._fuse_rows(ids, H, VectorAnswer(self.gcn(ids, clicks)) if corrected else None)
        return self.scn.user_state(ids, H, self.correction(H) if corrected else None)

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The state after each click, ``[B, L, D]``; a vector of the cloud has no part in it."""
        H = self.scn.encode_rows(clicks)
        return self.scn.every_position(H, self.correction(H) if corrected else None)

    def states(self, ids: Tensor, clicks: Tensor) -> Tensor:  # noqa: ARG002
        """The user after each click, ``[B, L, D]``, without a correction.

        Raises:
            UsageError: the model has a GCN, whose answer depends on all clicks of the upload.
        """
        if isinstance(self.gcn, GCN):
            raise UsageError(
                "correction 'kernel' is computed from the whole upload, so that an earlier click's state would hold "
                "later clicks: use positions 'last', or correction 'vector' or 'none'"
            )
        return self.scn.user_dropout(self.scn.every_position(self.scn.encode_rows(clicks)))

    def item_side(self, rows: Tensor) -> Tensor:
        """Two layers, or none."""
        return self.scn.item_mlp(rows)

    def start_stream(self, batch: int) -> StreamState:
        """The SCN's streaming state before the first click; the correction has no part in it."""
        return self.scn.start_stream(batch)

    def step(self, items: Tensor, state: StreamState) -> tuple[StreamState, Tensor]:
        """Read one click ``items [B]``: the next state and the user state ``[B, D]``."""
        return self.scn.step(items, state)
