"""Level 2: the ranking metrics of a file on held-out users against those of the float32 model."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cocorrrec_export.contract import ParityLimits
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.metrics import ranking_metrics
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.ttt import Correction
from cocorrrec_export.runtime.base import Runtime, score_list

"""Hears of users done, of how many."""


@dataclass(frozen=True)
class RankingParity:
    """Metrics of the float32 model and of the file; ``reason`` says why there are none."""

    users: int
    metrics: dict[str, dict[str, float]] | None
    """Without a correction: metric to ``eager`` and ``artifact``."""
    metrics_corrected: dict[str, dict[str, float]] | None
    reason: str | None = None

    def problems(self, limits: ParityLimits) -> list[str]:
        """What is beyond the limits."""
        found = []
        for way, metrics in (("", self.metrics), (" corrected", self.metrics_corrected)):
            for name, pair in (metrics or {}).items():
                difference = abs(pair["artifact"] - pair["eager"])
                line = f"{name}{way}: artifact {pair['artifact']:.4f}, float32 model {pair['eager']:.4f}"
                if difference > limits.metrics_abs:
                    found.append(f"{line}, limit {limits.metrics_abs:g}")
                elif name == "ndcg@10" and difference > limits.ndcg10_rel * pair["eager"]:
                    found.append(f"{line}, limit {limits.ndcg10_rel:g} relative")
        return found


@torch.no_grad()
def scn_ranking(runtime: Runtime, model: Ranker, held_out: EvaluationSet) -> RankingParity:
    """Metrics of ``rank``, and of ``rank_corrected`` with the float32 GCN's corrections, over all users."""
    users = len(held_out)
    cloud = model if isinstance(model, CoCorrRec) else None
    correction = cloud.correction(cloud.scn.encode(held_out.histories)) if cloud else None
    alone, corrected = [], []
    ids, candidates = (x.to(torch.int32).numpy() for x in (held_out.histories, held_out.candidates))
    for user in range(users):
        inputs = {"ids": ids[user : user + 1]}
        if "rank" in runtime.entry_points:
            alone.append(score_list(runtime, "rank", inputs, candidates[user]))
        if "rank_corrected" in runtime.entry_points and correction is not None:
            answer = {name: getattr(correction, name)[user : user + 1].numpy() for name in ("k_attn", "k_b")}
            corrected.append(score_list(runtime, "rank_corrected", inputs | answer, candidates[user]))
    return RankingParity(
        users,
        _pairs(model, held_out, alone, corrected=False),
        _pairs(model, held_out, corrected, corrected=True),
        None if alone or corrected else "no entry point takes a history and candidates",
    )


@torch.no_grad()
def gcn_ranking(runtime: Runtime, model: Ranker, held_out: EvaluationSet, *, batch_size: int = 256) -> RankingParity:
    """Metrics of the float32 SCN with the file's corrections against those with the float32 GCN's."""
    assert isinstance(model, CoCorrRec)
    H = model.scn.encode(held_out.histories)
    answers = [runtime.run("correct", {"H": part.numpy()}) for part in H.split(batch_size)]
    k_attn, k_b = (torch.from_numpy(np.concatenate([x[name] for x in answers])) for name in ("k_attn", "k_b"))
    actual = model.scn(held_out.histories, held_out.candidates, Correction(k_attn, k_b))
    metrics = _pairs(model, held_out, [torch.sigmoid(actual).numpy()], corrected=True)
    return RankingParity(len(held_out), None, metrics)


def _pairs(
    model: Ranker, held_out: EvaluationSet, artifact: list[NDArray[np.float32]], *, corrected: bool
) -> dict[str, dict[str, float]] | None:
    """Metrics of the float32 model, and of the file's scores; None where there are none."""
    if not artifact:
        return None
    eager = torch.sigmoid(model(held_out.histories, held_out.candidates, corrected=corrected)).numpy()
    reference, actual = ranking_metrics(eager), ranking_metrics(np.concatenate([np.atleast_2d(x) for x in artifact]))
    return {name: {"eager": reference[name], "artifact": actual[name]} for name in reference}
