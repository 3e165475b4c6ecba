"""Codes of an item table that keep what a model looks for: trained to give its scores to its users.

Product quantization makes the errors of rows small. What a ranking loses by an error depends on who is ranked for and
on what else is near, which training clicks show. So the codebooks, 16 or 8 times 256 short vectors, the rotation behind
them and the scales of rows are trained to give the float32 model's distribution over items after each click. Codes, and
all other weights, stay.

The model was trained on these clicks, and is surer of the next one than it is with any other user. So features of the
clicks are dropped, the same ones for both: else codebooks learn what the model learned by heart.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.data.held_out import interactions_of
from cocorrrec_export.data.splits import Examples, Rows, leave_last_out
from cocorrrec_export.data.windows import training_counts
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.forms.quantizer import USERS, Calibrated, Codes, FloatTables
from cocorrrec_export.forms.weights import table_codes
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.store import ModelFolder
from cocorrrec_export.modeling.threads import one_thread
from cocorrrec_export.training.loop import Listener
from cocorrrec_export.training.losses import ExpectedCounts
from cocorrrec_export.training.optimizers import RowwiseAdagrad

_FITTED_TO_CLICKS = ("pq8",)
"""Embeddings whose few codes go where the clicks' users are. On validation 16 codes are nearer to the model, by the
divergence over all items, where any user could be."""
_MOST = 1 << 17
"""Training clicks of an epoch: those of a large data set are drawn again in each."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How codebooks are trained."""

    epochs: int = 3
    batch: int = 1000
    """Training clicks of a step."""
    sampled: int = 2048
    """Items drawn per step, next to those that were clicked."""
    temperature: float = 1.5
    """What logits are divided by: above 1, so that items count that a user would hardly choose, but is shown."""
    step_size: float = 0.02
    """Of the first steps, over the mean of the values that are trained; it falls to 0."""
    dropout: float = 0.2
    """Share of the clicks' features that are dropped."""
    seed: int = 1


