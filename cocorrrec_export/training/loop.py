"""The training loop: plain code, resumable at any step."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.splits import Examples
from cocorrrec_export.data.statistics import Statistics
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.metrics import ranking_metrics
from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.training.checkpoint import CheckpointClock, RunState, load_checkpoint, save_checkpoint
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.losses import bce_loss, softmax_loss
from cocorrrec_export.training.scoring import score_candidates


@dataclass(frozen=True)
class TrainingData:
    """What a run reads."""

    train: Examples
    sampler: NegativeSampler
    validation: EvaluationSet


class Listener:
    """Hears how a run goes; the command line's progress bar is one."""

    def on_data(self, statistics: Statistics, examples: int) -> None:
        """The data were read; ``examples`` is what an epoch trains on."""

    def on_epoch_start(self, epoch: int, steps: int, done: int) -> None:
        """Epoch ``epoch`` (from 1) starts, with ``done`` of ``steps`` already behind it."""

    def on_step(self, loss: float) -> None:
        """One step is done; ``loss`` is the mean of this epoch so far."""

    def on_epoch_end(self, record: dict[str, float], *, best: bool) -> None:
        """An epoch is done and evaluated."""


def fit(
    model: Ranker,
    data: TrainingData,
    config: TrainConfig,
    *,
    objective: str = "bce",
    checkpoint: Path | None = None,
    resume: bool = False,
    listener: Listener | None = None,
) -> RunState:
    """Train ``model`` and leave it with the weights of the best validation epoch.

    Args:
        model: on the device to train on.
        data: examples, negatives and the validation slice.
        config: settings.
        objective: ``"bce"`` (sampled negatives, as released) or ``"softmax"`` (over the vocabulary, Eq. 12, 16).
        checkpoint: file to keep the state in, written at each epoch's end and once a minute.
        resume: go on from ``checkpoint``; on the CPU the result is bit for bit that of an uninterrupted run.
        listener: hears of steps and epochs.

    Raises:
        CocorrrecError: the loss is no longer finite, or the checkpoint does not fit.
    """
    listener = listener or Listener()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    state = RunState()
    torch.manual_seed(config.seed)  # dropout draws from the global generator
    if resume and checkpoint is not None:
        load_checkpoint(checkpoint, model, optimiser, state)
    clock = CheckpointClock()
    steps = math.ceil(len(data.train) / config.batch_size)
    while state.epoch < config.epochs and not _exhausted(state, config):
        model.train()
        order, negatives = _epoch_order(data, config, state.epoch, objective)
        listener.on_epoch_start(state.epoch + 1, steps, state.step)
        while state.step < steps:
            rows = order[state.step * config.batch_size : (state.step + 1) * config.batch_size]
            _set_learning_rate(optimiser, config, state.epoch * steps + state.step, config.epochs * steps)
            optimiser.zero_grad(set_to_none=False)
            loss = train_step(model, data.train, rows, None if negatives is None else negatives[rows], config)
            optimiser.step()
            state.loss_sum += loss.item()
            state.step += 1
            if not math.isfinite(state.loss_sum):
                raise CocorrrecError(
                    f"the loss is {state.loss_sum} at epoch {state.epoch + 1}, step {state.step}: "
                    f"try a smaller learning rate than {config.learning_rate}"
                )
            listener.on_step(state.loss_sum / state.step)
            if checkpoint is not None and clock.is_due() and state.step < steps:
                save_checkpoint(checkpoint, model, optimiser, state)
        _finish_epoch(model, data, config, state, steps, listener)
        if checkpoint is not None:
            save_checkpoint(checkpoint, model, optimiser, state)
    model.load_state_dict(state.best)
    model.eval()
    return state


def _exhausted(state: RunState, config: TrainConfig) -> bool:
    return config.patience > 0 and state.epoch - state.best_epoch >= config.patience


