"""When a run counts: a complete result, and nothing less."""

import json
from typing import Any

import numpy as np
import pytest

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.profiling.machines.runs import MEMORY_STAGES, Call, RunError, is_hot, pack, read_report, unpack

RANK = EntryPoint(
    "rank",
    (TensorSpec("ids", "int32", (1, 2)), TensorSpec("user", "float32", (1, 1))),
    (TensorSpec("scores", "float32", (1, 2)), TensorSpec("position_next", "int32", (1,))),
)
CALL = Call(contract=RANK, inputs=b"", iterations=2)
REPORT: dict[str, Any] = {
    "runner": 1,
    "ok": True,
    "load_ns": 5,
    "first_call_ns": 6,
    "planned_bytes": 7,
    "program_bytes": 6,
    "latency_ns": [1, 2],
    "memory": dict.fromkeys(MEMORY_STAGES, 0),
    "complete": True,
}


def said(**changed: Any) -> str:
    return "log of a library\n" + json.dumps(REPORT | changed) + "\n"


def test_a_complete_report() -> None:
    assert read_report(said(), "noise", 0, CALL)["latency_ns"] == [1, 2]


@pytest.mark.parametrize(
    ("stdout", "code", "sentence"),
    [
        ("", 0, "ended with exit code 0 and without a complete result"),
        (said()[:-20], 0, "without a complete result"),
        (said(complete=False), 0, "without a complete result"),
        (said(), 1, "ended with exit code 1"),
        (said(), 139, "was ended by SIGSEGV; its last lines: one | two"),
        ("", 137, "was ended by SIGKILL"),
        ("", 128 + 99, "was ended by signal 99"),
        ('{"runner": 1, "ok": false, "error": "no method"}', 1, "failed: no method"),
        (said(latency_ns=[1]), 0, "answered something else than was asked"),
        (said(latency_ns=[1, "2"]), 0, "answered something else"),
        (said(memory={}), 0, "answered something else"),
        (said(load_ns=None), 0, "answered something else"),
        ('{"runner": [', 0, "without a complete result"),
    ],
)
def test_everything_else(stdout: str, code: int, sentence: str) -> None:
    with pytest.raises(RunError, match="the runner, on rank,") as error:
        read_report(stdout, "one\n\ntwo\n", code, CALL)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_tensors_go_there_and_back_in_the_order_of_the_contract() -> None:
    cases = [{"user": np.full((1, 1), i, np.float32), "ids": np.full((1, 2), i, np.int32)} for i in (1, 2)]
    packed = pack(RANK, cases)
    assert np.frombuffer(packed[:8], np.int32).tolist() == [1, 1]
    assert np.frombuffer(packed[8:12], np.float32).tolist() == [1.0]
    assert len(packed) == 24
    answer = np.array([0.5, 0.25], np.float32).tobytes() + np.array([7], np.int32).tobytes()
    first, second = unpack(RANK, answer * 2, 2)
    assert first["scores"].tolist() == second["scores"].tolist() == [[0.5, 0.25]]
    assert first["position_next"].tolist() == [7] and first["position_next"].dtype == np.int32
    with pytest.raises(RunError, match="wrote 12 bytes of outputs, 24 were expected"):
        unpack(RANK, answer, 2)


def test_hot() -> None:
    cool = {"battery_celsius": 37.0, "thermal_status": 0}
    assert not is_hot(cool)
    assert not is_hot({"battery_celsius": None, "thermal_status": None})
    assert is_hot(cool | {"battery_celsius": 37.1})
    assert is_hot(cool | {"thermal_status": 1})
