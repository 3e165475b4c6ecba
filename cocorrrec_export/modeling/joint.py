"""The joint model: the phone's network and the cloud's, as they are trained together."""

from torch import Tensor, nn

from cocorrrec_export.modeling.gcn import GCN
from cocorrrec_export.modeling.scn import SCN
from cocorrrec_export.modeling.ttt import Correction


class CoCorrRec(nn.Module):
    """SCN and, where the model has one, GCN."""

    def __init__(self, *, scn: SCN, gcn: GCN | None) -> None:
        super().__init__()
        self.scn = scn
        self.gcn = gcn

    def correction(self, H: Tensor) -> Correction | None:
        """What the cloud answers to the upload ``H [B, L, D]``; None in a model without a GCN."""
        return None if self.gcn is None else self.gcn(H)

    def user_state(self, ids: Tensor, *, corrected: bool = True) -> Tensor:
        """The user state ``[B, D]`` after ``ids [B, L]``, with the cloud's correction unless told otherwise."""
        return self.read(ids, self.scn.encode(ids), corrected=corrected)

    def read(self, ids: Tensor, H: Tensor, *, corrected: bool = True) -> Tensor:
        """The same from the clicks' encoding ``H [B, L, D]``."""
        return self.scn.user_state(ids, H, self.correction(H) if corrected else None)

    def forward(self, ids: Tensor, candidates: Tensor, *, corrected: bool = True) -> Tensor:
        """Logits ``[B, C]`` of ``candidates [B, C]``; each history's state is computed once for all of them."""
        return self.scn.score(self.user_state(ids, corrected=corrected), candidates)
