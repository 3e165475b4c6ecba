"""What updates the weights: AdamW, and for the item table forms of it that touch the rows of the batch alone.

A dense optimizer zeroes, reads and writes the whole table and its moments at every step, so that a step of a large
catalog is spent on rows that no click of the batch names. Those here cost the same for every number of items.
"""

# Whole rows are read by index_select, which copies a row at a time: brackets walk over single values, and take four to
# ten times as long.

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.ranks import Ranks

_BETAS = (0.9, 0.999)
_EPS = 1e-8
_TAIL = 256
"""Steps after which nothing is left of a first moment: 0.9 to this power is 2e-12."""
_BLOCK = 65_536
"""Rows that :meth:`LazyAdamW.flush` brings up to date at once."""


class RowOptimizer(Optimizer):
    """An optimizer of one table ``[V, D]`` whose gradient is a sparse tensor of some rows, or dense.

    Args:
        table: the parameter.
        lr: learning rate.
        weight_decay: as AdamW's: taken off the weights, not added to the gradient.
    """

    def __init__(self, table: Tensor, *, lr: float, weight_decay: float) -> None:
        super().__init__([table], {"lr": lr, "weight_decay": weight_decay})
        self.table = table
        self.average: Tensor | None = None
        """Running average of the table, kept by row; see :meth:`follow`."""
        self._average_decay = 0.0
        # float32 counts to 2^24 steps, and is what loading makes of every state.
        self.state[table] = {"step": torch.zeros(()), "averaged": torch.zeros(len(table), device=table.device)}
        self.state[table] |= self.start(table)

    def start(self, table: Tensor) -> dict[str, Tensor]:
        """The state before the first step."""
        raise NotImplementedError

    def update(self, rows: Tensor, gradient: Tensor, *, lr: float, weight_decay: float) -> None:
        """One step of the rows ``[n]``, each once, with gradients ``[n, D]``."""
        raise NotImplementedError

    def bring(self, rows: Tensor) -> None:
        """Bring the rows ``[n]``, each once, to where they are read at this step."""

    def follow(self, average: Tensor, decay: float, *, new: bool) -> None:
        """Keep ``average [V, D]`` as the running average of the table; ``new``: it is the table as it is now."""
        self.average, self._average_decay = average, decay
        if new:
            self.state[self.table]["averaged"].fill_(float(self.state[self.table]["step"]))

    @torch.no_grad()
    def catch_up(self, rows: Tensor) -> None:
        """Bring the rows ``[n]``, each once, and their average to where they are read at this step."""
        self.bring(rows)
        self._average(rows)

    def flush(self) -> None:
        """Bring every row there."""
        for start in range(0, len(self.table), _BLOCK):
            rows = torch.arange(start, min(start + _BLOCK, len(self.table)), device=self.table.device)
            self.catch_up(rows)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no step here reads the loss
        """Update the rows that have a gradient."""
        assert closure is None
        gradient, group = self.table.grad, self.param_groups[0]
        if gradient is None:
            return
        if gradient.is_sparse:
            rows, values = gradient._indices()[0], gradient._values()
        else:
            rows, values = torch.arange(len(gradient), device=gradient.device), gradient
        self.state[self.table]["step"] += 1
        self.update(rows, values, lr=group["lr"], weight_decay=group["weight_decay"])
        self._average(rows)

    def _average(self, rows: Tensor) -> None:
        """Make up for the steps since the average of the rows was last kept: they had today's weights then."""
        if self.average is None:
            return
        state = self.state[self.table]
        kept = torch.pow(self._average_decay, state["step"].to(self.table.device) - state["averaged"][rows])
        before = self.average.index_select(0, rows)
        self.average[rows] = torch.lerp(self.table.detach().index_select(0, rows), before, kept.unsqueeze(1))
        state["averaged"][rows] = float(state["step"])


class RowwiseAdagrad(RowOptimizer):
    """Adagrad with one sum of squares a row, the mean over its features: four bytes of state a row."""

    def start(self, table: Tensor) -> dict[str, Tensor]:
        """``sum [V]``."""
        return {"sum": torch.zeros(len(table), device=table.device)}

    def update(self, rows: Tensor, gradient: Tensor, *, lr: float, weight_decay: float) -> None:
        """One step of the rows; the weight decay is that of rows with a gradient alone."""
        total = self.state[self.table]["sum"]
        new = total[rows] + gradient.square().mean(dim=1)
        total[rows] = new
        moved = gradient / (new.sqrt() + _EPS).unsqueeze(1)
        self.table[rows] = self.table.index_select(0, rows) * (1.0 - lr * weight_decay) - lr * moved


