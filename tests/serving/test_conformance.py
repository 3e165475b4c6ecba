"""The protocol as others understand it: a client that we did not write, and the published OpenAPI document."""

from collections.abc import Iterator

import numpy as np
import pytest
import schemathesis
import tritonclient.http as triton
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tritonclient.utils import InferenceServerException

from cocorrrec_export import __version__
from cocorrrec_export.runtime.onnx import OnnxRuntime
from tests.conftest import ROOT
from tests.serving.conftest import Running, uploads

OUTPUTS = {"k_attn": [4, 10, 10], "k_b": [4, 10, 16]}


@pytest.fixture
def client(server: Running) -> Iterator[triton.InferenceServerClient]:
    """NVIDIA's client."""
    made = triton.InferenceServerClient(server.address.removeprefix("http://"), network_timeout=30)
    yield made
    made.close()


def test_health_and_metadata(client: triton.InferenceServerClient, server: Running) -> None:
    version = server.facts["version"]
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("gcn") and client.is_model_ready("gcn", version)
    assert not client.is_model_ready("other") and not client.is_model_ready("gcn", "1")
    assert client.get_server_metadata() == {
        "name": "cocorr-serve",
        "version": __version__,
        "extensions": ["binary_tensor_data", "model_configuration", "statistics", "model_repository"],
    }
    expected = {
        "name": "gcn",
        "versions": [version],
        "platform": "onnx_onnxruntime",
        "inputs": [{"name": "H", "datatype": "FP32", "shape": [-1, 10, 64]}],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, *shape]} for name, shape in OUTPUTS.items()],
    }
    assert client.get_model_metadata("gcn") == expected
    assert client.get_model_metadata("gcn", version) == expected


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("users", [1, 7])
def test_infer(
    client: triton.InferenceServerClient, gcn: OnnxRuntime, binary_input: bool, binary_output: bool, users: int
) -> None:
    H = uploads(users)
    given = triton.InferInput("H", list(H.shape), "FP32")
    given.set_data_from_numpy(H, binary_data=binary_input)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_output) for name in OUTPUTS]
    answer = client.infer("gcn", [given], outputs=wanted, request_id="a b/ü")
    assert answer.get_response()["id"] == "a b/ü"
    for name, expected in gcn.run("correct", {"H": H}).items():
        actual = answer.as_numpy(name)
        assert actual is not None and actual.dtype == np.float32
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_infer_with_a_version_and_one_output_alone(client: triton.InferenceServerClient, server: Running) -> None:
    given = triton.InferInput("H", [1, 10, 64], "FP32")
    given.set_data_from_numpy(uploads(1))
    wanted = [triton.InferRequestedOutput("k_b")]
    answer = client.infer("gcn", [given], model_version=server.facts["version"], outputs=wanted)
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["k_b"]
    assert answer.get_response()["model_version"] == server.facts["version"]


def test_many_at_once_are_batched_and_each_gets_its_own(gcn: OnnxRuntime, server: Running) -> None:
    rows = uploads(40)
    many = triton.InferenceServerClient(server.address.removeprefix("http://"), concurrency=40, network_timeout=30)
    calls = []
    for row in rows:
        given = triton.InferInput("H", [1, 10, 64], "FP32")
        given.set_data_from_numpy(row[None])
        calls.append(many.async_infer("gcn", [given]))
    answers = np.concatenate([call.get_result().as_numpy("k_attn") for call in calls])
    many.close()
    np.testing.assert_allclose(answers, gcn.run("correct", {"H": rows})["k_attn"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "version", "shape", "status", "message"),
    [
        ("other", "", [1, 10, 64], 404, "no model 'other': this server has 'gcn'"),
        ("gcn", "1", [1, 10, 64], 404, "no version '1' of model 'gcn': this server has"),
        ("gcn", "", [1, 10, 65], 400, "shape [1, 10, 65], expected [N, 10, 64]"),
        ("gcn", "", [65, 10, 64], 400, "65 users, one request takes 1 to 64"),
    ],
)
def test_errors_reach_the_client(
    client: triton.InferenceServerClient, model: str, version: str, shape: list[int], status: int, message: str
) -> None:
    given = triton.InferInput("H", shape, "FP32")
    given.set_data_from_numpy(np.zeros(shape, np.float32))
    with pytest.raises(InferenceServerException) as error:
        client.infer(model, [given], model_version=version)
    assert error.value.status() == str(status)
    assert message in error.value.message()


schema = schemathesis.openapi.from_path(ROOT / "docs" / "open-inference-v2.yaml")


@schema.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_what_the_openapi_document_says(case: schemathesis.Case, server: Running) -> None:
    if case.path_parameters and case.path_parameters.get("model") and len(case.path_parameters["model"]) % 2:
        case.path_parameters["model"] = "gcn"  # names that are drawn are never right: half of them are made so
        if "version" in case.path_parameters:
            case.path_parameters["version"] = server.facts["version"]
    # The document is the protocol's: it does not know the tensors of a model, so its valid requests may be wrong ones.
    case.call_and_validate(base_url=server.address, timeout=30, excluded_checks=[positive_data_acceptance])
