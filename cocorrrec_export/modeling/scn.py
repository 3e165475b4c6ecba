"""The self-correction network (SCN): what runs on the phone.

The order of calls::

    ids [B, L]                    the last clicks, right-padded with 0
      encode       ->  H [B, L, D]         embedding, dropout, RMSNorm; the upload of the kernel correction
      ttt.forward  ->  Y [B, D]            TTT-Linear: per mini-batch of K clicks, keys learn to predict values; the
                                           inner model's weights after the last click answer its query
      ttt.output   ->  O [B, D]            LayerNorm and projection
      output_norm  ->  user [B, D]         RMSNorm
      score        ->  logits [B, C]       dot product with the item side of the candidates

Read :class:`SCN` first, then :meth:`TTTLinear.forward` in ``ttt.py``, which goes through the mini-batches, and
:class:`CorrectionFusion` there, which mixes in what the cloud sent. ``gcn.py`` is the cloud model, ``joint.py`` the two
together. ``step`` reads one click at a time and gives the same user state.
"""

from torch import Tensor, nn

from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.layers import RMSNorm, pick_rows, tanh_layers
from cocorrrec_export.modeling.ranker import last_position
from cocorrrec_export.modeling.ttt import Correction, CorrectionFusion, StreamState, TTTLinear


class SCN(nn.Module):
    """Embeds clicks, reads them with TTT-Linear, and scores candidates against the user state.

    Args:
        vocab_size: V, the padding row included.
        hidden_size: D.
        ttt: the layer that reads the clicks.
        fusion: how the kernels of the cloud are mixed in; None in a model that takes none.
        item_layers: whether an item's row goes through two layers; else the row is its vector.
        residual: whether the last click is added to the layer's output before the norm that makes the user state.
        dropout: share of the embedded clicks' features dropped in training.
        user_dropout: whether as many of the user state's are dropped too.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        ttt: TTTLinear,
        fusion: CorrectionFusion | None = None,
        item_layers: bool = True,
        residual: bool = False,
        dropout: float = 0.0,
        user_dropout: bool = True,
    ) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(vocab_size, hidden_size, padding_idx=PADDING_ID)
        self.input_norm = RMSNorm(hidden_size)
        self.ttt = ttt
        self.fusion = fusion
        self.output_norm = RMSNorm(hidden_size)
        self.item_mlp = tanh_layers(hidden_size, 2 if item_layers else 0)
        self.residual = residual
        self.dropout = nn.Dropout(dropout)
        self.user_dropout = nn.Dropout(dropout if user_dropout else 0.0)

    def encode(self, ids: Tensor) -> Tensor:
        """Embed the clicks ``ids [B, L]``, 0 = padding: ``H [B, L, D]``, which is what the phone uploads."""
        return self.encode_rows(self.item_embedding(ids))

    def encode_rows(self, clicks: Tensor) -> Tensor:
        """The same from the clicks' rows of the table, ``[B, L, D]``."""
        return self.input_norm(self.dropout(clicks))

    def user_state(self, ids: Tensor, H: Tensor, correction: Correction | None = None) -> Tensor:
        """The state after the last click, ``[B, D]``, from ``ids [B, L]`` and their encoding ``H [B, L, D]``."""
        last = last_position(ids)
        Y = self.ttt(H, last, correction, self.fusion)
        return self.user_dropout(self.read_out(Y, pick_rows(H, last)))

    def read_out(self, Y: Tensor, H: Tensor) -> Tensor:
        """Merged heads ``Y [..., D]`` and the clicks ``H [..., D]`` that they answer at: user states ``[..., D]``."""
        x = self.ttt.output(Y)
        return self.output_norm(x + H if self.residual else x)

    def every_position(self, H: Tensor, correction: Correction | None = None) -> Tensor:
        """The state after each click, ``[B, L, D]``, from their encoding ``H [B, L, D]``.

        The plain form, as in the paper; a phone that needs the last position alone computes less.
        """
        return self.read_out(self.ttt.every_position(H, correction, self.fusion), H)

    def item_vectors(self, items: Tensor) -> Tensor:
        """The item side, ``items [...]`` to ``[..., D]``. It does not depend on the user."""
        return self.item_mlp(self.item_embedding(items))

    def score(self, user: Tensor, candidates: Tensor) -> Tensor:
        """Logits of ``candidates [B, C]`` for ``user [B, D]``: ``[B, C]``. Their sigmoid is the score."""
        return (self.item_vectors(candidates) @ user.unsqueeze(-1)).squeeze(-1)

    def forward(self, ids: Tensor, candidates: Tensor, correction: Correction | None = None) -> Tensor:
        """Logits ``[B, C]`` of ``candidates [B, C]`` after the clicks ``ids [B, L]``."""
        return self.score(self.user_state(ids, self.encode(ids), correction), candidates)

    def start_stream(self, batch: int) -> StreamState:
        """The streaming state before the first click."""
        return self.ttt.start_stream(batch)

    def step(self, items: Tensor, state: StreamState) -> tuple[StreamState, Tensor]:
        """Read one click ``items [B]``: the next state and the user state ``[B, D]``."""
        H = self.encode(items)
        state, Y = self.ttt.step(H, state)
        return state, self.read_out(Y, H)
