"""The Triton repository against Triton's own schema, and the KServe manifest."""

import json
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from cocorrrec_export.cli import console, export
from cocorrrec_export.export.artifact import Artifact
from cocorrrec_export.files import sha256_file
from cocorrrec_export.serving.bundle import bundle_triton


@pytest.fixture
def repository(gcn_fp32: Artifact, tmp_path: Path) -> Path:
    """A bundle."""
    out = tmp_path / "repository"
    bundle_triton(gcn_fp32.path, out, max_batch=32, max_queue_delay_us=250, storage_uri="s3://x/y")
    return out


def test_the_config_is_a_model_config_of_triton_and_fits_the_file(repository: Path, gcn_fp32: Artifact) -> None:
    import onnxruntime

    text = (repository / "gcn" / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())  # an unknown field or value is an error
    assert (config.name, config.backend, config.max_batch_size) == ("gcn", "onnxruntime", 32)
    assert config.dynamic_batching.max_queue_delay_microseconds == 250
    assert config.parameters["model_sha256"].string_value == gcn_fp32.manifest["model"]["sha256"]
    model = repository / "gcn" / "1" / "model.onnx"
    assert sha256_file(model) == sha256_file(gcn_fp32.program)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for declared, actual in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [(x.name, list(x.dims)) for x in declared] == [(x.name, x.shape[1:]) for x in actual]
        assert {x.data_type for x in declared} == {model_config_pb2.TYPE_FP32}


def test_the_kserve_manifest(repository: Path) -> None:
    manifest = yaml.safe_load((repository / "kserve.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    model = manifest["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "triton"} and model["protocolVersion"] == "v2"
    assert model["storageUri"] == "s3://x/y"


def test_the_command(
    gcn_fp32: Artifact,
    scn_fp32: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import signal
    import sys

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["cocorr-export", "bundle", "triton", *map(str, arguments)])
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as end:
                console.run(export.app)
        finally:
            signal.signal(signal.SIGTERM, handler)
        return int(end.value.code or 0)

    assert run(gcn_fp32.path, "--out", tmp_path / "r", "--json") == 0
    made = json.loads(capfd.readouterr().out)
    assert all(Path(path).exists() for path in made.values())
    assert run(scn_fp32.path, "--out", tmp_path / "s") == 2
    assert "bundle a GCN for onnx" in capfd.readouterr().err
    assert not (tmp_path / "s").exists()
