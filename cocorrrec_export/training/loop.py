"""The training loop: plain code, resumable at any step."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.splits import HELD_OUT, Examples, Rows, training_examples
from cocorrrec_export.data.statistics import Statistics
from cocorrrec_export.data.windows import Windows, training_counts, training_windows
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.metrics import BOTH, EXPECTED, FULL, FULL_METRICS, expected_metrics
from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.training.checkpoint import CheckpointClock, RunState, load_checkpoint, save_checkpoint
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.losses import ExpectedCounts, bce_loss, sampled_softmax_loss, softmax_loss
from cocorrrec_export.training.optimizers import Optimizers, RowOptimizer, TableRows
from cocorrrec_export.training.ranks import Ranks
from cocorrrec_export.training.scoring import Measured, measure, ways

WITHOUT = "_without_correction"
"""Behind the name of a metric of a model with a cloud model: measured as on a phone without a network."""
NEWEST = ", with the newest clicks"
"""Behind the name of a stage that trains on the validation clicks too."""
_ORDER, _STEP, _AHEAD = 0, 1, 2  # streams of chance of one epoch


@dataclass(frozen=True)
class TrainingData:
    """What a run reads."""

    interactions: Interactions
    train: Examples
    sampler: NegativeSampler
    validation: EvaluationSet
    held_out: int = HELD_OUT
    """Last clicks of each user that are not trained on."""

    def newest(self) -> "TrainingData":
        """The same with the validation clicks to train on."""
        held_out = HELD_OUT - 1
        train = training_examples(self.interactions, sequence_length=self.train.length, held_out=held_out)
        kept = np.isin(train.who, self.train.who)
        return dataclasses.replace(self, train=train.only(kept), held_out=held_out)


class Listener:
    """Receives how a run goes; the command line's progress bar is one."""

    def on_read(self, done: int, size: int) -> None:
        """``done`` of ``size`` bytes of the data file were read."""

    def on_work(self, text: str) -> None:
        """Something before or after the training starts that may take a while."""

    def on_data(self, statistics: Statistics, examples: int) -> None:
        """The data were read; ``examples`` is what an epoch trains on."""

    def on_note(self, text: str) -> None:
        """Something about the data that the user should know, a sentence."""

    def on_stage(self, name: str, epochs: int) -> None:
        """A part of a run starts that has epochs of its own."""

    def on_epoch_start(self, epoch: int, steps: int, done: int) -> None:
        """Epoch ``epoch`` (from 1) starts, with ``done`` of ``steps`` already behind it."""

    def on_step(self, loss: float) -> None:
        """One step is done; ``loss`` is the mean of this epoch so far."""

    def on_epoch_end(self, record: dict[str, float], *, best: bool) -> None:
        """An epoch is done and evaluated."""


@dataclass(frozen=True)
class Batch:
    """Some histories, and what is predicted of each: one click, or the next one after every click."""

    users: NDArray[np.int32]  # [B]
    histories: NDArray[np.int32]  # [B, L]
    targets: NDArray[np.int32]  # [B, 1], or [B, L] with 0 where nothing is predicted

    def __len__(self) -> int:
        """Number of histories."""
        return len(self.users)

    @classmethod
    def of(cls, rows: Rows) -> "Batch":
        """Rows of a data set, as long as the longest needs."""
        longest = max(1, int((rows.histories != PADDING_ID).sum(1).max()))
        every = rows.targets.ndim > 1 and rows.targets.shape[1] > 1
        targets = rows.targets[:, :longest] if every else rows.targets.reshape(len(rows.users), 1)
        return cls(rows.users, rows.histories[:, :longest], targets)


