"""The verdict on a file: hop by hop, so that a failure names where it happened."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cocorrrec_export.contract import ParityLimits, new_stream
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.errors import ParityError, listed
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.parity.cases import stream_items
from cocorrrec_export.parity.outcome import RankingParity, Verdict
from cocorrrec_export.parity.ranking import gcn_ranking, scn_ranking
from cocorrrec_export.parity.rows import MANY_USERS, RowParity, reads_rows, row_parity, wrong_rows
from cocorrrec_export.parity.tensors import Comparison, compare, score_scale, tensor_parity
from cocorrrec_export.parity.vectors import Case
from cocorrrec_export.runtime.base import Arrays, Runtime, score_list

STREAM_CLICKS = 35


def judge(
    runtime: Runtime,
    model: Ranker,
    config: ModelConfig,
    cases: list[Case],
    limits: ParityLimits,
    held_out: EvaluationSet | None,
    *,
    graph: Runtime | None = None,
    two_tables: bool = False,
    probability: bool = False,
    catalog_users: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Judge an exported file through its runtime.

    Args:
        runtime: the loaded file.
        model: the plain float32 model.
        config: its sizes.
        cases: level 1.
        limits: of the recipe.
        held_out: level 2; None leaves it out, and the verdict says so.
        graph: what the file was converted from; None compares it with the model alone.
        two_tables: whether clicks are looked up in another table than candidates.
        probability: whether the file's scores are sigmoids of the model's.
        catalog_users: as in :func:`~cocorrrec_export.parity.ranking.scn_ranking`.
        progress: receives what is being done.

    Raises:
        ParityError: the file is beyond the limits; names the hop and the worst tensor.
    """
    hop = f"the exported file in {runtime.executed_by}"
    progress("parity of tensors")
    tensors = tensor_parity(runtime.run, cases, runtime.entry_points)
    if {"step", "score"} <= runtime.entry_points.keys():
        stream = stream_parity(runtime, model, config, held_out, probability=probability, scale=score_scale(cases))
        judged = tensors.judged_abs | {stream.name}
        tensors = replace(tensors, comparisons=(*tensors.comparisons, stream), judged_abs=judged)
    problems = tensors.problems(limits)
    if reads_rows(runtime):
        progress("parity of every row of the item table")
    how: Any = {"graph": graph, "two_tables": two_tables, "probability": probability}
    rows = row_parity(runtime, model, _histories(cases, config, held_out), limits, **how)
    problems += [problem for row in rows if (problem := row.problem())]
    if problems:
        named = wrong_rows(runtime, model, length=config.sequence_length, **how)
        problems += [f"rows of the item table that are others: {listed(map(str, named), count=5)}"] if named else []
    seen = [row.max_abs for row in rows if row.of_scores and row.against == RowParity.against]
    tensors = replace(tensors, over_all_rows=max(seen, default=0.0))
    if problems:
        raise ParityError(f"{hop} does not compute what the float32 model does:\n  " + "\n  ".join(problems))
    if held_out is None:
        reason = "the model ships no held-out users: give its interactions with --data"
        return Verdict(runtime.executed_by, tensors, RankingParity(0, None, None, reason))
    progress(f"parity of the ranking over {len(held_out)} users")
    is_gcn = "correct" in runtime.entry_points
    ranking = (
        gcn_ranking(runtime, model, held_out)
        if is_gcn
        else scn_ranking(runtime, model, held_out, catalog_users=catalog_users)
    )
    if problems := ranking.problems(limits):
        raise ParityError(f"{hop} does not rank as the float32 model does:\n  " + "\n  ".join(problems))
    return Verdict(runtime.executed_by, tensors, replace(ranking, interactions=held_out.compared))


def _histories(cases: list[Case], config: ModelConfig, held_out: EvaluationSet | None) -> NDArray[np.int32]:
    """Histories to score every item for: held-out users, or those of the cases, the longest first."""
    if held_out is not None:
        rows = held_out.histories.numpy().astype(np.int32)
    else:
        found = [case.inputs["ids"][0] for case in cases if "ids" in case.inputs]
        rows = np.stack(found or [np.ones(config.sequence_length)]).astype(np.int32)
    return rows[np.argsort(-(rows != 0).sum(axis=1), kind="stable")[:MANY_USERS]]


@torch.no_grad()
def stream_parity(
    runtime: Runtime,
    model: Ranker,
    config: ModelConfig,
    real: EvaluationSet | None,
    *,
    probability: bool = False,
    scale: float = 0.0,
) -> Comparison:
    """Clicks through the file's ``step``, each fed the last one's state, then ``score``: against all at once.

    ``scale`` is what the relative difference is over, as of the other scores.
    """
    contract = runtime.entry_points["step"]
    items = stream_items(config, real, STREAM_CLICKS)
    names = [spec.name for spec in contract.inputs[1:]]
    state: Arrays = new_stream(contract)
    outputs = {}
    for item in items:
        outputs = runtime.run("step", {"item": item.to(torch.int32).numpy()} | state)
        following = [outputs[spec.name] for spec in contract.outputs[: len(names)]]
        state = dict(zip(names, following, strict=True))
    candidates = torch.arange(1, min(config.vocab_size, 201))
    scores = score_list(runtime, "score", {"user": outputs["user"]}, candidates.numpy())
    ids = torch.stack(items, dim=1)  # [1, clicks]
    expected = model(ids, candidates[None], corrected=False)[0]
    if probability:
        expected = torch.sigmoid(expected)
    return compare(f"stream.{STREAM_CLICKS}clicks.scores", expected.numpy(), scores, scale=scale)