def calibrate(
    folder: ModelFolder,
    model: Ranker,
    data_file: Path,
    embedding: str,
    *,
    settings: Settings | None = None,
    listener: Listener | None = None,
) -> Calibrated:
    """Fit the codes of a model's item table to training clicks; on one thread, and the same each time.

    Args:
        folder: the model.
        model: loaded from there, in evaluation mode.
        data_file: the interactions that it was trained on, or others of the same items. The last two clicks of each
            user, which models are measured on, are not read.
        embedding: a recipe's ``weights.embedding``, ``pq16`` or ``pq8``.
        settings: of the training.
        listener: receives the bytes read, steps and epochs.

    Raises:
        CocorrrecError: the data are of other items than the model's, or have nothing to train on.
        UsageError: the file does not exist.
    """
    settings, listener = settings or Settings(), listener or Listener()
    if not model.one_state:  # each user is another one for each item: 16 times as many values
        settings = replace(settings, batch=-(-settings.batch // 4), sampled=-(-settings.sampled // 4))
    listener.on_work(f"reading {data_file.name}")
    interactions = interactions_of(folder, data_file, listener.on_read)
    clicks = leave_last_out(interactions, sequence_length=folder.config.sequence_length).train
    if not len(clicks):
        raise CocorrrecError(f"{data_file}: no user has a click to calibrate with: each needs at least 4")
    counts = ExpectedCounts(training_counts(interactions))
    with one_thread():
        listener.on_work("fitting codes")
        histories = _some_histories(clicks, settings.seed) if embedding in _FITTED_TO_CLICKS else None
        codes = table_codes(model, embedding, length=folder.config.sequence_length, histories=histories)
        losses, codes = _train(model, codes, clicks, counts, settings, listener)
    facts = {"interactions_sha256": interactions.sha256, "clicks": len(clicks), "losses": losses} | asdict(settings)
    return Calibrated(codes, facts)


def _some_histories(clicks: Examples, seed: int) -> Tensor:
    """Histories ``[n, L]`` of the training clicks, as many as say where users are."""
    some = _drawn(len(clicks), np.random.default_rng(seed))[:USERS]
    return torch.from_numpy(clicks.cut(some).histories).long()


def _drawn(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Some of ``count`` training clicks: each once, or of very many :data:`_MOST`."""
    return rng.permutation(count) if count <= _MOST else rng.integers(0, count, _MOST)


def _train(
    model: Ranker,
    codes: Codes,
    clicks: Examples,
    counts: ExpectedCounts,
    settings: Settings,
    listener: Listener,
) -> tuple[list[float], Codes]:
    """The mean loss of each epoch, and the codes with trained tables."""
    start = codes.tables()
    scales = None if start.scales is None else start.scales.requires_grad_()
    tables = FloatTables(start.codebooks.requires_grad_(), start.rotation.clone().requires_grad_(), scales)
    kept = (tables.codebooks != 0).any(-1, keepdim=True)  # a vector of zeros is what the padding is made of
    trained = [x for x in tables if x is not None]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam([{"params": [x], "lr": _step_size(x, settings)} for x in (tables.codebooks, tables.rotation)])
    ]
    if tables.scales is not None:  # Adam would throw about what few steps read
        optimizers.append(RowwiseAdagrad(tables.scales, lr=_step_size(tables.scales, settings), weight_decay=0.0))
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    starts = [group["lr"] for group in groups]
    steps = -(-min(len(clicks), _MOST) // settings.batch)
    losses = []
    for epoch in range(settings.epochs):
        rng = np.random.default_rng([settings.seed, epoch])
        order = _drawn(len(clicks), rng)
        total = 0.0
        listener.on_epoch_start(epoch + 1, steps, 0)
        for step in range(steps):
            for group, start in zip(groups, starts, strict=True):
                group["lr"] = start * (1 - (epoch + step / steps) / settings.epochs)
            batch = clicks.cut(order[step * settings.batch : (step + 1) * settings.batch])
            loss = _loss(model, lambda ids: codes.rows(ids, tables), batch, counts, settings, rng)
            for x, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                x.grad = gradient * kept if x is tables.codebooks else gradient
            for optimizer in optimizers:
                optimizer.step()
            total += loss.item()
            listener.on_step(total / (step + 1))
        losses.append(total / steps)
        if not math.isfinite(total):
            raise CocorrrecError(f"calibration: the loss is {total}, not a finite number: export without --calibrate")
        listener.on_epoch_end({"epoch": epoch + 1, "loss": losses[-1]}, best=False)
    return losses, codes.with_tables(tables)


def _step_size(values: Tensor, settings: Settings) -> float:
    return settings.step_size * float(values.detach().abs().mean())


def _loss(
    model: Ranker,
    coded: Callable[[Tensor], Tensor],
    batch: Rows,
    counts: ExpectedCounts,
    settings: Settings,
    rng: np.random.Generator,
) -> Tensor:
    """How far the model with ``coded`` rows is from the float32 one: divergence of their distributions over items.

    Over a sample of the items, the clicked ones among them, each counted less the more often it is in such samples.
    """
    drawn = rng.integers(1, model.item_embedding.num_embeddings, settings.sampled, dtype=np.int32)
    items = np.concatenate((batch.targets, drawn))
    expected = counts.of(items, targets=len(batch.targets), sampled=settings.sampled)
    log_expected = torch.from_numpy(np.log(expected).astype(np.float32))
    ids, candidates = torch.from_numpy(batch.histories).long(), torch.from_numpy(items).long()
    lookup = torch.cat((ids.flatten(), candidates))
    kept = rng.random((*ids.shape, model.item_embedding.embedding_dim), dtype=np.float32) >= settings.dropout
    scale = torch.from_numpy(kept) / (1 - settings.dropout)

    def log_shares(rows: Tensor) -> Tensor:
        clicks = rows[: ids.numel()].view_as(scale) * scale
        vectors = model.candidate_vectors(rows[ids.numel() :], candidates)
        logits = model.match_all(model.read_rows(ids, clicks, corrected=False), vectors)
        return torch.log_softmax(logits / settings.temperature - log_expected, dim=1)

    with torch.no_grad():
        target = log_shares(model.item_embedding.weight.index_select(0, lookup))
    return torch.nn.functional.kl_div(log_shares(coded(lookup)), target, log_target=True, reduction="batchmean")