def fit(
    model: Ranker,
    data: TrainingData,
    config: TrainConfig,
    *,
    objective: str = "bce",
    checkpoint: Path | None = None,
    resume: bool = False,
    listener: Listener | None = None,
    length: int | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    epochs: int | None = None,
) -> RunState:
    """Train ``model`` and leave it with the weights of the best validation epoch.

    Among processes that :func:`~cocorrrec_export.training.ranks.joined` brought together, each trains on its share of
    every batch; all get the same weights, and the first one alone validates and writes.

    Args:
        model: on the device to train on.
        data: examples, negatives and the validation slice.
        config: settings.
        objective: ``"bce"`` (sampled negatives, as released), ``"softmax"`` (over the vocabulary, Eq. 12, 16) or
            ``"sampled_softmax"`` (over a sample of it).
        checkpoint: file to keep the state in, written at each epoch's end and once a minute.
        resume: continue from ``checkpoint``; on the CPU the result is bit for bit that of an uninterrupted run.
        listener: receives steps and epochs.
        length: clicks of a window of ``positions = "all"``; by default as many as an example's history has.
        validate: metrics of an epoch, ``config.monitor`` among them; by default those of ``model`` on the slice.
        epochs: take the weights of this epoch, without validation; by default those of the best one.

    Raises:
        CocorrrecError: the loss is no longer finite, or the checkpoint does not fit.
        UsageError: the model cannot be trained so.
    """
    listener = listener or Listener()
    validate = dict if epochs else validate or (lambda: validation_metrics(model, data.validation, config))
    optimizers = Optimizers(model, config, every_row=objective == "softmax")
    state = RunState()
    torch.manual_seed(config.seed)  # dropout draws from the global generator
    if resume and checkpoint is not None:
        load_checkpoint(checkpoint, model, optimizers, state)
        optimizers.keep_averages(state.average, config.average)
        if state.threads not in (0, threads := torch.get_num_threads()):
            listener.on_note(
                f"the checkpoint was made with {state.threads} threads, this process has {threads}: the result is not "
                f"bit for bit that of an uninterrupted run (OMP_NUM_THREADS={state.threads} makes it so)"
            )
    ranks = Ranks.here()
    step = Step(model, data, config, objective, optimizers.table)
    clock = CheckpointClock()
    while state.epoch < (epochs or config.epochs) and not _exhausted(state, config):
        model.train()
        examples, order, size = _epoch(data, config, state.epoch, length)
        steps = math.ceil(len(order) / size)
        listener.on_epoch_start(state.epoch + 1, steps, state.step)
        while state.step < steps:
            batch = Batch.of(_cut(examples, order[state.step * size : (state.step + 1) * size], config, state))
            at = [config.seed, state.epoch, _STEP, state.step]
            _set_learning_rate(optimizers, config, state.epoch, state.step, steps)
            optimizers.zero_grad()
            if ranks.size > 1:  # dropout is not the same in any two processes, and does not depend on when it began
                torch.manual_seed(int(np.random.SeedSequence([*at, ranks.rank]).generate_state(1)[0]))
            loss = step(batch, np.random.default_rng(at))
            optimizers.step()
            if config.average:
                state.average = optimizers.average(model.state_dict(), state.average, config.average)
            state.loss_sum += loss.item()
            state.step += 1
            if not math.isfinite(state.loss_sum):
                raise _diverged("the loss", loss.item(), state, config)
            listener.on_step(state.loss_sum / state.step)
            if checkpoint is not None and ranks.first and clock.is_due() and state.step < steps:
                save_checkpoint(checkpoint, model, optimizers, state)
        optimizers.flush()
        _finish_epoch(
            model, config, state, steps, listener, lambda: ranks.of_first(validate), keep_last=epochs is not None
        )
        if checkpoint is not None and ranks.first:
            save_checkpoint(checkpoint, model, optimizers, state)
    model.load_state_dict(state.best)
    model.eval()
    return state


def _diverged(what: str, value: float, state: RunState, config: TrainConfig) -> CocorrrecError:
    likely = f"a smaller learning_rate than {config.learning_rate:g}"
    if config.alone_weight > 10:
        likely += f", or a smaller alone_weight than {config.alone_weight:g}"
    return CocorrrecError(
        f"{what} is {value}, not a finite number, at epoch {state.epoch + 1}, step {state.step}: try {likely}"
    )


def _improves(record: dict[str, float], state: RunState, monitor: str) -> bool:
    return monitored(record, monitor) > monitored(state.records[state.best_epoch - 1], monitor)


def _exhausted(state: RunState, config: TrainConfig) -> bool:
    return config.patience > 0 and state.epoch - state.best_epoch >= config.patience


