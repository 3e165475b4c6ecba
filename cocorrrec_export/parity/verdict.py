"""The verdict on a file: hop by hop, so that a failure names where it happened."""

from collections.abc import Callable
from dataclasses import replace

import torch

from cocorrrec_export.contract import ParityLimits, new_stream
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.errors import ParityError
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.parity.cases import stream_items
from cocorrrec_export.parity.outcome import RankingParity, Verdict, require_tensors
from cocorrrec_export.parity.ranking import gcn_ranking, scn_ranking
from cocorrrec_export.parity.tensors import Comparison, compare, tensor_parity
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
    probability: bool = False,
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
        probability: whether the file's scores are sigmoids of the model's.
        progress: receives what is being done.

    Raises:
        ParityError: the file is beyond the limits; names the hop and the worst tensor.
    """
    hop = f"the exported file in {runtime.executed_by}"
    progress("parity of tensors")
    tensors = tensor_parity(runtime.run, cases, runtime.entry_points)
    if {"step", "score"} <= runtime.entry_points.keys():
        stream = stream_parity(runtime, model, config, held_out, probability=probability)
        judged = tensors.judged_abs | {stream.name}
        tensors = replace(tensors, comparisons=(*tensors.comparisons, stream), judged_abs=judged)
    require_tensors(hop, tensors, limits)
    if held_out is None:
        reason = "the model ships no held-out users: give its interactions with --data"
        return Verdict(runtime.executed_by, tensors, RankingParity(0, None, None, reason))
    progress(f"parity of the ranking over {len(held_out)} users")
    is_gcn = "correct" in runtime.entry_points
    ranking = gcn_ranking(runtime, model, held_out) if is_gcn else scn_ranking(runtime, model, held_out)
    problems = ranking.problems(limits)
    if problems:
        raise ParityError(f"{hop} does not rank as the float32 model does:\n  " + "\n  ".join(problems))
    return Verdict(runtime.executed_by, tensors, ranking)


@torch.no_grad()
def stream_parity(
    runtime: Runtime,
    model: Ranker,
    config: ModelConfig,
    real: EvaluationSet | None,
    *,
    probability: bool = False,
) -> Comparison:
    """Clicks through the file's ``step``, each fed the last one's state, then ``score``: against all at once."""
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
    return compare(f"stream.{STREAM_CLICKS}clicks.scores", expected.numpy(), scores)
