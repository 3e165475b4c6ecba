"""What the phone does in each scenario of mobile_host: this phone writes the answers that the apps must give too.

After a change of the protocol: COCORRREC_WRITE_SCENARIOS=1 python -m pytest tests/serving/test_scenarios.py
"""

import asyncio
import json
import os
import time
from typing import Any

import numpy as np
import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.contract import EntryPoint, new_stream
from cocorrrec_export.runtime.base import Arrays, check_inputs, id_problem
from cocorrrec_export.serving.client import GcnClient
from cocorrrec_export.serving.phone import Phone
from mobile_host.scripted_server import SCENARIOS, ScriptedServer, scripted_server

FILE: dict[str, Any] = json.loads(SCENARIOS.read_text())
KINDS = ["kernel", "vector"]
EXCHANGES: list[dict[str, Any]] = FILE["exchanges"]


class StandIn:
    """The model that the file describes."""

    executed_by = "test"

    def __init__(self, contract: dict[str, EntryPoint]) -> None:
        self.entry_points = contract

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        check_inputs(self.entry_points, entry_point, inputs)
        if entry_point == "encode":
            H = np.zeros((1, FILE["sequence_length"], 64), np.float32)
            H[0, :, 0] = inputs["ids"][0]
            return {"H": H}
        if entry_point == "step":
            total, position = 2 * inputs["sum"] + inputs["item"].astype(np.float32), inputs["position"] + 1
            user = np.array([[total[0], position[0]]], np.float32)
            return {"sum_next": total, "position_next": position, "user": user}
        extra = [inputs[x.name].flat[0] for x in self.entry_points[entry_point].inputs[2:]]
        bonus = np.float32(sum(place * value for place, value in enumerate(extra, start=1)))
        return {"scores": inputs["candidates"].astype(np.float32) / 8 + bonus}


def contract(kind: str) -> dict[str, EntryPoint]:
    """Entry points by name."""
    return {entry.name: entry for entry in Artifact(path=SCENARIOS, manifest=FILE["kinds"][kind]).entry_points}


def last_known(scenario: dict[str, Any], length: int) -> np.ndarray:
    """``[1, length]``: the last clicks on items that the model knows, padded with 0 on the right."""
    known = [item for item in scenario["history"] if 0 < item < FILE["vocab_size"]][-length:]
    return np.array([known + [0] * (length - len(known))], np.int32)


def run(kind: str, scenario: dict[str, Any], server: ScriptedServer) -> dict[str, Any]:
    """What came of it, as the file has it."""
    ids = last_known(scenario, FILE["sequence_length"])
    candidates = np.array(scenario["candidates"])

    async def go() -> dict[str, Any]:
        address = f"{server.address}/{kind}/{scenario['name']}"
        limit = scenario["limit_ms"] / 1e3
        async with GcnClient(address, version=FILE["version"], deadline_s=limit) as client:
            phone = Phone(StandIn(contract(kind)), client, deadline_s=scenario["deadline_ms"] / 1e3)
            pending = phone.begin(ids, memory(kind, scenario))
            ranking = await pending.rank(candidates)
            again = await pending.rerank(candidates)
            return {
                "corrected": ranking.corrected,
                "scores": ranking.scores.tolist(),
                "reranked": None if again is None else again.scores.tolist(),
                "counts": vars(phone.counts),
            }

    return asyncio.run(go())


def memory(kind: str, scenario: dict[str, Any]) -> np.ndarray | None:
    """What the phone of a model uploads whose cloud answers with a vector: more clicks than it ranks with."""
    if kind == "kernel":
        return None
    return last_known(scenario, FILE["kinds"][kind]["cloud"]["inputs"][0]["shape"][1])


