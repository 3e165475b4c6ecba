"""The worker for Core ML, with the numpy evaluator in the place of macOS; that for ONNX is in test_host.py."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.parity.vectors import read_vectors
from cocorrrec_export.profiling.machines import coreml_worker, worker
from cocorrrec_export.profiling.machines.runs import Call, pack, read_report, unpack
from cocorrrec_export.runtime.base import Arrays
from cocorrrec_export.runtime.coreml import Predict
from cocorrrec_export.runtime.mil import compile_functions
from cocorrrec_export.runtime.mlpackage import open_package


def numpy_function(path: Path, function: str) -> Predict:
    """What stands in for Core ML: halves, under the names of the program."""
    compiled = compile_functions(open_package(path), [function])[function]

    def predict(inputs: Arrays) -> Arrays:
        return {name: x.astype(np.float16) if x.dtype == np.float32 else x for name, x in compiled(inputs).items()}

    return predict


def test_the_core_ml_worker(
    coreml_fp32: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contracts = {entry.name: entry for entry in coreml_fp32.entry_points}
    contract = contracts["rank"]
    cases = [case for case in read_vectors(coreml_fp32.vectors, contracts) if case.entry_point == "rank"][:2]
    call = Call(
        contract=contract,
        inputs=pack(contract, [case.inputs for case in cases]),
        iterations=2,
    )
    (tmp_path / "in").write_bytes(call.inputs)
    paths = {"inputs": str(tmp_path / "in"), "outputs": str(tmp_path / "out"), "trace": ""}
    monkeypatch.setattr(coreml_worker, "apple_function", numpy_function)
    monkeypatch.setattr(sys, "argv", ["worker", *call.options(model=str(coreml_fp32.program), **paths)])
    worker.main(coreml_worker.load)
    said = capsys.readouterr().out
    assert len(read_report(said, "", 0, call)["latency_ns"]) == 2
    answers = unpack(contract, (tmp_path / "out").read_bytes(), 2)
    for case, answer in zip(cases, answers, strict=True):
        assert answer["scores"].dtype == np.float32
        np.testing.assert_allclose(answer["scores"], case.expected["scores"], atol=2e-3)
    monkeypatch.setattr(sys, "argv", [*sys.argv[:2], str(tmp_path / "absent"), *sys.argv[3:]])
    with pytest.raises(SystemExit, match="1"):
        worker.main(coreml_worker.load)
    assert json.loads(capsys.readouterr().out)["ok"] is False
