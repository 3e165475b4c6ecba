"""The table's optimizers: a lazy one gives what the dense one does, and a step touches the rows of its batch alone."""

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.errors import UsageError
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.training import loop
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.optimizers import LazyAdamW, Optimizers, RowOptimizer, RowwiseAdagrad, TableRows
from cocorrrec_export.training.ranks import Ranks
from cocorrrec_export.training.recipes import read_settings
from tests.training.test_training import ITEMS, new_model, some_examples, training_data

ROWS, SIZE, STEPS = 90, 6, 700


def table() -> nn.Parameter:
    weight = torch.randn(ROWS, SIZE, generator=torch.Generator().manual_seed(3))
    weight[0] = 0.0
    return nn.Parameter(weight)


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Items of a step, some twice and some padding, and their gradients; from step 300 on, a third of the items."""
    generator = torch.Generator().manual_seed(step)
    lookup = torch.randint(0, ROWS if step < 300 else ROWS // 3, (7,), generator=generator)
    return lookup, torch.randn(7, SIZE, generator=generator) * 10.0 ** (step % 4 - 2)


def take_step(weight: nn.Parameter, optimizer: RowOptimizer, step: int) -> Tensor:
    """Train on the batch of a step; what was read."""
    lookup, gradient = batch(step)
    rows = TableRows(weight, lookup, optimizer)
    (rows.values * gradient).sum().backward()
    rows.add_gradients(Ranks())
    optimizer.step()
    optimizer.zero_grad()
    return rows.values.detach()


def test_lazy_adamw_is_adamw_at_every_read_and_after_a_flush() -> None:
    lazily, densely = table(), table()
    lazy = LazyAdamW(lazily, lr=0.01, weight_decay=0.05)
    dense = torch.optim.AdamW([densely], lr=0.01, weight_decay=0.05)
    before = densely.detach().clone()
    for step in range(STEPS):
        for optimizer in (lazy, dense):
            optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / (2 * STEPS))
        lookup, gradient = batch(step)
        expected = densely.detach()[lookup].clone()
        densely.grad = torch.zeros_like(densely).index_add_(0, lookup, gradient)
        densely.grad[0] = 0.0
        dense.step()
        torch.testing.assert_close(take_step(lazily, lazy, step), expected, rtol=0, atol=4e-3)
        if step == STEPS // 2:
            lazy.flush()
    lazy.flush()
    moved = (densely - before).abs().max()
    assert moved > 0.5
    assert (lazily - densely).abs().max() < 0.004 * moved
    assert not lazily[0].any()


def test_rowwise_adagrad_is_its_formula() -> None:
    weight, total = table(), torch.zeros(ROWS)
    expected = weight.detach().clone()
    optimizer = RowwiseAdagrad(weight, lr=0.1, weight_decay=0.01)
    for step in range(20):
        take_step(weight, optimizer, step)
        lookup, gradient = batch(step)
        for row in set(lookup.tolist()):
            of_row = gradient[lookup == row].sum(0) * (row != 0)
            total[row] += (of_row**2).mean()
            expected[row] = expected[row] * (1 - 0.001) - 0.1 * of_row / (total[row].sqrt() + 1e-8)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", [LazyAdamW, RowwiseAdagrad])
def test_a_step_touches_the_rows_of_its_batch_alone(form: type[RowOptimizer]) -> None:
    weight = table()
    optimizer = form(weight, lr=0.01, weight_decay=0.1)
    for step in range(5):
        before, (lookup, _) = weight.detach().clone(), batch(step)
        take_step(weight, optimizer, step)
        changed = (weight.detach() != before).any(dim=1).nonzero().flatten().tolist()
        assert set(changed) == set(lookup.tolist()) - {0}


@pytest.mark.parametrize("gcn", [False, True])
def test_row_gradients_are_those_of_the_dense_table(gcn: bool) -> None:
    data, config = training_data(), TrainConfig(alone_weight=0.5)
    sparse, dense = new_model(gcn=gcn), new_model(gcn=gcn)
    optimizer = LazyAdamW(sparse.item_embedding.weight, lr=0.01, weight_decay=0.0)
    for model, own in ((sparse, optimizer), (dense, None)):
        loop.Step(model, data, config, "bce", own)(some_examples(data), np.random.default_rng(0))
    gradient = sparse.item_embedding.weight.grad
    assert gradient is not None and gradient.is_sparse and gradient._nnz() <= ITEMS + 1
    torch.testing.assert_close(gradient.to_dense(), dense.item_embedding.weight.grad)


def test_the_average_by_row_is_that_of_the_whole_table() -> None:
    """Rows without a gradient, decayed or moved on by their moments, count in the average with what they become."""
    weight = table()
    optimizer = LazyAdamW(weight, lr=0.01, weight_decay=0.05)
    take_step(weight, optimizer, 0)
    expected, average = weight.detach().clone(), weight.detach().clone()
    optimizer.follow(average, 0.98, new=True)
    for step in range(1, 250):
        take_step(weight, optimizer, step)
        copy = weight.detach().clone()
        optimizer.flush()  # nothing is late, so that the whole table can be averaged
        assert (copy - weight).abs().max() < 0.2
        expected.lerp_(weight.detach(), 0.02)
    torch.testing.assert_close(average, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("objective", "options"),
    [("bce", {}), ("softmax", {}), ("sampled_softmax", {"positions": "all", "average": 0.95, "sampled_items": 8})],
)
def test_a_run_with_lazy_adamw_is_one_with_adamw(objective: str, options: dict[str, Any]) -> None:
    config = TrainConfig(epochs=2, patience=0, batch_size=64, weight_decay=0.05, schedule="linear", **options)
    runs = {}
    for name in ("lazy_adamw", "adamw"):
        model = new_model(gcn=False, init_std=0.1)
        state = loop.fit(
            model,
            training_data(),
            dataclasses.replace(config, table_optimizer=name),  # type: ignore[arg-type]
            objective=objective,
        )
        runs[name] = ([x["loss"] for x in state.records], model.item_embedding.weight.detach())
    assert runs["lazy_adamw"][0] == pytest.approx(runs["adamw"][0], rel=1e-3)
    torch.testing.assert_close(runs["lazy_adamw"][1], runs["adamw"][1], rtol=0, atol=5e-3)


def test_rowwise_adagrad_learns_with_a_gradient_for_every_row() -> None:
    model = new_model(objective="softmax", init_std=0.1)
    config = TrainConfig(
        epochs=8, patience=0, batch_size=64, table_optimizer="rowwise_adagrad", table_learning_rate=0.05
    )
    state = loop.fit(model, training_data(), config, objective="softmax")
    assert state.records[state.best_epoch - 1]["uauc"] > 0.9
    assert not model.item_embedding.weight[0].any()


def test_a_negative_learning_rate_is_refused() -> None:
    with pytest.raises(UsageError, match=r"table_learning_rate must be 0\.0 to 100\.0, got -0\.1"):
        TrainConfig(table_learning_rate=-0.1)


class New(TorchDispatchMode):
    """Remembers the largest tensor that operators make next to those of ``known``."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self._known = {x.untyped_storage().data_ptr() for x in known}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **kwargs or {})
        for x in found if isinstance(found, tuple | list) else (found,):
            if isinstance(x, torch.Tensor) and x.layout == torch.strided:
                storage = x.untyped_storage()
                self.most = max(self.most, 0 if storage.data_ptr() in self._known else storage.nbytes())
        return found