@pytest.mark.parametrize("scenario", EXCHANGES, ids=lambda scenario: scenario["name"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_phone_does_what_the_file_says(kind: str, scenario: dict[str, Any]) -> None:
    with scripted_server() as server:
        start = time.perf_counter()
        came = run(kind, scenario, server)
        seconds = time.perf_counter() - start
    if os.environ.get("COCORRREC_WRITE_SCENARIOS"):
        scenario.setdefault("expect", {})[kind] = came
        SCENARIOS.write_text(json.dumps(FILE, indent=1) + "\n", encoding="utf-8")
    assert came == scenario["expect"][kind]
    assert seconds < 15, "nothing in the file waits for its 20 seconds"


def test_the_file_has_every_outcome() -> None:
    outcomes = [scenario["expect"]["kernel"] for scenario in EXCHANGES]
    for name in ("sent", "fused", "alone", "failed", "late", "reranked"):
        assert {outcome["counts"][name] for outcome in outcomes} == {0, 1}, name
    assert all(outcome["corrected"] == (outcome["counts"]["fused"] == 1) for outcome in outcomes)


def test_unknown_items_change_nothing() -> None:
    by_name = {scenario["name"]: scenario["expect"] for scenario in EXCHANGES}
    assert by_name["unknown-items"] == by_name["answer-early-long-history"]
    assert by_name["only-unknown-items"] == by_name["empty-history"]


STREAMS: list[dict[str, Any]] = FILE["streams"]


def streamed(scenario: dict[str, Any]) -> dict[str, Any]:
    """What a stream gives: where it was put away and restored must make no difference."""
    model = StandIn(contract("kernel"))
    state, users = new_stream(model.entry_points["step"]), []
    for item in scenario["clicks"]:
        outputs = model.run("step", {"item": np.array([item], np.int32)} | state)
        state = {name: outputs[f"{name}_next"] for name in state}
        users.append(outputs["user"][0].tolist())
    saved_by, version = scenario["saved_by"], FILE["version"]
    error = None if saved_by == version else f"a stream of version {saved_by}, the program is {version}"
    return {"users": users, "error": error}


@pytest.mark.parametrize("scenario", STREAMS, ids=lambda scenario: scenario["name"])
def test_a_stream_gives_what_the_file_says(scenario: dict[str, Any]) -> None:
    came = streamed(scenario)
    if os.environ.get("COCORRREC_WRITE_SCENARIOS"):
        scenario["expect"] = came
        SCENARIOS.write_text(json.dumps(FILE, indent=1) + "\n", encoding="utf-8")
    assert came == scenario["expect"]


def test_the_streams_are_restored_before_between_and_after_clicks_and_refused() -> None:
    places = {after for scenario in STREAMS if not scenario["expect"]["error"] for after in scenario["restored_after"]}
    assert places >= {0, 1, max(len(scenario["clicks"]) for scenario in STREAMS)}
    assert any(scenario["expect"]["error"] for scenario in STREAMS)


IDS = SCENARIOS.with_name("ids.json")
BORDER: dict[str, Any] = json.loads(IDS.read_text())


def refused(case: dict[str, Any]) -> str | None:
    """What is wrong with a case, in the words of every runtime; None where nothing is."""
    (length, vocab_size) = (BORDER["entry_points"][0]["inputs"][0]["shape"][1], BORDER["vocab_size"])
    ids = np.array([case["ids"]])
    if ids.shape != (1, length):
        return f"ids is int32 {list(ids.shape)}, expected int32 {[1, length]}"
    values = np.array([float(value) for value in case.get("vector", ())])
    return (
        id_problem("ids", ids, vocab_size)
        or id_problem("candidates", np.array([case["candidates"]]), vocab_size)
        or (None if np.isfinite(values).all() else "vector holds a number that is not finite")
    )


@pytest.mark.parametrize("case", BORDER["cases"], ids=lambda case: case["name"])
def test_ids_at_the_border_are_refused_in_the_words_of_the_runtimes(case: dict[str, Any]) -> None:
    if os.environ.get("COCORRREC_WRITE_SCENARIOS"):
        case["error"] = refused(case)
        IDS.write_text(json.dumps(BORDER, indent=1) + "\n", encoding="utf-8")
    assert refused(case) == case["error"]


def test_the_border_has_cases_of_both_kinds() -> None:
    assert {case["error"] is None for case in BORDER["cases"]} == {True, False}
    assert sum(case["error"] is not None for case in BORDER["cases"]) > 10