def _epoch_order(
    data: TrainingData, config: TrainConfig, epoch: int, objective: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """The order of the examples, and the negatives ``[M, negatives]`` of each, from the seed and the epoch alone."""
    rng = np.random.default_rng([config.seed, epoch])
    order = rng.permutation(len(data.train))
    if objective == "softmax":
        return order, None
    return order, data.sampler.sample(data.train.users, config.negatives, rng=rng)


def _set_learning_rate(optimiser: torch.optim.Optimizer, config: TrainConfig, step: int, total: int) -> None:
    share = step / total
    factor = {"constant": 1.0, "linear": 1.0 - share, "cosine": 0.5 * (1.0 + math.cos(math.pi * share))}
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * factor[config.schedule]


def train_step(
    model: Ranker, train: Examples, rows: np.ndarray, negatives: np.ndarray | None, config: TrainConfig
) -> Tensor:
    """Loss of the examples ``rows``, its gradients added to those of the parameters."""
    device = model.item_embedding.weight.device
    ids = torch.from_numpy(train.histories[rows]).to(device, torch.int64)  # [B, L]
    targets = torch.from_numpy(train.targets[rows]).to(device, torch.int64)  # [B]
    if negatives is None:
        loss = _softmax_step(model, ids, targets, config)
        loss.backward()
        return loss
    candidates = torch.cat((targets[:, None], torch.from_numpy(negatives).to(device, torch.int64)), dim=1)
    # The table's gradient is dense: allocating it, once for each look-up, takes longer than the whole network. So the
    # rows are looked up outside the graph, and their gradients added into a gradient that stays allocated.
    table = model.item_embedding.weight
    lookup = torch.cat((ids, candidates), dim=1)  # [B, L + C]
    embedded = table.detach()[lookup].requires_grad_()
    clicks, items = embedded.split((ids.shape[1], candidates.shape[1]), dim=1)
    vectors = model.item_side(items)  # [B, C, D]
    loss = bce_loss(model.match(model.read_rows(ids, clicks), vectors))
    if config.alone_weight and model.gcn is not None:
        alone = model.read_rows(ids, clicks, corrected=False)
        loss = loss + config.alone_weight * bce_loss(model.match(alone, vectors))
    loss.backward()
    _add_row_gradients(table, lookup, embedded)
    return loss


def _add_row_gradients(table: Tensor, lookup: Tensor, embedded: Tensor) -> None:
    assert embedded.grad is not None
    if table.grad is None:
        table.grad = torch.zeros_like(table)
    table.grad.index_add_(0, lookup.flatten(), embedded.grad.flatten(0, 1))
    table.grad[PADDING_ID].zero_()


def _softmax_step(model: Ranker, ids: Tensor, targets: Tensor, config: TrainConfig) -> Tensor:
    items = model.item_side(model.item_embedding.weight)
    loss = softmax_loss(model.user_state(ids) @ items.T, targets)
    if config.alone_weight and model.gcn is not None:
        loss = loss + config.alone_weight * softmax_loss(model.user_state(ids, corrected=False) @ items.T, targets)
    return loss


def _finish_epoch(
    model: Ranker, data: TrainingData, config: TrainConfig, state: RunState, steps: int, listener: Listener
) -> None:
    model.eval()
    record: dict[str, float] = {"epoch": state.epoch + 1, "loss": state.loss_sum / steps}
    record |= ranking_metrics(score_candidates(model, data.validation.histories, data.validation.candidates))
    if model.gcn is not None:
        alone = score_candidates(model, data.validation.histories, data.validation.candidates, corrected=False)
        record |= {f"{name}_without_correction": value for name, value in ranking_metrics(alone).items()}
    best = not state.records or record[config.monitor] > state.records[state.best_epoch - 1][config.monitor]
    state.records.append(record)
    state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
    if best:
        state.best_epoch = state.epoch
        state.best = {name: x.detach().cpu().clone() for name, x in model.state_dict().items()}
    listener.on_epoch_end(record, best=best)
