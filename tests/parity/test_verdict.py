"""The verdict, over a runtime that computes with torch and can be told to be wrong."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from cocorrrec_export.artifact.recipe import shipped_recipe
from cocorrrec_export.contract import ParityLimits
from cocorrrec_export.data.evaluation_set import EarlierClicks, EvaluationSet
from cocorrrec_export.errors import ParityError
from cocorrrec_export.export.graphs import GraphSpec, gcn_graph, scn_graphs
from cocorrrec_export.metrics import FULL_METRICS, METRICS
from cocorrrec_export.parity.cases import gcn_cases, scn_cases
from cocorrrec_export.parity.outcome import Verdict
from cocorrrec_export.parity.ranking import scn_ranking
from cocorrrec_export.parity.vectors import Case
from cocorrrec_export.parity.verdict import judge
from cocorrrec_export.runtime.base import Arrays, check_inputs
from cocorrrec_export.training.scoring import evaluate_model, full_metrics, measure_ways
from tests.models import CONFIG, random_model, random_users

LIMITS = ParityLimits(max_abs=1e-4, max_rel=1e-4, top10_overlap=0.99, metrics_abs=5e-5, ndcg10_rel=1e-4)
LOOSE = ParityLimits(max_abs=100, max_rel=1, top10_overlap=0, metrics_abs=5e-5, ndcg10_rel=1e-4, ties=1)
Wrong = Callable[[str, Arrays, Arrays], Arrays]
MODEL = random_model()
USERS = random_users()


class TorchRuntime:
    """The graphs before conversion, behind the interface of a runtime."""

    executed_by = "torch"

    def __init__(self, graphs: list[GraphSpec], wrong: Wrong = lambda _entry, _inputs, outputs: outputs) -> None:
        self.graphs = {graph.name: graph for graph in graphs}
        self.entry_points = {graph.name: graph.contract for graph in graphs}
        self.wrong = wrong

    @torch.no_grad()
    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        contract = check_inputs(self.entry_points, entry_point, inputs)
        outputs = self.graphs[entry_point].module(*(torch.from_numpy(inputs[spec.name]) for spec in contract.inputs))
        named = {spec.name: x.numpy().copy() for spec, x in zip(contract.outputs, outputs, strict=True)}
        return self.wrong(entry_point, inputs, named)


def scn(wrong: Wrong = lambda _entry, _inputs, outputs: outputs) -> TorchRuntime:
    recipe = shipped_recipe("executorch-xnnpack-fp32").with_candidates(8)
    return TorchRuntime(scn_graphs(MODEL, CONFIG, recipe), wrong)


def verdict_on(runtime: TorchRuntime, limits: ParityLimits = LIMITS, users: EvaluationSet | None = USERS) -> Verdict:
    cases: list[Case] = (
        gcn_cases(MODEL, CONFIG, users)
        if "correct" in runtime.entry_points
        else scn_cases(MODEL, CONFIG, runtime.entry_points, users)
    )
    return judge(runtime, MODEL, CONFIG, cases, limits, users)


def test_the_phones_half() -> None:
    said = verdict_on(scn()).as_dict()
    assert said["verdict"] == "pass" and said["executed_by"] == "torch"
    assert said["tensors"]["max_rel"] < 1e-4
    ranking = said["ranking"]
    assert ranking["users"] == len(USERS) and ranking["reason"] is None
    expected = evaluate_model(MODEL, USERS)
    for way, key in (("alone", "metrics"), ("corrected", "metrics_corrected")):
        assert ranking[key].keys() == set(METRICS)
        for name, pair in ranking[key].items():
            assert pair["eager"] == pytest.approx(expected[way][name], abs=1e-9)
            assert pair["artifact"] == pytest.approx(pair["eager"], abs=5e-5)


def test_the_clouds_half() -> None:
    said = verdict_on(TorchRuntime([gcn_graph(MODEL, CONFIG)])).as_dict()
    assert said["ranking"]["metrics"] is None
    expected = evaluate_model(MODEL, USERS)["corrected"]
    for name, pair in said["ranking"]["metrics_corrected"].items():
        assert pair["eager"] == pytest.approx(expected[name], abs=1e-9)
        assert pair["artifact"] == pair["eager"]


def test_without_users_the_verdict_says_so() -> None:
    ranking = verdict_on(scn(), users=None).as_dict()["ranking"]
    assert ranking["users"] == 0 and ranking["metrics"] is None and "--data" in ranking["reason"]


def with_clicks(users: EvaluationSet = USERS) -> EvaluationSet:
    """The same users, with all that they had before: their histories, and three items more."""
    rows = [torch.cat([torch.tensor([7, 8, 9]), row[row != 0]]).int().numpy() for row in users.histories]
    stops = np.cumsum([len(row) for row in rows])
    return dataclasses.replace(
        users, earlier=EarlierClicks(np.concatenate(rows), np.concatenate([[0], stops[:-1]]), stops)
    )


@pytest.mark.parametrize("half", ["phone", "cloud"])
def test_the_whole_catalog_is_ranked_as_evaluate_does(half: str) -> None:
    users = with_clicks()
    said = verdict_on(scn() if half == "phone" else TorchRuntime([gcn_graph(MODEL, CONFIG)]), users=users).as_dict()
    full = said["ranking"]["full"]
    assert full["users"] == len(users)
    for way, key in (("alone", "metrics"), ("corrected", "metrics_corrected")):
        if half == "cloud" and way == "alone":
            assert full[key] is None
            continue
        expected = full_metrics(measure_ways(MODEL, users))[way]
        assert full[key].keys() == expected.keys() == set(FULL_METRICS)
        for name, pair in full[key].items():
            assert pair["eager"] == pytest.approx(expected[name], abs=1e-9)
            assert pair["artifact"] == pytest.approx(pair["eager"], abs=1e-3) and pair["standard_error"] < 1e-3


@pytest.mark.parametrize(("wanted", "ranked"), [(1, 1), (7, 7), (39, 20), (40, 40), (1000, 40)])
def test_users_of_the_whole_catalog_are_spread_over_all(wanted: int, ranked: int) -> None:
    found = scn_ranking(scn(), MODEL, with_clicks(), catalog_users=wanted).full
    assert found is not None and found.users == ranked


def test_what_sampled_negatives_do_not_show_fails_in_the_whole_catalog() -> None:
    """Items that no user has among the sampled candidates get the best scores."""
    users = with_clicks(random_users(dataclasses.replace(CONFIG, vocab_size=30)))

    def wrong(entry_point: str, inputs: Arrays, outputs: Arrays) -> Arrays:
        if entry_point != "rank":
            return outputs
        return {"scores": outputs["scores"] + np.float32(50) * (inputs["candidates"] >= 30)}

    found = scn_ranking(scn(wrong), MODEL, users)
    assert found.metrics is not None and found.metrics["ndcg@10"]["artifact"] == found.metrics["ndcg@10"]["eager"]
    problems = found.problems(LOOSE)
    assert problems and all("in the whole catalog" in line and "corrected" not in line for line in problems)


def off_by(amount: float, entry: str, tensor: str) -> Wrong:
    def wrong(entry_point: str, _inputs: Arrays, outputs: Arrays) -> Arrays:
        return outputs | {tensor: outputs[tensor] + np.float32(amount)} if entry_point == entry else outputs

    return wrong


def forgets_the_last_click(entry_point: str, inputs: Arrays, outputs: Arrays) -> Arrays:
    """Right on padded histories, wrong on full ones: what a test on short inputs would not see."""
    if entry_point == "rank" and inputs["ids"][0, -1] != 0:
        return outputs | {"scores": outputs["scores"][:, ::-1].copy()}
    return outputs


def never_commits(entry_point: str, inputs: Arrays, outputs: Arrays) -> Arrays:
    if entry_point == "step" and int(outputs["position_next"][0]) == 0:
        return outputs | {"W_next": inputs["W"]}
    return outputs


@pytest.mark.parametrize(
    ("wrong", "tensor"),
    [
        (off_by(0.01, "rank", "scores"), "rank."),
        (off_by(0.01, "rank_corrected", "scores"), "rank_corrected."),
        (off_by(0.01, "score", "scores"), ".scores"),  # of score, or of a stream that ends in it
        (off_by(0.1, "encode", "H"), "encode."),
        (off_by(0.1, "step", "grad_W_next"), "step."),
        (off_by(float("nan"), "rank", "scores"), "rank."),
        (forgets_the_last_click, "rank."),
        (never_commits, "step."),
    ],
)
def test_every_kind_of_wrong_is_found_and_named(wrong: Wrong, tensor: str) -> None:
    with pytest.raises(ParityError, match="the exported file in torch does not compute") as raised:
        verdict_on(scn(wrong))
    assert tensor in str(raised.value)
    assert "limits: max 0.0001, relative 0.0001" in str(raised.value)


def test_a_stream_that_drifts_is_found_although_each_step_is_near() -> None:
    """Each step is within the limits, thirty-five of them are not."""

    def drifts(entry_point: str, _inputs: Arrays, outputs: Arrays) -> Arrays:
        return outputs | {"W_next": outputs["W_next"] * np.float32(1.02)} if entry_point == "step" else outputs

    limits = ParityLimits(max_abs=0.05, max_rel=0.05, top10_overlap=0, metrics_abs=1, ndcg10_rel=1)
    with pytest.raises(ParityError, match=r"stream\.35clicks\.scores"):
        verdict_on(scn(drifts), limits)


def test_scores_that_are_near_and_rank_otherwise_are_found() -> None:
    def ties(entry_point: str, _inputs: Arrays, outputs: Arrays) -> Arrays:
        return outputs | {"scores": np.round(outputs["scores"] / 4)} if entry_point == "rank" else outputs

    message = r"does not rank as the float32 model does:\n  uauc: artifact 0\.\d{4}, float32"
    with pytest.raises(ParityError, match=message):
        verdict_on(scn(ties), LOOSE)


def test_corrections_that_rank_otherwise_are_found() -> None:
    def flipped(_entry: str, _inputs: Arrays, outputs: Arrays) -> Arrays:
        return outputs | {"k_b": outputs["k_b"][..., ::-1].copy()}

    limits = ParityLimits(max_abs=100, max_rel=100, top10_overlap=0, metrics_abs=1e-9, ndcg10_rel=0)
    with pytest.raises(ParityError, match="corrected: artifact"):
        verdict_on(TorchRuntime([gcn_graph(MODEL, CONFIG)], flipped), limits)


def test_every_row_is_looked_at() -> None:
    """One item's scores, or its upload, are those of another item; no test history or candidate list need have it."""
    item = 41

    def as_candidate(entry_point: str, inputs: Arrays, outputs: Arrays) -> Arrays:
        if entry_point == "rank" and inputs["ids"].all():
            scores = outputs["scores"].copy()
            scores[inputs["candidates"] == item] += 0.05
            return {"scores": scores}
        return outputs

    def as_click(entry_point: str, inputs: Arrays, outputs: Arrays) -> Arrays:
        if entry_point == "encode":
            return {"H": outputs["H"] + 0.02 * (inputs["ids"] == item)[:, :, None].astype(np.float32)}
        return outputs

    loose = dataclasses.replace(LOOSE, max_rel=0.05)
    for wrong, words in (
        (as_candidate, "rank differs from the float32 model by 0.05"),
        (as_click, "encode differs from the float32 model by 0.02"),
    ):
        with pytest.raises(ParityError, match=f"row {item} of the item table: {words}"):
            verdict_on(scn(wrong), loose)
    verdict_on(scn(), loose)


def test_the_worst_of_all_rows_is_what_the_manifest_says() -> None:
    def little(entry_point: str, inputs: Arrays, outputs: Arrays) -> Arrays:
        if entry_point == "rank":
            return {"scores": outputs["scores"] + 4e-5 * (inputs["candidates"] == 17)}
        return outputs

    said = verdict_on(scn(little)).as_dict()["tensors"]["max_abs"]
    assert 3e-5 < said < 6e-5