class LazyAdamW(RowOptimizer):
    """AdamW of a table, each row brought up to date when it is read.

    Under AdamW a row without a gradient moves all the same, by what is left of its first moment and by the weight
    decay; under plain lazy Adam it does not, and learns less for it. Nobody sees that movement before the row is read
    again, so it is made up for then: k steps without a gradient multiply the moments by powers, and move the weights by
    a sum of ``lr m (b1 / sqrt(b2))^j / sqrt(v)`` that is the same for all rows with the same k but for ``m`` and ``v``.
    The result is AdamW's, within the rounding of float32 and of ``eps``.
    """

    def start(self, table: Tensor) -> dict[str, Tensor]:
        """Moments ``[V, D]``; of each row the last step and the logarithm of all weight decay until then, ``[V]``."""
        rows = len(table)
        return {
            "exp_avg": torch.zeros_like(table),
            "exp_avg_sq": torch.zeros_like(table),
            "last": torch.zeros(rows, device=table.device),
            "decayed": torch.zeros(rows, device=table.device),
            "decay": torch.zeros((), device=table.device),
            # [g]: by how much of m / sqrt(v) a row moved over the last g steps, had it no gradient in them.
            "tail": torch.zeros(_TAIL + 1, device=table.device),
            # [s]: the same of the _TAIL steps after step s since the last flush, which is all that a longer gap moved.
            "settled": torch.zeros(1, device=table.device),
            "flushed": torch.zeros(()),
        }

    def bring(self, rows: Tensor) -> None:
        """Bring the rows ``[n]``, each once, to where AdamW has them before this step."""
        state, table = self.state[self.table], self.table
        behind = state["step"].to(table.device) - state["last"][rows]
        rows, gap = rows[behind > 0], behind[behind > 0]
        if not len(rows):
            return
        kept = torch.exp(state["decay"] - state["decayed"][rows]).unsqueeze(1)
        values = table.index_select(0, rows) * kept
        # A row that never had a gradient has moments of 0, whose memory is not touched before it has one.
        updated = state["last"][rows] > 0
        values[updated] -= self._travel(rows[updated], gap[updated])
        table[rows] = values
        state["decayed"][rows] = state["decay"]

    def _travel(self, rows: Tensor, gap: Tensor) -> Tensor:
        """How far the rows ``[n]`` moved in ``gap [n]`` steps without a gradient; their moments are kept as of now."""
        state = self.state[self.table]
        mean, square = state["exp_avg"].index_select(0, rows), state["exp_avg_sq"].index_select(0, rows)
        since = state["last"][rows] - state["flushed"].to(self.table.device)
        settled = state["settled"][since.clamp(max=len(state["settled"]) - 1).long()]
        travel = torch.where(gap > _TAIL, settled, state["tail"][gap.clamp(max=_TAIL).long()])
        state["exp_avg"][rows] = mean * torch.pow(_BETAS[0], gap).unsqueeze(1)
        state["exp_avg_sq"][rows] = square * torch.pow(_BETAS[1], gap).unsqueeze(1)
        state["last"][rows] = state["step"].to(self.table.device)
        return travel.unsqueeze(1) * mean / (square.sqrt() + _EPS)

    def update(self, rows: Tensor, gradient: Tensor, *, lr: float, weight_decay: float) -> None:
        """One step of the rows, which were brought to it."""
        state, table, (b1, b2) = self.state[self.table], self.table, _BETAS
        step = float(state["step"])
        rate, correction = lr / (1.0 - b1**step), (1.0 - b2**step) ** 0.5
        self._remember(rate * correction, lr * weight_decay)
        mean = state["exp_avg"].index_select(0, rows).lerp_(gradient, 1.0 - b1)
        square = state["exp_avg_sq"].index_select(0, rows).mul_(b2).addcmul_(gradient, gradient, value=1.0 - b2)
        moved = rate * mean / (square.sqrt() / correction + _EPS)
        table[rows] = table.index_select(0, rows) * (1.0 - lr * weight_decay) - moved
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        state["last"][rows] = step
        state["decayed"][rows] = state["decay"]

    def _remember(self, rate: float, decay: float) -> None:
        """Take this step into what rows without a gradient are to make up for."""
        state, (b1, b2) = self.state[self.table], _BETAS
        gaps = torch.arange(_TAIL + 1, device=self.table.device)
        before = state["tail"].roll(1)
        before[0] = 0.0
        state["tail"] = before + (gaps > 0) * rate * torch.pow(b1 / b2**0.5, gaps)
        state["decay"] += math.log1p(-decay)
        since = int(state["step"] - state["flushed"]) - _TAIL
        if since >= 0:
            if since >= len(state["settled"]):
                state["settled"] = torch.cat((state["settled"], torch.zeros_like(state["settled"])))
            state["settled"][since] = state["tail"][_TAIL]

    def flush(self) -> None:
        """Bring every row to where AdamW has it now."""
        super().flush()
        state = self.state[self.table]
        state["flushed"], state["settled"] = state["step"].clone(), torch.zeros_like(state["settled"][:1])


