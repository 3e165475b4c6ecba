"""Attention over the clicks as an export graph, equal to the plain model, which tests hold it to.

Only the last click is read out: of the last block, what only other positions need is not computed.
"""

import torch
from torch import Tensor, nn

from cocorrrec_export.forms.attention import ClickMask, DeviceAttention, position_rows, visible_clicks
from cocorrrec_export.forms.frame import DeviceRanker, Storage, constant, later, make_norm, pick, product
from cocorrrec_export.modeling.baselines.transformer import Transformer, TransformerBlock
from cocorrrec_export.modeling.config import PADDING_ID


class DeviceBlock(nn.Module):
    """A block of every click, or of the last one alone."""

    def __init__(self, block: TransformerBlock, *, storage: Storage) -> None:
        super().__init__()
        self.norm_position = block.norm_position
        self.attention = DeviceAttention(block.attention, storage=storage)
        self.attention_norm = make_norm(block.attention_norm)
        self.ffn = storage.layers(list(block.ffn))
        self.ffn_norm = make_norm(block.ffn_norm)

    def forward(self, x: Tensor, mask: ClickMask | None, here: Tensor | None) -> Tensor:
        """``x [L, D]`` to the same shape, or at the one-hot row ``here [1, L]`` alone to ``[1, D]``."""
        own = x if here is None else pick(here, x)
        if self.norm_position == "post":
            y = self.attention_norm(own + self.attention(x, own, mask))
            out: Tensor = self.ffn_norm(y + self.ffn(y))
        elif self.norm_position == "pre":
            read = self.attention_norm(x)
            y = own + self.attention(read, read if here is None else pick(here, read), mask)
            out = y + self.ffn(self.ffn_norm(y))
        else:
            asking = self.attention_norm(own)
            y = self.ffn_norm(asking + self.attention(x, asking, mask))
            out = y + self.ffn(y)
        return out


class DeviceTransformer(DeviceRanker):
    """Every block over all clicks, but the last, which is read at the last click; only the positions read are kept."""

    def __init__(self, model: Transformer, *, sequence_length: int, storage: Storage) -> None:
        super().__init__(model, list(model.item_mlp), sequence_length=sequence_length, storage=storage)
        self.causal, self.padding, self.residual = model.causal, model.padding, model.residual
        self.from_end, self.scale = model.from_end, model.scale
        table = model.position_embedding
        if self.from_end:
            rows, columns = torch.arange(sequence_length), torch.arange(table.num_embeddings)
            constant(self, "positions", table.weight)  # [R, D]
            # Place p of n clicks has the row p + R - n; where that is row r, this is n.
            constant(self, "clicks_at", (rows[:, None] + table.num_embeddings - columns).to(torch.int32))  # [L, R]
        else:
            constant(self, "positions", position_rows(table, sequence_length))  # [L, D]
        constant(self, "earlier", 1.0 - later(sequence_length))  # [L, L], a click's own place included
        self.register_buffer("token", None)
        if model.mask_embedding is not None:
            constant(self, "token", model.mask_embedding.unsqueeze(0))  # [1, D]
        self.click_proj = (
            None if model.click_proj is None else storage.projection(model.click_proj.weight, model.click_proj.bias)
        )
        self.embedding_norm = None if model.embedding_norm is None else make_norm(model.embedding_norm)
        blocks = [block for block in model.blocks if isinstance(block, TransformerBlock)]
        self.blocks = nn.ModuleList(DeviceBlock(block, storage=storage) for block in blocks)
        self.user_mlp = storage.layers(list(model.user_mlp))

    positions: Tensor
    clicks_at: Tensor
    earlier: Tensor
    token: Tensor | None

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """User state ``[1, D]``."""
        length = ids.shape[1]
        here = self.last_click(ids)
        clicked = (ids != PADDING_ID).to(torch.float32)  # [1, L]
        x = rows if self.scale == 1.0 else rows * self.scale
        if self.token is not None:
            # The oldest click makes room; in an empty history the token is alone.
            clicked = clicked + here - clicked * here
            moved = self.token if length == 1 else torch.cat((x[1:], self.token), dim=0)
            is_last = here.view(length, 1)
            x = moved + is_last * (self.token * self.scale - moved)
        x = x + (self._positions_from_end(ids) if self.from_end else self.positions)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        if self.click_proj is not None:
            x = torch.tanh(self.click_proj(x))
        user: Tensor = self.user_mlp(self._through_blocks(x, clicked, here))
        return user + pick(here, rows) if self.residual else user

    def _positions_from_end(self, ids: Tensor) -> Tensor:
        return product((self.clicks_at == self.click_count(ids)).to(torch.float32), self.positions)

    def _through_blocks(self, x: Tensor, clicked: Tensor, here: Tensor) -> Tensor:
        column = clicked.view(clicked.shape[1], 1)
        visible = self.padding != "masked"
        for index, block in enumerate(self.blocks):
            if self.padding == "zeroed":
                x = x * column
            is_last = index + 1 == len(self.blocks)
            earlier = self.earlier if self.causal and not is_last else None
            x = block(x, visible_clicks(clicked, earlier, padding=visible), here if is_last else None)
        return x
