"""Rank held-out items with a model, each history's state computed once, and measure where they come out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.errors import UsageError
from cocorrrec_export.metrics import FULL_METRICS, Places, catalog_places, mean_and_error, places
from cocorrrec_export.modeling.config import PADDING_ID
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.vector import VectorCloud

BATCH = 1024
"""Most users at a time."""
_LOGITS = 1 << 22  # of the whole catalog at a time: 16 MB
_CACHED = 8192
"""Items whose logits are gone through many times while they are in the processor's cache."""
_FEW = 16
"""Users that are ranked at once in any catalog: by fewer the product with the table takes twice as long."""
_DIN_WIDTH = 256  # features that a candidate takes where a user is not one vector

Score = Callable[[slice, Tensor | None], Tensor]
"""Logits of the users of a slice for their candidates ``[U, C]``, or for the whole table, ``[U, V]``."""


@torch.no_grad()
def score_candidates(
    model: Ranker, histories: Tensor, candidates: Tensor, *, corrected: bool = True, batch_size: int = BATCH
) -> NDArray[np.float32]:
    """Logits of every candidate.

    Args:
        model: in evaluation mode.
        histories: ``[U, L]`` int, right-padded with 0.
        candidates: ``[U, C]`` int.
        corrected: whether the cloud's correction arrives.
        batch_size: users a step.

    Returns:
        ``[U, C]`` float32. The order of the logits is that of the scores.
    """
    device = model.item_embedding.weight.device
    # The item side does not depend on the user: once for the whole table instead of once for each candidate.
    items = model.candidate_vectors(model.item_embedding.weight, None)  # [V, D]
    rows = []
    for ids, targets in zip(histories.split(batch_size), candidates.split(batch_size), strict=True):
        user = model.user_state(ids.to(device, torch.int64), corrected=corrected)
        rows.append(model.match(user, items[targets.to(device, torch.int64)]).cpu())
    return torch.cat(rows).numpy()


@dataclass(frozen=True)
class Measured:
    """Where the held-out items come out, by both protocols."""

    sampled: Places
    """Among the sampled negatives."""
    full: Places | None
    """In the whole catalog without what each user had before; None where that is not known."""

    def differences(self, other: "Measured") -> dict[str, NDArray[np.float64]]:
        """Each user's metrics less those of ``other``, by ``sampled:`` and ``full:`` names."""
        found: dict[str, NDArray[np.float64]] = {}
        for way, names in (("sampled", FULL_METRICS[:-1]), ("full", FULL_METRICS)):
            mine, theirs = getattr(self, way), getattr(other, way)
            if mine is not None and theirs is not None:
                ours, base = mine.per_user(), theirs.per_user()
                found |= {f"{way}:{name}": ours[name] - base[name] for name in names}
        return found


@torch.no_grad()
def measure_scores(score: Score, held_out: EvaluationSet, *, full: bool = True, batch_size: int = BATCH) -> Measured:
    """Rank the held-out items by ``score``, some users at a time.

    Args:
        score: of some users.
        held_out: the users.
        full: also in the whole catalog, where ``held_out`` says what each user had before.
        batch_size: users at a time.
    """
    earlier = held_out.earlier if full else None
    sampled, whole = (_of_users(held_out, rows) for rows in (2, 3))
    for rows in held_out.batches(batch_size):
        candidates = held_out.candidates[rows].long()
        sampled[:, rows] = places(score(rows, candidates).numpy())
        if earlier is not None:
            logits = score(rows, None).numpy()
            whole[:, rows] = catalog_places(logits, candidates[:, 0].numpy(), *earlier.pairs(rows))
    above, tied = sampled
    found = Places(above, tied, held_out.candidates.shape[1] - 1)
    return Measured(found, Places(*whole) if earlier is not None else None)


def _of_users(held_out: EvaluationSet, rows: int) -> NDArray[np.int32]:
    """Room for some numbers of each user, ``[rows, U]``.

    Made at once: what is kept of every batch would lie between the memory of its logits, and the heap grow with each.
    """
    return np.empty((rows, len(held_out)), np.int32)


