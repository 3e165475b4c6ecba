"""The joint model: the phone's network and the cloud's, as they are trained together."""

import torch
from torch import Tensor, nn

from cocorrrec_export.modeling.gcn import GCN
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.scn import SCN
from cocorrrec_export.modeling.ttt import Correction, StreamState


class CoCorrRec(Ranker):
    """SCN and, where the model has one, GCN."""

    gcn: GCN | None
    streams = True

    def __init__(self, *, scn: SCN, gcn: GCN | None) -> None:
        super().__init__()
        self.scn = scn
        self.gcn = gcn

    @property
    def item_embedding(self) -> nn.Embedding:  # type: ignore[override]
        """The table, which the SCN holds."""
        return self.scn.item_embedding

    def initialise(self, *, std: float, generator: torch.Generator | None) -> None:
        """The item side starts by Xavier's rule, the inner model like a layer."""
        for layer in self.scn.item_mlp:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)
        self.scn.ttt.W1.normal_(0.0, std, generator=generator)
        self.scn.ttt.lr_weight.normal_(0.0, std, generator=generator)

    def correction(self, H: Tensor) -> Correction | None:
        """What the cloud answers to the upload ``H [B, L, D]``; None in a model without a GCN."""
        return None if self.gcn is None else self.gcn(H)

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:
        """The user state ``[B, D]``."""
        H = self.scn.encode_rows(clicks)
        return self.scn.user_state(ids, H, self.correction(H) if corrected else None)

    def every_position(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The state after each click, ``[B, L, D]``."""
        H = self.scn.encode_rows(clicks)
        return self.scn.every_position(H, self.correction(H) if corrected else None)

    def item_side(self, rows: Tensor) -> Tensor:
        """Two layers."""
        return self.scn.item_mlp(rows)

    def start_stream(self, batch: int) -> StreamState:
        """The SCN's streaming state before the first click; the correction has no part in it."""
        return self.scn.start_stream(batch)

    def step(self, items: Tensor, state: StreamState) -> tuple[StreamState, Tensor]:
        """Read one click ``items [B]``: the next state and the user state ``[B, D]``."""
        return self.scn.step(items, state)
