"""Whom the examples show: somebody whose long history matters, found by a rule and not by hand."""

import numpy as np

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.runtime.base import Runtime, score_list

MEMORY = 50  # clicks that the cloud reads; the phone has the last ten of them


def place(scores: np.ndarray) -> int:
    """The place of the film watched next, which is the first candidate; a tie counts against it."""
    return 1 + int((scores[1:] >= scores[0]).sum())


def most_helped(scn: Runtime, gcn: Runtime, held_out: EvaluationSet) -> int:
    """Of the held-out users with at least 50 earlier clicks, the one whose next film the cloud's answer lifts most.

    It shows what an answer can do; what it does on average: cocorr-export evaluate --controls.
    """
    assert held_out.earlier is not None
    gains = {}
    for user in np.flatnonzero(held_out.earlier.stops - held_out.earlier.starts >= MEMORY):
        rows = slice(user, user + 1)
        ids, candidates = held_out.histories[rows].numpy(), held_out.candidates[user, :100].numpy()
        answer = gcn.run("correct", {"ids": held_out.memory(rows, MEMORY).int().numpy()})
        alone = score_list(scn, "rank", {"ids": ids}, candidates)
        corrected = score_list(scn, "rank_corrected", {"ids": ids} | answer, candidates)
        gains[int(user)] = place(alone) - place(corrected)
    return max(gains, key=gains.get)