@torch.no_grad()
def measure(
    model: Ranker,
    held_out: EvaluationSet,
    *,
    corrected: bool = True,
    full: bool = True,
    user: Callable[[slice], Any] | None = None,
) -> Measured:
    """Rank the held-out items with a model in evaluation mode; memory does not grow with the number of users.

    Args:
        model: on any device.
        held_out: the users.
        corrected: whether the cloud's answer arrives.
        full: also in the whole catalog.
        user: the state of the users of a slice, in place of the model's own.
    """
    items = model.candidate_vectors(model.item_embedding.weight, None)
    read = user or (lambda rows: read_users(model, held_out, rows, corrected=corrected))
    known: tuple[slice, Any] | None = None

    def score(rows: slice, candidates: Tensor | None) -> Tensor:
        nonlocal known
        if known is None or known[0] != rows:
            known = (rows, read(rows))
        if candidates is None:
            return model.match_all(known[1], items).cpu()
        return model.match(known[1], items[candidates.to(items.device)]).cpu()

    batch = _catalog_batch(len(items), width=1 if model.one_state else _DIN_WIDTH) if full else BATCH
    return measure_scores(score, held_out, full=full, batch_size=batch)


def _catalog_batch(items: int, *, width: int = 1) -> int:
    """Users at a time, of whom each takes ``width`` numbers an item."""
    return max(_FEW if width == 1 else 1, min(BATCH, _LOGITS // (items * width)))


@torch.no_grad()
def catalog_places_of_sums(
    model: Ranker, held_out: EvaluationSet, users: Tensor, vectors: Tensor, weights: Sequence[float]
) -> list[Places]:
    """Where the held-out items come out in the whole catalog for ``users + weight * vectors``, for each weight.

    The products with all items are made once for all weights.

    Args:
        model: its logits are linear in the user.
        held_out: the users, and what each had before.
        users: ``[U, D]``, and
        vectors: ``[U, D]``, on the model's device.
        weights: tried in turn.
    """
    items = model.candidate_vectors(model.item_embedding.weight, None)
    assert held_out.earlier is not None
    above, tied, (compared,) = (_of_users(held_out, count) for count in (len(weights), len(weights), 1))
    for rows in held_out.batches(_catalog_batch(len(items))):
        logits, change = model.match_all(users[rows], items), model.match_all(vectors[rows], items)
        target = held_out.candidates[rows, :1].to(items.device, torch.int64)
        of_target, change_of_target = logits.gather(1, target), change.gather(1, target)
        user, item = (torch.from_numpy(x).to(items.device, torch.int64) for x in held_out.earlier.pairs(rows))
        logits[user, item] = -torch.inf  # below every target, whatever is added
        logits.scatter_(1, target, -torch.inf)
        logits[:, PADDING_ID] = -torch.inf
        compared[rows] = (logits != -torch.inf).sum(1).cpu().numpy()
        bars = [of_target.add(change_of_target, alpha=weight) for weight in weights]
        above[:, rows], tied[:, rows] = _above_and_tied(logits, change, bars, weights)
    return [Places(of_weight, ties, compared) for of_weight, ties in zip(above, tied, strict=True)]


def _above_and_tied(
    logits: Tensor, change: Tensor, bars: Sequence[Tensor], weights: Sequence[float]
) -> NDArray[np.float64]:
    """How many of ``logits + weight * change``, both ``[U, V]``, are above each weight's bars ``[U, 1]``, and equal.

    Both ``[weights, U]``. Some items at a time, which stay in the processor's cache for all weights.
    """
    signs, different = np.zeros((2, len(weights), len(logits)))
    size = _CACHED if logits.device.type == "cpu" else logits.shape[1]
    for part, moves in zip(logits.split(size, dim=1), change.split(size, dim=1), strict=True):
        own, moved = part.contiguous(), moves.contiguous()
        sums = torch.empty_like(own)
        for row, (weight, bar) in enumerate(zip(weights, bars, strict=True)):
            torch.add(own, moved, alpha=weight, out=sums).sub_(bar).sign_()  # 0 of what is not a number: it ties
            signs[row] += sums.sum(1).cpu().numpy()
            different[row] += sums.abs_().sum(1).cpu().numpy()
    return np.stack(((different + signs) / 2, logits.shape[1] - different))


def read_users(model: Ranker, held_out: EvaluationSet, rows: slice, *, corrected: bool = True) -> Any:
    """The model's users of a slice, with the cloud's answer or without."""
    ids = held_out.histories[rows].to(model.item_embedding.weight.device, torch.int64)
    return model.user_state(ids, corrected=corrected, memory=memory_of(model, held_out, rows))


def memory_of(model: Ranker, held_out: EvaluationSet, rows: slice) -> Tensor | None:
    """What the cloud reads of the users of a slice, ``[U, L_cloud]``; None where it reads the phone's clicks alone."""
    if not isinstance(model.gcn, VectorCloud):
        return None
    memory = held_out.memory(rows, model.gcn.length)
    if memory is None:
        raise UsageError(
            "this model's cloud reads more clicks than its held-out slice has: give the interactions with --data FILE"
        )
    return memory.to(model.item_embedding.weight.device)


def ways(model: Ranker) -> dict[str, bool]:
    """What is measured: ``corrected`` where the model has a cloud model, and ``alone``, as without a network."""
    return {"alone": False} if model.gcn is None else {"corrected": True, "alone": False}


def measure_ways(model: Ranker, held_out: EvaluationSet) -> dict[str, Measured]:
    """Both protocols for each of :func:`ways`."""
    return {way: measure(model, held_out, corrected=corrected) for way, corrected in ways(model).items()}


def sampled_metrics(measured: dict[str, Measured]) -> dict[str, dict[str, float]]:
    """Metrics among sampled negatives, by way."""
    return {way: each.sampled.means() for way, each in measured.items()}


def full_metrics(measured: dict[str, Measured]) -> dict[str, dict[str, float]]:
    """Metrics in the whole catalog, by way; empty where the held-out slice does not allow them."""
    return {way: each.full.means(FULL_METRICS) for way, each in measured.items() if each.full is not None}


def both_protocols(measured: Measured) -> dict[str, dict[str, float]]:
    """``sampled`` and, where it is known, ``full``."""
    full = {} if measured.full is None else {"full": measured.full.means(FULL_METRICS)}
    return {"sampled": measured.sampled.means()} | full


def evaluate_model(model: Ranker, held_out: EvaluationSet) -> dict[str, dict[str, float]]:
    """Metrics among sampled negatives: ``corrected`` where the model has a cloud model, and ``alone``."""
    return {
        way: measure(model, held_out, corrected=corrected, full=False).sampled.means()
        for way, corrected in ways(model).items()
    }


CONTROLS = ("other", "mean", "short")
"""Answers of the cloud in place of the user's own: another user's, the mean of all, and its own to fewer clicks."""


def evaluate_controls(
    model: CoCorrRec, held_out: EvaluationSet, alone: Measured, own: Measured, *, seed: int = 0
) -> tuple[dict[str, Measured], dict[str, dict[str, tuple[float, float]]]]:
    """Is it the user's own answer that helps?

    Args:
        model: with a cloud model.
        held_out: the users.
        alone: without an answer.
        own: with each user's own answer.
        seed: of whose answer each user gets instead.

    Returns:
        Each of :data:`CONTROLS`, measured; and ``own`` and each of them against ``alone``: the paired difference of
        each metric and its standard error over users.
    """
    users = len(held_out)
    other = _somebody_else(users, seed)
    mean = _mean_answer(model, held_out)

    def ids(rows: slice) -> Tensor:
        return held_out.histories[rows].to(model.item_embedding.weight.device, torch.int64)

    def others(rows: slice) -> Tensor:
        theirs = other[rows]
        memory = None
        if (reads := memory_of(model, held_out, slice(0, 1))) is not None:
            assert held_out.earlier is not None
            part = held_out.earlier
            memory = type(part)(part.items, part.starts[theirs], part.stops[theirs]).last(slice(None), reads.shape[1])
        histories = held_out.histories[torch.from_numpy(theirs)].to(model.item_embedding.weight.device, torch.int64)
        return model.fuse(ids(rows), model.answer(histories, memory))

    def averaged(rows: slice) -> Tensor:
        answer = type(mean)(*(x.expand(rows.stop - rows.start, *x.shape[1:]) for x in mean))
        return model.fuse(ids(rows), answer)

    def shortened(rows: slice) -> Tensor:
        return model.fuse(ids(rows), model.answer(ids(rows)))

    found = {
        name: measure(model, held_out, user=user)
        for name, user in zip(CONTROLS, (others, averaged, shortened), strict=True)
    }
    paired = {name: _paired(each, alone) for name, each in ({"own": own} | found).items()}
    return found, paired


def _somebody_else(users: int, seed: int) -> NDArray[np.int64]:
    """For each user another one, each once: one cycle through all."""
    order = np.random.default_rng(seed).permutation(users)
    other = np.empty(users, dtype=np.int64)
    other[order] = np.roll(order, 1)
    return other


@torch.no_grad()
def _mean_answer(model: CoCorrRec, held_out: EvaluationSet) -> Any:
    total: list[Tensor] = []
    kind: type[Any] = tuple
    for rows in held_out.batches(BATCH):
        ids = held_out.histories[rows].to(model.item_embedding.weight.device, torch.int64)
        answer = model.answer(ids, memory_of(model, held_out, rows))
        assert answer is not None
        sums = [x.double().sum(0, keepdim=True) for x in answer]
        total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
        kind = type(answer)
    return kind(*((x / len(held_out)).float() for x in total))


def _paired(each: Measured, base: Measured) -> dict[str, tuple[float, float]]:
    return {name: mean_and_error(values) for name, values in each.differences(base).items()}


@dataclass(frozen=True)
class LateMetrics:
    """What a model ranks like when a share of the cloud's answers comes late."""

    rate: float
    """Chance of each answer to be late."""
    mean: dict[str, float]
    """Each metric, over users and draws."""
    std: dict[str, float]
    """Its standard deviation over the draws: which users are late is chance."""


def evaluate_late(
    model: Ranker,
    held_out: EvaluationSet,
    rates: Sequence[float],
    *,
    draws: int,
    seed: int,
    measured: dict[str, Measured] | None = None,
) -> list[LateMetrics]:
    """Metrics by the share of late answers: a user whose answer is late is ranked without it.

    Args:
        model: with a GCN.
        held_out: the users.
        rates: chances to be late, each in [0, 1].
        draws: how often it is drawn which users are late.
        seed: of the draws.
        measured: of :func:`measure_ways`, where it is at hand.

    Raises:
        UsageError: the model has no GCN, so nothing can be late.
    """
    if model.gcn is None:
        raise UsageError("this model does not have a cloud model: no answer could be late")
    measured = measured or {
        way: measure(model, held_out, corrected=own, full=False) for way, own in ways(model).items()
    }
    corrected, alone = (_late_metrics(measured[way]) for way in ("corrected", "alone"))
    found = []
    for rate in rates:
        generator = np.random.default_rng(seed)  # the same draws for every rate
        of_draws: dict[str, list[float]] = {name: [] for name in corrected}
        for _ in range(draws):
            late = generator.random(len(held_out)) < rate
            for name, values in of_draws.items():
                values.append(float(np.where(late, alone[name], corrected[name]).mean()))
        found.append(
            LateMetrics(
                rate,
                {name: float(np.mean(values)) for name, values in of_draws.items()},
                {name: float(np.std(values)) for name, values in of_draws.items()},
            )
        )
    return found


def _late_metrics(measured: Measured) -> dict[str, NDArray[np.float64]]:
    per_user = measured.sampled.per_user()
    return {name: per_user[name] for name in measured.sampled.meaningful()}
