"""The Triton repository against Triton's own schema, and the KServe manifest."""

import json
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.files import sha256_file
from cocorrrec_export.serving.bundle import bundle_triton
from tests.commands import Cli


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


def test_the_command(cli: Cli, gcn_fp32: Artifact, scn_fp32: Artifact, tmp_path: Path) -> None:
    ended = cli("bundle", "triton", gcn_fp32.path, "--out", tmp_path / "r", "--json")
    assert ended.code == 0, ended.stderr
    assert all(Path(path).exists() for path in json.loads(ended.stdout).values())
    ended = cli("bundle", "triton", scn_fp32.path, "--out", tmp_path / "s")
    assert ended.code == 2 and "bundle a GCN for onnx" in ended.stderr
    assert not (tmp_path / "s").exists()