@pytest.mark.parametrize("table_optimizer", ["lazy_adamw", "rowwise_adagrad"])
@pytest.mark.parametrize("recipe", ["best", "paper"])
def test_a_step_makes_nothing_as_large_as_the_catalog(table_optimizer: str, recipe: str) -> None:
    items = 1 << 20
    rng = np.random.default_rng(0)
    clicks = Interactions(
        rng.integers(1, items, 240).astype(np.int32), np.arange(21) * 12, [str(i) for i in range(items)], ["u"] * 20
    )
    overrides = {"model.correction": "none", "training.table_optimizer": table_optimizer, "training.sampled_items": 16}
    settings = read_settings(None, overrides, recipe)
    config = ModelConfig(vocab_size=items + 1, hidden_size=4, num_heads=2, **settings.model)
    model = build_model(config, generator=torch.Generator().manual_seed(0))
    data = loop.TrainingData(
        clicks,
        leave_last_out(clicks, sequence_length=10).train,
        NegativeSampler(clicks),
        None,  # type: ignore[arg-type]
    )
    optimizers = Optimizers(model, settings.training, every_row=False)
    step = loop.Step(model, data, settings.training, config.objective, optimizers.table)
    batch = loop.Batch.of(data.train.cut(np.arange(24)))
    if settings.training.positions == "all":
        batch = dataclasses.replace(batch, targets=batch.histories)
    assert optimizers.table is not None
    averages: dict[str, torch.Tensor] = {}

    def take() -> None:
        nonlocal averages
        optimizers.zero_grad()
        step(batch, np.random.default_rng(0))
        optimizers.step()
        averages = optimizers.average(model.state_dict(), averages, 0.9)

    take()
    states = [x for group in optimizers for state in group.state.values() for x in state.values()]
    tracemalloc.start()
    try:
        with New([*model.parameters(), *averages.values(), *states]) as made:
            take()
        of_arrays = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 < made.most < items and of_arrays < items