def _epoch(
    data: TrainingData, config: TrainConfig, epoch: int, length: int | None
) -> tuple[Examples | Windows, NDArray[np.int64], int]:
    """The histories of an epoch, their order, and how many make a step: from the seed and the epoch alone."""
    rng = np.random.default_rng([config.seed, epoch, _ORDER])
    if config.positions == "last":
        return data.train, rng.permutation(len(data.train)), config.batch_size
    length = length or data.train.length
    windows = training_windows(data.interactions, length=length, rng=rng, held_out=data.held_out)
    return windows, rng.permutation(len(windows)), max(1, config.batch_size // length)


def _cut(examples: Examples | Windows, rows: NDArray[np.int64], config: TrainConfig, state: RunState) -> Rows:
    if isinstance(examples, Examples):
        return examples.cut(rows)
    rng = np.random.default_rng([config.seed, state.epoch, _AHEAD, state.step])
    return examples.cut(rows, ahead=config.ahead, rng=rng)


def _set_learning_rate(optimizers: Optimizers, config: TrainConfig, epoch: int, step: int, steps: int) -> None:
    share = (epoch + step / steps) / config.epochs
    factor = {"constant": 1.0, "linear": 1.0 - share, "cosine": 0.5 * (1.0 + math.cos(math.pi * share))}
    rise = min(1.0, (epoch + (step + 1) / steps) / config.warmup) if config.warmup else 1.0
    optimizers.scale_learning_rates(factor[config.schedule] * rise)


class Step:
    """The loss of a batch, and its gradients.

    Args:
        model: in training mode when called.
        data: for the negatives.
        config: settings.
        objective: as in :func:`fit`.
        table_optimizer: the item table's own, if it has one: its gradient is then one of rows.
    """

    def __init__(
        self,
        model: Ranker,
        data: TrainingData,
        config: TrainConfig,
        objective: str,
        table_optimizer: RowOptimizer | None = None,
    ) -> None:
        self._table_optimizer, self._ranks = table_optimizer, Ranks.here()
        self._model, self._data, self._config, self._objective = model, data, config, objective
        self._expected = (
            ExpectedCounts(training_counts(data.interactions, data.held_out))
            if objective == "sampled_softmax"
            else None
        )

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Loss of ``batch``, its gradients added to those of the parameters; ``rng`` draws the negatives.

        Every process looks up the rows of the whole batch, and reads the users of its share.
        """
        table = self._model.item_embedding.weight
        ids = torch.from_numpy(batch.histories).to(table.device, torch.int64)  # [B, L]
        predicted = torch.from_numpy(batch.targets).to(table.device, torch.int64)  # [B, 1 or L]
        targets = predicted[predicted != PADDING_ID]  # [T]
        candidates = self._candidates(batch, targets, rng)
        lookup = ids.flatten() if candidates is None else torch.cat((ids.flatten(), candidates.flatten()))
        looked_up = TableRows(table, lookup, self._table_optimizer, every_row=candidates is None)
        rows = looked_up.values
        clicks = rows[: ids.numel()].view(*ids.shape, -1)
        items = table if candidates is None else rows[ids.numel() :].view(*candidates.shape, -1)
        share, own, weight = self._share(predicted)
        if candidates is not None and candidates.ndim == 2:  # of each target its own
            candidates, items = candidates[own], items[own]
        vectors = self._model.candidate_vectors(items, candidates)
        ids, clicks, predicted = ids[share], clicks[share], predicted[share]
        users = self._users(ids, clicks, predicted, corrected=True)
        loss = self._loss(users, vectors, targets, candidates, own)
        if self._config.alone_weight and self._model.gcn is not None:
            alone = self._users(ids, clicks, predicted, corrected=False)
            loss = loss + self._config.alone_weight * self._loss(alone, vectors, targets, candidates, own)
        if self._ranks.size > 1:
            loss = loss * weight
        loss.backward()
        looked_up.add_gradients(self._ranks)
        self._ranks.sum_gradients(self._model.parameters())
        loss = loss.detach()
        self._ranks.sum(loss)
        return loss

    def _share(self, predicted: Tensor) -> tuple[slice, slice, float]:
        """This process's rows of ``predicted [B, 1 or L]``, their targets, and those as a share of all targets."""
        if self._ranks.size == 1:
            return slice(None), slice(0, None), 1.0
        rows = self._ranks.share(len(predicted))
        weighs = rows.stop > rows.start
        if not weighs:  # a batch of fewer rows than processes: the gradients of some row, none of which counts
            rows = slice(0, 1)
        ends = (predicted != PADDING_ID).sum(1).cumsum(0)  # [B]
        first = int(ends[rows.start - 1]) if rows.start else 0
        own = slice(first, int(ends[rows.stop - 1]))
        return rows, own, (own.stop - own.start) / int(ends[-1]) if weighs else 0.0

    def _users(self, ids: Tensor, clicks: Tensor, predicted: Tensor, *, corrected: bool) -> Tensor:
        """The users ``[T, ...]`` that the predicted clicks follow."""
        if self._config.positions == "last":
            users: Tensor = self._model.read_rows(ids, clicks, corrected=corrected)
            return users
        return self._model.states(ids, clicks)[predicted != PADDING_ID]

    def _candidates(self, batch: Batch, targets: Tensor, rng: np.random.Generator) -> Tensor | None:
        """Items to tell the targets from: ``[T, 1 + negatives]``, ``[T + sampled]`` for all, or None for every item."""
        if self._objective == "softmax":
            return None
        if self._objective == "bce":
            users = np.repeat(batch.users, (batch.targets != PADDING_ID).sum(1))
            negatives = self._data.sampler.sample(users, self._config.negatives, rng=rng)
            return torch.cat((targets[:, None], torch.from_numpy(negatives).to(targets)), dim=1)
        uniform = rng.integers(1, self._data.interactions.vocab_size, self._config.sampled_items)
        return torch.cat((targets, torch.from_numpy(uniform).to(targets)))

    def _loss(self, users: Tensor, vectors: Tensor, targets: Tensor, candidates: Tensor | None, own: slice) -> Tensor:
        """Of the ``users`` of this process, which have the part ``own`` of the ``targets``."""
        if candidates is None:
            return softmax_loss(self._model.match_all(users, vectors), targets[own])
        if self._expected is None:
            return bce_loss(self._model.match(users, vectors))
        items = candidates.cpu().numpy()
        expected = self._expected.of(items, targets=len(targets), sampled=self._config.sampled_items)
        log_expected = torch.from_numpy(np.log(expected).astype(np.float32))
        logits = self._model.match_all(users, vectors)
        log_expected = log_expected.to(logits.device)
        return sampled_softmax_loss(logits, targets[own], candidates, log_expected, first=own.start)


def validation_metrics(model: Ranker, held_out: EvaluationSet, config: TrainConfig) -> dict[str, float]:
    """Metrics of an epoch: with the cloud's correction where the model has one, and without it.

    In the whole catalog too, but for a model that has to read each pair of a user and an item again, unless the epoch
    is picked by it.
    """
    full = model.one_state or reads_catalog(config.monitor)
    record: dict[str, float] = {}
    for way, corrected in ways(model).items():
        measured = measure(model, held_out, corrected=corrected, full=full)
        suffix = WITHOUT if model.gcn is not None and way == "alone" else ""
        record |= {name + suffix: value for name, value in record_of(measured, config.monitor).items()}
    return record


def reads_catalog(monitor: str) -> bool:
    """Whether a monitored metric needs a ranking of the whole catalog."""
    return monitor.startswith((EXPECTED, FULL, BOTH))


def monitored(record: dict[str, float], monitor: str) -> float:
    """The value of ``monitor`` in one row of metrics."""
    if not monitor.startswith(BOTH):
        return record[monitor]
    name = monitor.removeprefix(BOTH)
    return math.sqrt(record[name] * record[FULL + name.removeprefix(EXPECTED)])


def record_of(measured: Measured, monitor: str) -> dict[str, float]:
    """One row of metrics, those over the whole catalog with :data:`FULL` in front; ``monitor`` is among them."""
    record = measured.sampled.means()
    if measured.full is not None:
        record |= {FULL + name: value for name, value in measured.full.means(FULL_METRICS).items()}
        name = monitor.removeprefix(BOTH)
        if name.startswith(EXPECTED):
            found = expected_metrics(measured.full, negatives=int(measured.sampled.negatives))
            record[name] = float(found[name.removeprefix(EXPECTED)].mean())
    return record


def _finish_epoch(
    model: Ranker,
    config: TrainConfig,
    state: RunState,
    steps: int,
    listener: Listener,
    validate: Callable[[], dict[str, float]],
    *,
    keep_last: bool,
) -> None:
    trained = {name: x.detach().clone() for name, x in model.state_dict().items()} if state.average else None
    if trained is not None:
        model.load_state_dict(state.average)
    model.eval()
    if not all(bool(x.isfinite().all()) for x in model.parameters()):
        raise _diverged("a weight", math.nan, state, config)
    try:
        record = {"epoch": state.epoch + 1, "loss": state.loss_sum / steps} | validate()
    except ValueError as error:  # scores that are not numbers, of weights that are
        raise _diverged(f"a validation score ({error})", math.nan, state, config) from None
    if not keep_last and config.monitor.removeprefix(BOTH) not in record:
        raise CocorrrecError(
            f"monitor {config.monitor!r} cannot be measured: a user has no more candidates than its cutoff; choose the "
            f"epoch by another monitor, such as uauc"
        )
    best = keep_last or not state.records or _improves(record, state, config.monitor)
    state.records.append(record)
    state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
    if best:
        state.best_epoch = state.epoch
        state.best = {name: x.detach().cpu().clone() for name, x in model.state_dict().items()}
    if trained is not None:
        model.load_state_dict(trained)
    listener.on_epoch_end(record, best=best and not keep_last)
