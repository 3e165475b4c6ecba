"""Score candidate lists with a model, each history's state computed once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.errors import UsageError
from cocorrrec_export.metrics import per_user_metrics, ranking_metrics
from cocorrrec_export.modeling.ranker import Ranker


@torch.no_grad()
def score_candidates(
    model: Ranker, histories: Tensor, candidates: Tensor, *, corrected: bool = True, batch_size: int = 1024
) -> NDArray[np.float32]:
    """Logits of every candidate.

    Args:
        model: in evaluation mode.
        histories: ``[U, L]`` int64, right-padded with 0.
        candidates: ``[U, C]`` int64.
        corrected: whether the cloud's correction arrives.
        batch_size: users a step.

    Returns:
        ``[U, C]`` float32. The order of the logits is that of the scores.
    """
    device = model.item_embedding.weight.device
    # The item side does not depend on the user: once for the whole table instead of once for each candidate.
    items = model.item_side(model.item_embedding.weight)  # [V, D]
    rows = []
    for ids, targets in zip(histories.split(batch_size), candidates.split(batch_size), strict=True):
        user = model.user_state(ids.to(device), corrected=corrected)
        rows.append(model.match(user, items[targets.to(device)]).cpu())
    return torch.cat(rows).numpy()


def evaluate_model(model: Ranker, held_out: EvaluationSet) -> dict[str, dict[str, float]]:
    """Metrics on a held-out set: ``corrected`` where the model has a GCN, and ``alone``, as without a network."""
    ways = {"alone": False} if model.gcn is None else {"corrected": True, "alone": False}
    return {
        way: ranking_metrics(score_candidates(model, held_out.histories, held_out.candidates, corrected=corrected))
        for way, corrected in ways.items()
    }


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
    model: Ranker, held_out: EvaluationSet, rates: Sequence[float], *, draws: int, seed: int
) -> list[LateMetrics]:
    """Metrics by the share of late answers: a user whose answer is late is ranked without it.

    Args:
        model: with a GCN.
        held_out: the users.
        rates: chances to be late, each in [0, 1].
        draws: how often it is drawn which users are late.
        seed: of the draws.

    Raises:
        UsageError: the model has no GCN, so nothing can be late.
    """
    if model.gcn is None:
        raise UsageError("this model has no GCN: there is no answer that could be late")
    corrected, alone = (
        per_user_metrics(score_candidates(model, held_out.histories, held_out.candidates, corrected=way))
        for way in (True, False)
    )
    found = []
    for rate in rates:
        late = np.random.default_rng(seed).random((draws, len(held_out))) < rate  # the same draws for every rate
        of_draws = {name: np.where(late, alone[name], corrected[name]).mean(1) for name in corrected}
        found.append(
            LateMetrics(
                rate,
                {name: float(values.mean()) for name, values in of_draws.items()},
                {name: float(values.std()) for name, values in of_draws.items()},
            )
        )
    return found
