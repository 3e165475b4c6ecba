"""Level 2: the ranking metrics of a file on held-out users against those of the float32 model."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.contract import CANDIDATES
from cocorrrec_export.data.evaluation_set import EarlierClicks, EvaluationSet
from cocorrrec_export.metrics import FULL_METRICS, Places, catalog_places, mean_and_error, places
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.vector import VectorCloud
from cocorrrec_export.parity.outcome import CatalogParity, Pairs, RankingParity
from cocorrrec_export.runtime.base import Arrays, Runtime, score_list

BATCH = 256
"""Users at a time."""
CATALOG_BATCH = 8
"""Users at a time in the whole catalog."""
CATALOG_CALLS, CATALOG_SCORES = 10_000, 100_000_000
"""Calls of an on-device file's entry point, and scores by a cloud file's answers, that the whole catalog may take: each
about a second."""
Sides = tuple[tuple[NDArray[np.int64], ...], tuple[NDArray[np.int64], ...]]
"""Above, tied, and in the whole catalog how many there were: by the float32 model, and by the file."""


@torch.no_grad()
def scn_ranking(
    runtime: Runtime, model: Ranker, held_out: EvaluationSet, *, catalog_users: int | None = None
) -> RankingParity:
    """Metrics of ``rank``, and of ``rank_corrected`` with the float32 cloud model's answers.

    Memory does not grow with the users: of each, its positive's place is kept.

    Args:
        runtime: the loaded file.
        model: the plain float32 model.
        held_out: its users, all of whom are ranked among their sampled negatives.
        catalog_users: how many of them are ranked in the whole catalog, which takes V / C calls for each; None: as many
            as :data:`CATALOG_CALLS` allow.
    """
    cloud = model if isinstance(model, CoCorrRec) and model.gcn is not None else None
    entry_points: list[str] = [name for name in ("rank", "rank_corrected") if name in runtime.entry_points]
    if cloud is None or not _memory_known(cloud, held_out):
        entry_points = [name for name in entry_points if name == "rank"]
    sampled: dict[str, list[Sides]] = {name: [] for name in entry_points}
    for rows in held_out.batches(BATCH):
        candidates = held_out.candidates[rows].numpy().astype(np.int32)
        for name, inputs in _inputs(entry_points, cloud, held_out, rows).items():
            eager = _eager(model, held_out, rows, corrected=name == "rank_corrected")
            scores = [score_list(runtime, name, own, items) for own, items in zip(inputs, candidates, strict=True)]
            sampled[name].append((places(eager), places(np.stack(scores))))
    negatives = held_out.candidates.shape[1] - 1
    full = None
    if entry_points and held_out.earlier is not None:
        full = _scn_in_catalog(runtime, model, cloud, held_out, held_out.earlier, entry_points, catalog_users)
    return RankingParity(
        len(held_out),
        _metrics(sampled.get("rank", []), negatives),
        _metrics(sampled.get("rank_corrected", []), negatives),
        None if sampled else "no entry point takes a history and candidates",
        full=full,
    )


def _inputs(
    entry_points: list[str], cloud: CoCorrRec | None, held_out: EvaluationSet, rows: slice
) -> dict[str, list[Arrays]]:
    """What each entry point takes of each user of a slice, but for the candidates."""
    ids = held_out.histories[rows].long()
    own: Arrays = {"ids": ids.to(torch.int32).numpy()}
    found = dict.fromkeys(entry_points, own)
    if cloud is not None and "rank_corrected" in found:
        answer = cloud.answer(ids, _memory(cloud, held_out, rows))
        assert answer is not None
        found["rank_corrected"] = own | {name: value.numpy() for name, value in answer._asdict().items()}
    return {
        name: [{key: value[user : user + 1] for key, value in inputs.items()} for user in range(len(ids))]
        for name, inputs in found.items()
    }


def _scn_in_catalog(
    runtime: Runtime,
    model: Ranker,
    cloud: CoCorrRec | None,
    held_out: EvaluationSet,
    earlier: EarlierClicks,
    entry_points: list[str],
    users: int | None,
) -> CatalogParity:
    items = np.arange(1, model.item_embedding.num_embeddings, dtype=np.int32)
    vectors = model.candidate_vectors(model.item_embedding.weight, None)
    candidates = next(spec for spec in runtime.entry_points[entry_points[0]].inputs if spec.name == CANDIDATES)
    calls = -(-len(items) // int(candidates.shape[1]))
    every = _every(held_out, CATALOG_CALLS // calls if users is None else users)
    found: dict[str, list[Sides]] = {name: [] for name in entry_points}
    for rows in held_out.batches(CATALOG_BATCH, every=every):
        for name, inputs in _inputs(entry_points, cloud, held_out, rows).items():
            actual = np.full((len(inputs), len(items) + 1), -np.inf, np.float32)
            actual[:, 1:] = [score_list(runtime, name, own, items) for own in inputs]
            eager = model.match_all(_user(model, held_out, rows, corrected=name == "rank_corrected"), vectors)
            found[name].append(_in_catalog(eager.numpy(), actual, held_out, earlier, rows))
    metrics = (_catalog_metrics(found.get(name, [])) for name in ("rank", "rank_corrected"))
    return CatalogParity(len(range(0, len(held_out), every)), *metrics)


@torch.no_grad()
def gcn_ranking(runtime: Runtime, model: Ranker, held_out: EvaluationSet) -> RankingParity:
    """Metrics of the float32 on-device model with the file's answers against those with the float32 cloud model's."""
    assert isinstance(model, CoCorrRec)
    if not _memory_known(model, held_out):
        return RankingParity(0, None, None, "the held-out slice does not have the clicks that the cloud reads")
    (contract,) = runtime.entry_points.values()

    def users(rows: slice) -> tuple[Tensor, Tensor]:
        """With the float32 model's answers, and with the file's."""
        ids, memory = held_out.histories[rows].long(), _memory(model, held_out, rows)
        upload = {"H": model.scn.encode(ids)} if memory is None else {"ids": memory.to(torch.int32)}
        outputs = runtime.run(contract.name, {name: value.numpy() for name, value in upload.items()})
        expected = model.answer(ids, memory)
        answer = type(expected)(*(torch.from_numpy(outputs[spec.name]) for spec in contract.outputs))  # type: ignore[misc]
        return model.fuse(ids, expected), model.fuse(ids, answer)

    sampled: list[Sides] = []
    for rows in held_out.batches(BATCH):
        items = model.item_vectors(held_out.candidates[rows].long())
        reference, found = (places(model.match(user, items).numpy()) for user in users(rows))
        sampled.append((reference, found))
    metrics = _metrics(sampled, held_out.candidates.shape[1] - 1)
    if held_out.earlier is None:
        return RankingParity(len(held_out), None, metrics)
    vectors = model.candidate_vectors(model.item_embedding.weight, None)
    every = _every(held_out, CATALOG_SCORES // len(vectors))
    catalog = []
    for rows in held_out.batches(CATALOG_BATCH, every=every):
        eager, actual = (model.match_all(user, vectors).numpy() for user in users(rows))
        catalog.append(_in_catalog(eager, actual, held_out, held_out.earlier, rows))
    full = CatalogParity(len(range(0, len(held_out), every)), None, _catalog_metrics(catalog))
    return RankingParity(len(held_out), None, metrics, full=full)


def _every(held_out: EvaluationSet, users: int) -> int:
    """The first of how many users are looked at, for at most ``users``, and at least one."""
    return -(-len(held_out) // max(1, users))


def _memory(model: CoCorrRec, held_out: EvaluationSet, rows: slice) -> Tensor | None:
    return held_out.memory(rows, model.gcn.length) if isinstance(model.gcn, VectorCloud) else None


def _memory_known(model: CoCorrRec, held_out: EvaluationSet) -> bool:
    return held_out.earlier is not None or not isinstance(model.gcn, VectorCloud)


def _user(model: Ranker, held_out: EvaluationSet, rows: slice, *, corrected: bool) -> Any:
    memory = _memory(model, held_out, rows) if isinstance(model, CoCorrRec) else None
    return model.user_state(held_out.histories[rows].long(), corrected=corrected, memory=memory)


def _eager(model: Ranker, held_out: EvaluationSet, rows: slice, *, corrected: bool) -> NDArray[np.float32]:
    user = _user(model, held_out, rows, corrected=corrected)
    scores: Tensor = model.match(user, model.item_vectors(held_out.candidates[rows].long()))
    return scores.numpy()


def _in_catalog(
    eager: NDArray[np.float32],
    actual: NDArray[np.float32],
    held_out: EvaluationSet,
    earlier: EarlierClicks,
    rows: slice,
) -> Sides:
    targets = held_out.candidates[rows, 0].numpy()
    user, item = earlier.pairs(rows)
    reference, found = (catalog_places(x, targets, user, item) for x in (eager, actual))
    return reference, found


def _sides(pairs: list[Sides]) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """The parts of :data:`Sides` over all users, by the float32 model and by the file."""
    reference, actual = (
        [np.concatenate(parts) for parts in zip(*side, strict=True)] for side in zip(*pairs, strict=True)
    )
    return reference, actual


def _metrics(pairs: list[Sides], negatives: int) -> Pairs | None:
    """Metrics of the float32 model, and of the file's scores; None where there are none."""
    if not pairs:
        return None
    eager, artifact = (Places(above, tied, negatives).means() for above, tied in _sides(pairs))
    return {name: {"eager": eager[name], "artifact": artifact[name]} for name in eager}


def _catalog_metrics(pairs: list[Sides]) -> Pairs | None:
    """The same in the whole catalog, with the paired standard error."""
    if not pairs:
        return None
    eager, artifact = (Places(*side).per_user() for side in _sides(pairs))
    found = {}
    for name in FULL_METRICS:
        difference, error = mean_and_error(artifact[name] - eager[name])
        mean = float(eager[name].mean())
        found[name] = {"eager": mean, "artifact": mean + difference, "standard_error": error}
    return found
