"""Level 2: the ranking metrics of a file on held-out users against those of the float32 model."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.metrics import Places, places
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.vector import VectorCloud
from cocorrrec_export.parity.outcome import RankingParity
from cocorrrec_export.runtime.base import Runtime, score_list

BATCH = 256
"""Users at a time."""
Sides = tuple[tuple[NDArray[np.int64], NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Places, above and tied, by the float32 model and by the file."""


@torch.no_grad()
def scn_ranking(runtime: Runtime, model: Ranker, held_out: EvaluationSet) -> RankingParity:
    """Metrics of ``rank``, and of ``rank_corrected`` with the float32 cloud model's answers, over all users.

    Memory does not grow with the users: of each, its positive's place is kept.
    """
    cloud = model if isinstance(model, CoCorrRec) and model.gcn is not None else None
    entry_points = [name for name in ("rank", "rank_corrected") if name in runtime.entry_points]
    if cloud is None or not _memory_known(cloud, held_out):
        entry_points = [name for name in entry_points if name == "rank"]
    found: dict[str, list[Sides]] = {name: [] for name in entry_points}
    for rows in held_out.batches(BATCH):
        ids, candidates = held_out.histories[rows].long(), held_out.candidates[rows].long()
        answer = cloud.answer(ids, _memory(cloud, held_out, rows)) if cloud and "rank_corrected" in found else None
        for name, pairs in found.items():
            own = answer._asdict() if answer is not None and name == "rank_corrected" else {}
            eager = _eager(model, held_out, rows, corrected=bool(own))
            scores = []
            for index in range(len(ids)):
                inputs = {"ids": ids[index : index + 1].to(torch.int32).numpy()}
                inputs |= {key: value[index : index + 1].numpy() for key, value in own.items()}
                items = candidates[index].to(torch.int32).numpy()
                scores.append(np.atleast_2d(score_list(runtime, name, inputs, items)))
            pairs.append((places(eager), places(np.concatenate(scores))))
    negatives = held_out.candidates.shape[1] - 1
    return RankingParity(
        len(held_out),
        _metrics(found.get("rank", []), negatives),
        _metrics(found.get("rank_corrected", []), negatives),
        None if found else "no entry point takes a history and candidates",
    )


@torch.no_grad()
def gcn_ranking(runtime: Runtime, model: Ranker, held_out: EvaluationSet) -> RankingParity:
    """Metrics of the float32 on-device model with the file's answers against those with the float32 cloud model's."""
    assert isinstance(model, CoCorrRec)
    if not _memory_known(model, held_out):
        return RankingParity(0, None, None, "the held-out slice does not have the clicks that the cloud reads")
    (contract,) = runtime.entry_points.values()
    pairs: list[Sides] = []
    for rows in held_out.batches(BATCH):
        ids, candidates = held_out.histories[rows].long(), held_out.candidates[rows].long()
        memory = _memory(model, held_out, rows)
        upload = {"H": model.scn.encode(ids)} if memory is None else {"ids": memory.to(torch.int32)}
        outputs = runtime.run(contract.name, {name: value.numpy() for name, value in upload.items()})
        expected = model.answer(ids, memory)
        answer = type(expected)(*(torch.from_numpy(outputs[spec.name]) for spec in contract.outputs))  # type: ignore[misc]
        scores = model.match(model.fuse(ids, answer), model.item_vectors(candidates))
        pairs.append((places(_eager(model, held_out, rows, corrected=True)), places(scores.numpy())))
    return RankingParity(len(held_out), None, _metrics(pairs, held_out.candidates.shape[1] - 1))


def _memory(model: CoCorrRec, held_out: EvaluationSet, rows: slice) -> Tensor | None:
    return held_out.memory(rows, model.gcn.length) if isinstance(model.gcn, VectorCloud) else None


def _memory_known(model: CoCorrRec, held_out: EvaluationSet) -> bool:
    return held_out.earlier is not None or not isinstance(model.gcn, VectorCloud)


def _eager(model: Ranker, held_out: EvaluationSet, rows: slice, *, corrected: bool) -> NDArray[np.float32]:
    memory = _memory(model, held_out, rows) if isinstance(model, CoCorrRec) else None
    ids, candidates = held_out.histories[rows].long(), held_out.candidates[rows].long()
    scores: Tensor = model(ids, candidates, corrected=corrected, memory=memory)
    return scores.numpy()


def _metrics(pairs: list[Sides], negatives: int) -> dict[str, dict[str, float]] | None:
    """Metrics of the float32 model, and of the file's scores; None where there are none."""
    if not pairs:
        return None
    sides = [[np.concatenate(parts) for parts in zip(*(pair[side] for pair in pairs), strict=True)] for side in (0, 1)]
    reference, actual = (Places(above, tied, negatives) for above, tied in sides)
    eager, artifact = reference.means(), actual.means()
    return {name: {"eager": eager[name], "artifact": artifact[name]} for name in eager}