_ROW_OPTIMIZERS = {"lazy_adamw": LazyAdamW, "rowwise_adagrad": RowwiseAdagrad}


class Optimizers:
    """The optimizers of a model: one for the item table where it has its own, and AdamW for the rest.

    Args:
        model: with an ``item_embedding``; what does not require gradients is left alone.
        config: settings.
        every_row: each step gives every row of the table a gradient, so that AdamW costs no more than a lazy form.
    """

    def __init__(self, model: Ranker, config: TrainConfig, *, every_row: bool) -> None:
        table = model.item_embedding.weight
        name = "adamw" if every_row and config.table_optimizer == "lazy_adamw" else config.table_optimizer
        self.table: RowOptimizer | None = None
        if name != "adamw" and table.requires_grad:
            rate = config.table_learning_rate or config.learning_rate
            self.table = _ROW_OPTIMIZERS[name](table, lr=rate, weight_decay=config.weight_decay)
        self._table_name = next((name for name, x in model.named_parameters() if x is table), "")
        parameters = [x for x in model.parameters() if x.requires_grad]
        if self.table is not None:
            parameters = [x for x in parameters if x is not table]
        self._dense = torch.optim.AdamW(
            parameters, lr=config.learning_rate, betas=_BETAS, eps=_EPS, fused=True, weight_decay=config.weight_decay
        )
        for optimizer in self:
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]

    def __iter__(self) -> Iterator[Optimizer]:
        """Each of them."""
        yield self._dense
        if self.table is not None:
            yield self.table

    def scale_learning_rates(self, factor: float) -> None:
        """Use ``factor`` times the learning rates of the config."""
        for optimizer in self:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def zero_grad(self) -> None:
        """Forget the gradients; dense ones stay allocated."""
        self._dense.zero_grad(set_to_none=False)
        if self.table is not None:
            self.table.zero_grad()

    def step(self) -> None:
        """Update the weights."""
        for optimizer in self:
            optimizer.step()

    def keep_averages(self, averages: dict[str, Tensor], decay: float) -> None:
        """Continue with averages that :meth:`average` made in an earlier process."""
        if self.table is not None and averages:
            self.table.follow(averages[self._table_name], decay, new=False)

    def average(self, weights: dict[str, Tensor], averages: dict[str, Tensor], decay: float) -> dict[str, Tensor]:
        """The running averages of ``weights`` after one more step; empty before the first."""
        if not averages:
            averages = {name: x.detach().clone() for name, x in weights.items()}
            if self.table is not None:
                self.table.follow(averages[self._table_name], decay, new=True)
            return averages
        for name, x in weights.items():
            if self.table is None or name != self._table_name:
                averages[name].lerp_(x, 1.0 - decay)
        return averages

    def flush(self) -> None:
        """Bring the whole table up to date: before it is evaluated or kept."""
        if self.table is not None:
            self.table.flush()


class TableRows:
    """The rows of the item table that a step reads, looked up outside the graph.

    The gradient of a look-up is as large as the table: allocating it, once for each look-up, takes longer than the
    whole network. So the rows are leaves of the graph, and their gradients are added into one that stays allocated,
    or, for an optimizer of rows, that has the batch's rows alone.

    Args:
        table: ``[V, D]``.
        lookup: ``[n]`` int64 items, repeats allowed.
        optimizer: the table's own, if it has one.
        every_row: the step reads the whole table too.
    """

    def __init__(
        self, table: Tensor, lookup: Tensor, optimizer: RowOptimizer | None, *, every_row: bool = False
    ) -> None:
        self._table, self._lookup, self._optimizer = table, lookup, optimizer
        if optimizer is not None:
            self._unique, self._inverse = lookup.unique(return_inverse=True)
            if every_row:
                optimizer.flush()
            else:
                optimizer.catch_up(self._unique)
        self.values = table.detach().index_select(0, lookup).requires_grad_(table.requires_grad)  # [n, D]

    def add_gradients(self, ranks: Ranks) -> None:
        """Add the gradients of ``values`` to the table's; the padding row gets none.

        Rows are summed over the processes, which must all have looked up the same; a dense gradient is not.
        """
        table, gradient = self._table, self.values.grad
        if gradient is None:
            return
        if self._optimizer is None or (table.grad is not None and not table.grad.is_sparse):
            if table.grad is None:
                table.grad = torch.zeros_like(table)
            table.grad.index_add_(0, self._lookup, gradient)
            table.grad[PADDING_ID].zero_()
            return
        values = gradient.new_zeros(len(self._unique), gradient.shape[1]).index_add_(0, self._inverse, gradient)
        ranks.sum(values)
        values[self._unique == PADDING_ID] = 0.0
        rows = torch.sparse_coo_tensor(
            self._unique.unsqueeze(0), values, table.shape, is_coalesced=True, check_invariants=False
        )
        table.grad = rows if table.grad is None else (table.grad + rows).coalesce()
