"""What every architecture's export graph is put together from.

A export graph is a model in operators that every exporter lowers well, for one user at a time; tests hold it equal to
the plain model. Heads are the batch of a matrix product; a position is picked by a one-hot row; a mean is a product
with a constant row. Letters: L clicks, C candidates, D features, h heads, f = D / h.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from cocorrrec_export.errors import UsageError
from cocorrrec_export.forms.quantizer import Codes
from cocorrrec_export.forms.weights import CodedTable, Table, make_projection, make_table
from cocorrrec_export.modeling.baselines.transformer import DeviationNorm
from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.ranker import Ranker

OUT = -1e4
"""The logit of what must not count: nothing, after a softmax or a sigmoid, and float16 has it."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How weights are kept."""

    embedding: str = "fp32"
    """Precision of the item tables, as in a recipe."""
    linear: str = "fp32"
    """Precision of the projections, as in a recipe."""
    item_side: str = "computed"
    """In the graph, or ``"folded"`` into a second table."""
    half_as_bits: bool = False
    """Keep float16 tables as int16, for a runtime that looks up no float16 rows."""
    int8_by_operator: bool = False
    """As in a row of ``targets.py``."""
    products_by_sum: bool = False
    """As there."""
    codes: Codes | None = None
    """Of the model's table in product quantization; None fits them."""

    def table(self, weight: Tensor, codes: Codes | None = None) -> Table:
        """An item table."""
        return make_table(
            weight, self.embedding, as_bits=self.half_as_bits, by_operator=self.int8_by_operator, codes=codes
        )

    def bias_table(self, bias: Tensor) -> Table:
        """A number per item."""
        return make_table(bias.unsqueeze(1), "fp32" if self.embedding == "fp32" else "fp16", as_bits=self.half_as_bits)

    def projection(self, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
        """A matrix and a bias."""
        return make_projection(weight, bias, self.linear)

    def layers(self, layers: Sequence[nn.Module]) -> nn.Sequential:
        """Layers of a plain model, each matrix a projection."""
        return nn.Sequential(*(self._layer(layer) for layer in layers))

    def _layer(self, layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.Linear):
            return self.projection(layer.weight, layer.bias)
        if isinstance(layer, (nn.LayerNorm, DeviationNorm)):
            return make_norm(layer)
        if isinstance(layer, nn.SiLU):
            return Swish()
        return TanhGELU() if isinstance(layer, nn.GELU) and layer.approximate == "tanh" else layer


def constant(module: nn.Module, name: str, value: Tensor) -> None:
    """Keep ``value`` as a buffer of its own."""
    module.register_buffer(name, value.detach().clone().contiguous())


def leading(x: Tensor, rows: int) -> Tensor:
    """The first rows of ``x``."""
    # A slice of the full range becomes an alias, which one converter does not know.
    return x if rows == x.shape[0] else x[:rows]


def leading_columns(x: Tensor, columns: int) -> Tensor:
    """The first columns of ``x``."""
    return x if columns == x.shape[1] else x[:, :columns]


def pick(here: Tensor, x: Tensor) -> Tensor:
    """The row ``[1, n]`` of ``x [L, n]`` that the one-hot row ``here [1, L]`` says; with several ones, their sum."""
    return torch.mm(here, x)


def product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product of two values; one backend takes it as a batch of one alone."""
    rows, inner, columns = *a.shape, b.shape[1]
    return torch.bmm(a.view(1, rows, inner), b.view(1, inner, columns)).view(rows, columns)


def later(length: int) -> Tensor:
    """``[s, r]``, 1 where place r comes after place s."""
    return torch.ones(length, length).triu(1)


class TanhGELU(nn.Module):
    """``x / 2 (1 + tanh(z))`` is ``x sigmoid(2 z)``; one backend takes either GELU for the exact one."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return x * torch.sigmoid((2 * math.sqrt(2 / math.pi)) * (x + 0.044715 * (x * x * x)))


class Swish(nn.Module):
    """``x sigmoid(x)``, in two operators that every backend has."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return x * torch.sigmoid(x)


class Mean(nn.Module):
    """Mean over the last dimension as a product with a constant matrix, ``[..., n]`` to ``[..., outputs]``.

    Args:
        size: n.
        outputs: how often the mean is written. A short row is so met by values as many as its own, which takes backends
            less time than one for all of them.
        divisor: what the sum is divided by, n by default.
        plus: added to the mean; as the product's bias, since one converter stumbles over a number added to a product.
    """

    def __init__(self, size: int, *, outputs: int = 1, divisor: int | None = None, plus: float = 0.0) -> None:
        super().__init__()
        constant(self, "weight", torch.full((outputs, size), 1.0 / (size if divisor is None else divisor)))
        self.register_buffer("bias", torch.full((outputs,), plus) if plus else None)

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """``[..., n]`` to ``[..., outputs]``."""
        return nn.functional.linear(x, self.weight, self.bias)


class DeviceLayerNorm(nn.Module):
    """:class:`torch.nn.LayerNorm` with means as products."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        (size,) = norm.normalized_shape
        constant(self, "weight", norm.weight)
        constant(self, "bias", norm.bias)
        self.mean = Mean(size)
        self.mean_plus_eps = Mean(size, plus=norm.eps)

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """``[n, size]`` to the same shape."""
        centred = x - self.mean(x)
        # A quotient, which is float32 in every program: the reciprocal for a row of zeros may be beyond float16.
        return self.weight * (centred / torch.sqrt(self.mean_plus_eps(centred * centred))) + self.bias


class DeviceDeviationNorm(nn.Module):
    """:class:`DeviationNorm` with means as products."""

    def __init__(self, norm: DeviationNorm) -> None:
        super().__init__()
        size = norm.weight.shape[0]
        constant(self, "weight", norm.weight)
        constant(self, "bias", norm.bias)
        self.mean = Mean(size)
        self.variance = Mean(size, divisor=size - 1, plus=1e-12)
        self.eps = norm.eps

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """``[n, size]`` to the same shape."""
        centred = x - self.mean(x)
        return self.weight * (centred / (torch.sqrt(self.variance(centred * centred)) + self.eps)) + self.bias


def make_norm(norm: nn.Module) -> nn.Module:
    """The export graph of a plain model's norm."""
    return DeviceDeviationNorm(norm) if isinstance(norm, DeviationNorm) else DeviceLayerNorm(cast(nn.LayerNorm, norm))


def _user_side(layers: list[nn.Module], rotation: Tensor | None, storage: Storage) -> nn.Module | None:
    """What the user is multiplied by instead of every candidate: the item side's last matrix, which leaves ``layers``.

    With ``h`` before the last layer, ``(W h + b) . u = h . (W^T u) + b . u``. Where nothing is left that could take up
    the rotation of the candidates' rows, the user takes it too.
    """
    matrix, bias = None, None
    if layers and isinstance(layers[-1], nn.Linear):
        last = layers.pop()
        assert isinstance(last, nn.Linear)
        matrix, bias = last.weight.detach().T, last.bias
    if rotation is not None and not layers:
        matrix = rotation if matrix is None else rotation @ matrix
    if matrix is None:
        return None
    return storage.projection(matrix if bias is None else torch.cat((matrix, bias.detach().unsqueeze(0))))


def _rotated(layer: nn.Linear, rotation: Tensor) -> nn.Linear:
    """The layer for rows ``x`` that stand for ``x rotation``."""
    outputs, inputs = layer.weight.shape
    made = nn.Linear(inputs, outputs, bias=layer.bias is not None)
    with torch.no_grad():
        made.weight.copy_(layer.weight @ rotation.T)
        if layer.bias is not None:
            made.bias.copy_(layer.bias)
    return made


class ItemRows(NamedTuple):
    """Items as a table has them: what a score is made of next to the user."""

    values: Tensor  # [C, D]
    scale: Tensor | None = None  # [C, 1] what the values are still to be multiplied by
    bias: Tensor | None = None  # [C, 1] what is added to the logit
    others: int = 0  # rows ahead of the C, of values and scale alone: they are scored too, which costs less than a copy


class DeviceRanker(nn.Module):
    """The item tables, and the score of an item.

    A subclass has ``read``, with a state of constant size ``step``, and where a score is not a product ``score_rows``;
    ``graphs`` makes entry points of them.

    Args:
        model: the plain model, in evaluation mode.
        item_layers: its item side, from an item's row to its vector; empty where the row is the vector.
        sequence_length: L.
        storage: how weights are kept.
        places: of the row that says which click is the last, where those are more than L.

    Raises:
        UsageError: an item side is to be folded that does nothing.
        ValueError: the model is in training mode.
    """

    def __init__(
        self,
        model: Ranker,
        item_layers: Sequence[nn.Module],
        *,
        sequence_length: int,
        storage: Storage,
        places: int | None = None,
    ) -> None:
        super().__init__()
        if model.training:
            raise ValueError("the model is in training mode: call eval() before exporting it")
        if storage.item_side == "folded" and not item_layers:
            raise UsageError(
                f"item_side 'folded' is for an item side with layers: {model.architecture} scores with the item's "
                "own row, so use 'computed'"
            )
        self.hidden = model.item_embedding.embedding_dim
        self.by_sum = storage.products_by_sum
        self.table = storage.table(model.item_embedding.weight, storage.codes)
        self.item_table: Table | None = None
        if storage.item_side == "folded":
            with torch.no_grad():
                folded = model.item_side(model.item_embedding.weight)
            self.item_table = storage.table(folded)
        bias = getattr(model, "item_bias", None)
        self.bias_table = None if bias is None else storage.bias_table(bias)
        layers = list(item_layers) if self.item_table is None else []
        rotation = self.source.rotation if isinstance(self.source, CodedTable) else None
        by_product = type(self).score_rows is DeviceRanker.score_rows
        self.user_side = _user_side(layers, rotation, storage) if by_product else None
        if rotation is not None and layers and isinstance(layers[0], nn.Linear):
            layers[0] = _rotated(layers[0], rotation)
        late_rotation = by_product if not layers else isinstance(layers[0], nn.Linear)
        # A logit is scaled in place of a row's every feature, unless a layer in between needs the row itself.
        self.unfinished = late_rotation if rotation is not None else by_product and not layers
        # Whether a score is the product with a row of codes, and so a sum over its codes.
        self.sums_codes = rotation is not None and self.unfinished and not layers and self.bias_table is None
        self.item_mlp = storage.layers(layers)
        self.items = model.item_embedding.num_embeddings - 1
        count = sequence_length if places is None else places
        constant(self, "each_click", torch.ones(1, sequence_length))
        constant(self, "before_last", torch.tensor([-1.0]))
        constant(self, "place_row", torch.arange(count, dtype=torch.float32).unsqueeze(0))  # [1, places]

    each_click: Tensor
    before_last: Tensor
    place_row: Tensor

    def read(self, ids: Tensor, rows: Tensor) -> Any:
        """The user after ``ids [1, L]`` with rows ``[L, D]`` of the table: ``[1, D]``, or what ``score_rows`` takes."""
        raise NotImplementedError

    def step(self, row: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Read one click, its row of the table ``[1, D]``: the next state, and the user ``[1, D]``."""
        raise NotImplementedError

    def counterpart(self, user: Tensor) -> Tensor:
        """What items are multiplied by: ``[1, n]``, or ``[1, n + 1]`` with what is added to every item's logit."""
        return user if self.user_side is None else cast(Tensor, self.user_side(user))

    def products(self, user: Tensor, rows: ItemRows) -> Tensor:
        """Logits ``[1, C]`` of a :meth:`counterpart` and rows ``[others + C, n]``, without their bias."""
        count, size = rows.values.shape
        features = leading_columns(user, size)
        if self.by_sum:
            logits = (rows.values * features).sum(dim=1).view(1, count)
        else:
            # As weights rows cost less than as the other side of a product. Straight behind the operator that makes
            # float32 of them, ExecuTorch would take them for constants.
            logits = nn.functional.linear(features, rows.values.view(1, count * size).view(count, size))
        logits = logits if rows.scale is None else logits * rows.scale.view(1, count)
        logits = logits[:, rows.others :] if rows.others else logits
        return logits if user.shape[1] == size else logits + user[:, size:]

    def score_rows(self, user: Any, rows: ItemRows) -> Tensor:
        """Logits ``[1, C]`` of the candidates' rows ``[C, D]`` of the item table."""
        return self.score_with(self.counterpart(user), rows)

    def score_with(self, user: Tensor, rows: ItemRows) -> Tensor:
        """:meth:`score_rows` from the user's :meth:`counterpart`, which many rows may share."""
        # A scale is left only where no layer is between.
        logits = self.products(user, rows._replace(values=self.item_mlp(rows.values)))
        return logits if rows.bias is None else logits + rows.bias.view(1, logits.shape[1])

    def look_up(self, ids: Tensor, candidates: Tensor) -> tuple[Tensor, ItemRows]:
        """Rows of the clicks ``ids [1, L]`` and of the candidates ``[1, C]``, one look-up where they share a table."""
        length, count = ids.shape[1], candidates.shape[1]
        if self.item_table is not None:
            return self.table(ids.view(length)), self.candidate_rows(candidates)
        values, scale = self.table.parts(torch.cat((ids, candidates), dim=1).view(length + count))
        clicks = self.table.finish(values[:length], None if scale is None else scale[:length])
        if self.unfinished and len(self.item_mlp) == 0:
            return clicks, self._of_candidates(values, scale, candidates)._replace(others=length)
        rows = self._of_candidates(values[length:], None if scale is None else scale[length:], candidates)
        return clicks, rows

    def candidate_rows(self, candidates: Tensor) -> ItemRows:
        """Rows of the candidates ``[1, C]`` alone."""
        return self._of_candidates(*self.source.parts(candidates.view(candidates.shape[1])), candidates)

    def _of_candidates(self, values: Tensor, scale: Tensor | None, candidates: Tensor) -> ItemRows:
        if not self.unfinished:
            values, scale = self.source.finish(values, scale), None
        elif scale is not None and len(self.item_mlp):  # whose first layer takes up the rotation alone
            values, scale = values * scale, None
        bias = None if self.bias_table is None else self.bias_table(candidates.view(candidates.shape[1]))
        return ItemRows(values, scale, bias)

    @property
    def source(self) -> Table:
        """The table of the candidates."""
        return self.table if self.item_table is None else self.item_table

    def last_click(self, ids: Tensor) -> Tensor:
        """Row ``[1, places]`` with a 1 at the last click of ``ids [1, L]``: at 0 in an empty history.

        In float32: no backend has the count and the comparison of integers.
        """
        last = nn.functional.linear(ids.to(torch.float32).clamp(max=1.0), self.each_click, self.before_last)
        # Backends put a relu into the operator before it.
        return torch.relu(1.0 - (torch.relu(last) - self.place_row).abs())

    def click_count(self, ids: Tensor) -> Tensor:
        """How many clicks ``ids [1, L]`` holds, ``[1, 1]`` int32."""
        return (ids != PADDING_ID).to(torch.int32).sum(dim=1, keepdim=True, dtype=torch.int32)
