"""The runners on this machine: what they compute, what they report, how they fail."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.parity.vectors import read_vectors
from cocorrrec_export.profiling.machines.host import Host, open_host, worker_runtime
from cocorrrec_export.profiling.machines.runs import Call, Program, RunError, pack, unpack
from cocorrrec_export.profiling.machines.traces import operator_times
from cocorrrec_export.profiling.measure import Settings, Subject, chosen_entry_points, measure, slope, slopes
from cocorrrec_export.profiling.runner.package import RunnerPackage
from cocorrrec_export.runtime.open import open_runtime

SETTINGS = Settings(iterations=10, warmup=2, threads=(1, 2), entry_points=("encode", "rank"), per_operator=True)


def subject(artifact: Artifact) -> Subject:
    vectors = read_vectors(artifact.vectors, {entry.name: entry for entry in artifact.entry_points})
    return Subject(Program(artifact.program, artifact.entry_points), vectors, artifact.limits)


def test_the_runner_computes_what_the_python_runtime_does(
    scn_int8: Artifact, executorch_package: RunnerPackage
) -> None:
    runtime = open_runtime("executorch", scn_int8.program, scn_int8.entry_points)
    contract = next(entry for entry in scn_int8.entry_points if entry.name == "rank")
    generator = np.random.default_rng(4)
    cases = [
        {
            "ids": generator.integers(1, 60, (1, 10), np.int32),
            "candidates": generator.integers(1, 60, (1, 100), np.int32),
        }
        for _ in range(3)
    ]
    with open_host("executorch", executorch_package, timeout_s=60) as host:
        answer = host.run(scn_int8.program, Call(contract=contract, inputs=pack(contract, cases), threads=3))
    for case, outputs in zip(cases, unpack(contract, answer.outputs, 3), strict=True):
        np.testing.assert_array_equal(outputs["scores"], runtime.run("rank", case)["scores"])
    assert answer.report["process_threads"] == 3


def test_a_whole_measurement(scn_int8: Artifact, executorch_package: RunnerPackage) -> None:
    steps: list[str] = []
    with open_host("executorch", executorch_package, timeout_s=60) as host:
        result = measure(host, subject(scn_int8), SETTINGS, steps.append)
        assert host.facts()["page_size"] in (4096, 16384, 65536)
    assert result["parity"]["verdict"] == "pass" and result["parity"]["problems"] == []
    encode, rank = result["entry_points"]
    assert (encode["name"], rank["name"]) == ("encode", "rank")
    assert [run["threads"] for run in rank["runs"]] == [1, 2]
    assert all(len(run["latency_ns"]) == 10 and min(run["latency_ns"]) > 0 for run in rank["runs"])
    assert len(rank["cold_load_ns"]) == 3
    assert rank["planned_bytes"] > encode["planned_bytes"] > 0
    assert rank["heap_over_idle_bytes"] > rank["planned_bytes"]
    parts = rank["heap_parts"]
    assert sum(parts.values()) == rank["heap_over_idle_bytes"] and min(parts.values()) >= 0
    # Reading the file gives out what it holds for this entry point; the payloads of delegates come and go.
    assert 0 < parts["program"] < Program(scn_int8.program, ()).bytes and parts["planned"] == rank["planned_bytes"]
    assert rank["memory"]["loaded"]["heap_bytes"] > rank["memory"]["before_load"]["heap_bytes"]
    assert {row["backend"] for row in rank["operators"]} == {None, "XNNPACK"}
    assert "rank: 10 calls on 2 threads" in steps


def test_litert(tflite_int8: Artifact, tflite_package: RunnerPackage) -> None:
    with open_host("tflite", tflite_package, timeout_s=60) as host:
        result = measure(host, subject(tflite_int8), SETTINGS, lambda _: None)
        assert result["parity"]["verdict"] == "pass" and result["parity"]["cases"] > 40
        rank = result["entry_points"][1]
        assert len(rank["runs"][1]["latency_ns"]) == 10
        assert sum(rank["heap_parts"].values()) == rank["heap_over_idle_bytes"] > rank["heap_parts"]["program"] > 0
        contract = tflite_int8.entry_points[1]
        zeros = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in contract.inputs}
        call = Call(contract=contract, inputs=pack(contract, [zeros]))
        threads = [host.run(tflite_int8.program, dataclasses.replace(call, threads=n)).report for n in (1, 3)]
        # LiteRT ignores an option under another name without a word.
        assert threads[1]["process_threads"] == threads[0]["process_threads"] + 2
        other = dataclasses.replace(contract, inputs=contract.inputs[:1])
        with pytest.raises(RunError, match="rank has 2 tensors, 1 were named"):
            host.run(tflite_int8.program, dataclasses.replace(call, contract=other))
        traced = host.run(tflite_int8.program, dataclasses.replace(call, trace=True, iterations=400))
    kinds = {(row["name"], row["backend"]): row["operators"] for row in rank["operators"]}
    assert kinds["Batch Matrix Multiply (NC, F32) GEMM", "XNNPACK"] > 1
    assert kinds["GATHER", None] == 2  # the table's rows, and their scales
    # All operators together are less than their calls, which also copy tensors.
    assert traced.trace is not None
    operators_us = sum(row["mean_us"] for row in operator_times(traced.trace))
    calls_ns = traced.report["first_call_ns"] + sum(traced.report["latency_ns"])
    assert 0 < operators_us < calls_ns / 401 / 1000


def test_onnx(gcn_fp32: Artifact) -> None:
    settings = dataclasses.replace(SETTINGS, entry_points=(), per_operator=False)
    with open_host("onnx", None, timeout_s=120) as host:
        result = measure(host, subject(gcn_fp32), settings, lambda _: None)
        assert result["parity"]["verdict"] == "pass"
        (correct,) = result["entry_points"]
        assert correct["name"] == "correct" and min(correct["runs"][0]["latency_ns"]) > 0
        assert correct["memory"]["loaded"]["heap_bytes"] > correct["memory"]["idle"]["heap_bytes"]
        contract = gcn_fp32.entry_points[0]
        with pytest.raises(RunError, match="not a multiple of 2560"):
            host.run(gcn_fp32.program, Call(contract=contract, inputs=bytes(8)))


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac runs them")
def test_coreml_needs_a_mac() -> None:
    with pytest.raises(CocorrrecError, match="coreml files are profiled on a Mac: Core ML is a part of macOS"):
        worker_runtime("coreml")


def test_a_file_beyond_its_limits_fails_parity(scn_int8: Artifact, executorch_package: RunnerPackage) -> None:
    what = subject(scn_int8)
    strict = dataclasses.replace(what, limits=dataclasses.replace(what.limits, max_abs=1e-9, max_rel=1e-9))
    settings = Settings(iterations=1, warmup=0, entry_points=("encode",))
    with open_host("executorch", executorch_package, timeout_s=60) as host:
        parity = measure(host, strict, settings, lambda _: None)["parity"]
    assert parity["verdict"] == "fail" and "limits: max 1e-09" in parity["problems"][0]


def test_unknown_entry_point(scn_int8: Artifact) -> None:
    with pytest.raises(UsageError, match=r"has no entry point 'rnk' \(did you mean 'rank'\?"):
        chosen_entry_points(Program(scn_int8.program, scn_int8.entry_points), ["rnk"])


@pytest.mark.parametrize("target", ["executorch", "tflite"])
def test_what_the_runners_refuse(
    request: pytest.FixtureRequest, scn_int8: Artifact, tmp_path: Path, target: str
) -> None:
    package: RunnerPackage = request.getfixturevalue(f"{target}_package")
    contract = scn_int8.entry_points[0]
    garbage = tmp_path / "garbage"
    garbage.write_bytes(bytes(range(256)) * 20)
    with open_host(target, package, timeout_s=60) as host:
        for path in (garbage, tmp_path / "absent"):
            with pytest.raises(RunError, match="the runner, on encode, "):
                host.run(path, Call(contract=contract, inputs=bytes(40)))
    if target == "executorch":
        with open_host(target, package, timeout_s=60) as host:
            with pytest.raises(RunError, match="41 bytes, not a multiple of the 40 that one call of encode takes"):
                host.run(scn_int8.program, Call(contract=contract, inputs=bytes(41)))
            unknown = dataclasses.replace(contract, name="elsewhere")
            with pytest.raises(RunError, match="has no method elsewhere"):
                host.run(scn_int8.program, Call(contract=unknown, inputs=bytes(40)))


def test_a_runner_that_never_ends_is_killed(scn_int8: Artifact, tmp_path: Path) -> None:
    contract = scn_int8.entry_points[0]
    host = Host(["sh", "-c", "sleep 600"], tmp_path, timeout_s=0.5)
    with pytest.raises(RunError, match=r"did not end within 0\.5 s; give it longer with --timeout"):
        host.run(tmp_path, Call(contract=contract, inputs=bytes(40)))


def test_stale_outputs_are_no_answer(scn_int8: Artifact, tmp_path: Path) -> None:
    contract = scn_int8.entry_points[0]
    (tmp_path / "outputs.bin").write_bytes(b"of another run")
    with pytest.raises(RunError, match="without a complete result"):
        Host(["true"], tmp_path, timeout_s=30).run(tmp_path, Call(contract=contract, inputs=bytes(40)))
    assert not (tmp_path / "outputs.bin").exists()


def test_slopes_by_hand() -> None:
    assert slope([10, 15, 20], [100, 150, 200]) == 10.0
    rows = [
        {
            "entry_point": "rank",
            "length": length,
            "candidates": candidates,
            "planned_bytes": 100 + 8 * length,
            "peak_over_idle_kb": [10, 10 + length, 900],
            "heap_over_idle_bytes": [64 * length] * 3,
        }
        for length, candidates in ((10, 100), (20, 100), (10, 7))
    ]
    (found,) = slopes(rows)
    assert found["lengths"] == [10, 20]
    assert found["planned_bytes_per_token"] == 8 and found["heap_bytes_per_token"] == 64
    assert found["peak_bytes_per_token"] == 1024
