"""The phone's side: in time, late, and never."""

import asyncio

import numpy as np
import pytest

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.runtime.base import Arrays
from cocorrrec_export.serving.client import GcnClient
from cocorrrec_export.serving.phone import Exchange, Phone, Ranking, State
from tests.serving.conftest import Running
from tests.serving.test_client import right_answer, scripted

IDS = np.array([[3, 5, 7, 0, 0, 0, 0, 0, 0, 0]], dtype=np.int32)
CANDIDATES = np.arange(1, 8)


class Scn:
    """An SCN that says which entry point ranked."""

    executed_by = "test"
    entry_points: dict[str, object]

    def __init__(self) -> None:
        candidates = (TensorSpec("candidates", "int32", (1, 5)),)
        self.entry_points = {name: EntryPoint(name, candidates, ()) for name in ("rank", "rank_corrected")}

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        if entry_point == "encode":
            return {"H": np.ones((1, 10, 64), np.float32)}
        if entry_point == "rank_corrected":
            assert inputs["k_attn"].shape == (1, 4, 10, 10) and inputs["k_b"].shape == (1, 4, 10, 16)
        return {"scores": np.full((1, 5), entry_point == "rank_corrected", np.float32)}


def test_the_transitions() -> None:
    correction: Arrays = {"k_attn": np.zeros(1)}
    in_time, late, failed, never = Exchange(), Exchange(), Exchange(), Exchange()
    in_time.answer(correction)
    assert in_time.state is State.ANSWERED and in_time.take() is correction and in_time.state is State.FUSED
    assert late.take() is None and late.state is State.ALONE
    late.answer(correction)
    assert late.state is State.LATE
    late.fail()
    assert late.state is State.LATE
    assert late.take_late() is correction and late.state is State.RERANKED and late.take_late() is None
    failed.fail()
    assert failed.state is State.FAILED and failed.take() is None and failed.state is State.ALONE
    assert never.take() is None
    for over in (in_time, late, failed, never):
        with pytest.raises(RuntimeError, match="over"):
            over.take()


def rank(*answers: bytes | None, delay_s: float, deadline_s: float) -> tuple[Phone, Ranking]:
    async def scenario() -> tuple[Phone, Ranking]:
        async with scripted(*answers, delay_s=delay_s) as (address, _), GcnClient(address, deadline_s=30) as client:
            phone = Phone(Scn(), client, deadline_s=deadline_s)  # type: ignore[arg-type]
            ranking = await phone.rank(IDS, CANDIDATES)
            await phone.drain()
            return phone, ranking

    return asyncio.run(scenario())


def test_an_answer_in_time_is_fused() -> None:
    phone, ranking = rank(right_answer(), delay_s=0.0, deadline_s=30.0)
    assert ranking.corrected and ranking.scores.tolist() == [1.0] * 7
    assert vars(phone.counts) == {"sent": 1, "fused": 1, "alone": 0, "failed": 0, "late": 0, "reranked": 0}


def test_a_late_answer_is_counted() -> None:
    phone, ranking = rank(right_answer(), delay_s=0.3, deadline_s=0.01)
    assert not ranking.corrected and ranking.scores.tolist() == [0.0] * 7
    assert vars(phone.counts) == {"sent": 1, "fused": 0, "alone": 1, "failed": 0, "late": 1, "reranked": 0}


def test_a_cloud_that_fails_costs_nothing_but_the_correction() -> None:
    phone, ranking = rank(None, None, None, delay_s=0.0, deadline_s=30.0)
    assert not ranking.corrected
    assert vars(phone.counts) == {"sent": 1, "fused": 0, "alone": 1, "failed": 1, "late": 0, "reranked": 0}


def test_the_app_goes_on_between_sending_and_ranking(server: Running) -> None:
    async def scenario() -> None:
        async with GcnClient(server.address, deadline_s=30) as client:
            phone = Phone(Scn(), client, deadline_s=30)  # type: ignore[arg-type]
            pending = [phone.begin(IDS) for _ in range(5)]
            assert phone.counts.sent == 5 and phone.counts.fused == 0
            rankings = [await each.rank(CANDIDATES) for each in pending]
            assert all(ranking.corrected for ranking in rankings) and phone.counts.fused == 5

    asyncio.run(scenario())


@pytest.mark.parametrize(("place", "value"), [(1, 2**32 + 1), (1, 0), (0, -1)])
def test_a_memory_with_ids_that_are_none_is_an_error_and_not_a_ranking_without_the_cloud(
    place: int, value: int
) -> None:
    scn, memory = Scn(), np.array([[3, 5, 7, 0]])
    names = ("ids", "candidates", "vector")
    inputs = tuple(TensorSpec(name, "float32" if name == "vector" else "int32", (1, 5)) for name in names)
    scn.entry_points["rank_corrected"] = EntryPoint("rank_corrected", inputs, ())
    memory[0, place] = value
    phone = Phone(scn, GcnClient("http://localhost:1"), deadline_s=1.0)  # type: ignore[arg-type]
    with pytest.raises(CocorrrecError, match=rf"correct: ids holds {value} at \[0, {place}\]: item ids are"):
        phone.begin(IDS, memory)
    assert phone.counts.sent == 0
