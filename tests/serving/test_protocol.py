"""Bodies, right and wrong."""

import json

import numpy as np
import pytest

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.serving.errors import Refusal
from cocorrrec_export.serving.protocol import (
    InferRequest,
    encode_request,
    encode_response,
    parse_request,
    parse_response,
)
from tests.serving.conftest import uploads

CONTRACT = EntryPoint(
    "correct",
    (TensorSpec("H", "float32", ("N", 10, 64)),),
    (TensorSpec("k_attn", "float32", ("N", 4, 10, 10)), TensorSpec("k_b", "float32", ("N", 4, 10, 16))),
)
DATA = [0.5] * 640


def parse(body: bytes, size: int | None = None) -> InferRequest:
    return parse_request(body, None if size is None else str(size).encode(), CONTRACT, max_users=64)


def request(**changes: object) -> bytes:
    """A JSON request with changes to its one input."""
    tensor = {"name": "H", "shape": [1, 10, 64], "datatype": "FP32", "data": DATA} | changes
    return json.dumps({"inputs": [{key: value for key, value in tensor.items() if value is not None}]}).encode()


def binary(header: dict[str, object], data: bytes) -> tuple[bytes, int]:
    head = json.dumps(header).encode()
    return head + data, len(head)


def test_a_request_and_its_answer_survive_the_way_there_and_back() -> None:
    H = uploads(3)
    body, size = encode_request(H, request_id="7")
    parsed = parse(body, size)
    assert parsed.id == "7" and parsed.outputs == (("k_attn", True), ("k_b", True))
    np.testing.assert_array_equal(parsed.H, H)
    arrays = {"k_attn": np.ones((3, 4, 10, 10), np.float32), "k_b": np.zeros((3, 4, 10, 16), np.float32)}
    content, json_size = encode_response(parsed, arrays, model_name="gcn", model_version="v")
    assert json_size is not None and len(content) == json_size + 3 * 4160
    request_id, tensors = parse_response(content, json_size)
    assert request_id == "7"
    for name, array in arrays.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_one_users_upload_and_download_have_the_papers_sizes() -> None:
    body, size = encode_request(uploads(1))
    assert len(body) - size == 2560
    parsed = parse(body, size)
    arrays = {"k_attn": np.ones((1, 4, 10, 10), np.float32), "k_b": np.zeros((1, 4, 10, 16), np.float32)}
    content, json_size = encode_response(parsed, arrays, model_name="gcn", model_version="v")
    assert json_size is not None and len(content) - json_size == 4160


def test_json_data_may_be_flat_or_nested_and_integers() -> None:
    H = uploads(2)
    for data in (H.ravel().tolist(), H.tolist()):
        np.testing.assert_array_equal(parse(request(shape=[2, 10, 64], data=data)).H, H)
    assert parse(request(data=[1] * 640)).H.dtype == np.float32


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b"[" * 100_000, "inference request"),
        (b'{"inputs": ' + b"[" * 100_000, "inference request"),
        (b"{}", "missing required field `inputs`"),
        (b'{"inputs": []}', "the request has none"),
        (b'{"id": 7, "inputs": []}', "Expected `str | null`, got `int`"),
        (request(name="h"), "takes the one input 'H', the request has 'h'"),
        (request(datatype="FP64"), "has datatype 'FP64', expected FP32"),
        (request(shape=[10, 64]), "shape [10, 64], expected [N, 10, 64]"),
        (request(shape=[1, 64, 10]), "shape [1, 64, 10], expected [N, 10, 64]"),
        (request(shape=[0, 10, 64], data=[]), "0 users, one request takes 1 to 64"),
        (request(shape=[-1, 10, 64]), "-1 users"),
        (request(shape=[10**30, 10, 64]), "is not an inference request"),
        (b'{"inputs": [{"name": "H", "datatype": "FP32", "shape": [' + b"9" * 5000 + b"]}]}", "request"),
        (b'{"parameters": {"x": ' + b"9" * 5000 + b"}, " + request(name="h")[1:], "request"),
        (request(shape=[2, 10, 64]), "hold 640 numbers, shape [2, 10, 64] asks for 1280"),
        (request(shape="1"), "Expected `array`, got `str`"),
        (request(data=None), "either data or the parameter binary_data_size"),
        (request(parameters={"binary_data_size": 2560}), "either data or the parameter binary_data_size"),
        (request(data=["a"] * 640), "are not numbers of shape [1, 10, 64]"),
        (request(data=[True] * 640), "are not numbers"),
        (request(data=[DATA]), "are not numbers"),
        (request(data={}), "are not numbers"),
        (request(data=[[DATA[:64]] * 9 + [[1.0]]]), "are not numbers"),
        (request(data=[[DATA]]), "shape [1, 10, 64] asks for 640"),
        (request(parameters={"shared_memory_region": "x"}), "parameter shared_memory_region"),
        (b'{"parameters": {"binary_data_output": 1}, ' + request()[1:], "must be true or false"),
        (b'{"outputs": [{"name": "x"}], ' + request()[1:], "no output 'x': the model has k_attn, k_b"),
        (b'{"outputs": [{"name": "k_b"}, {"name": "k_b"}], ' + request()[1:], "names one twice"),
        (
            b'{"outputs": [{"name": "k_b", "parameters": {"classification": 3}}], ' + request()[1:],
            "parameter classification",
        ),
    ],
)
def test_one_clear_sentence_for_each_wrong_json_body(body: bytes, message: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(body)
    assert refusal.value.status == 400
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_one_clear_sentence_for_each_wrong_binary_body() -> None:
    tensor = {"name": "H", "shape": [1, 10, 64], "datatype": "FP32", "parameters": {"binary_data_size": 2560}}
    right, size = binary({"inputs": [tensor]}, b"\0" * 2560)
    assert parse(right, size).H.shape == (1, 10, 64)
    wrong = {
        "2559 bytes after the JSON part, expected 2560": (right[:-1], size),
        "2561 bytes after the JSON part, expected 2560": (right + b"\0", size),
        "has binary_data_size 2564, its shape asks for 2560": binary(
            {"inputs": [tensor | {"parameters": {"binary_data_size": 2564}}]}, b"\0" * 2564
        ),
        "has binary_data_size -4": binary({"inputs": [tensor | {"parameters": {"binary_data_size": -4}}]}, b""),
        "has binary_data_size '2560'": binary(
            {"inputs": [tensor | {"parameters": {"binary_data_size": "2560"}}]}, b"\0" * 2560
        ),
        "4 bytes follow the JSON part": binary(json.loads(request()), b"\0" * 4),
    }
    for message, (body, json_size) in wrong.items():
        with pytest.raises(Refusal, match=message.replace("'", "'")):
            parse(body, json_size)
    for given in (b"-1", b"x", b"", b"99999", b"1" * 30, "٣".encode()):
        with pytest.raises(Refusal, match="Inference-Header-Content-Length is"):
            parse_request(right, given, CONTRACT, max_users=64)


def test_an_answer_that_lies_about_its_sizes_is_no_answer() -> None:
    for size in (b"0", b"-4", b'"4"', b"8", b"null"):
        head = b'{"outputs": [{"name": "k", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": %s}}]}'
        with pytest.raises(ValueError, match=r"binary_data_size|too many"):
            parse_response(head % size + b"\0" * 4, len(head % size))


IDS = EntryPoint("correct", (TensorSpec("ids", "int32", ("N", 5)),), (TensorSpec("vector", "float32", ("N", 64)),))


def parse_ids(body: bytes, size: int | None = None) -> InferRequest:
    return parse_request(body, None if size is None else str(size).encode(), IDS, max_users=8, vocab_size=40)


def test_ids_survive_the_way_there_in_both_forms() -> None:
    ids = np.array([[1, 39, 7, 0, 0], [2, 2, 2, 2, 2]], dtype=np.int32)
    body, size = encode_request(ids)
    assert len(body) - size == 40
    given = parse_ids(body, size)
    np.testing.assert_array_equal(given.H, ids)
    assert given.H.dtype == np.int32
    for data in (ids.tolist(), ids.ravel().tolist()):
        tensor = {"name": "ids", "shape": [2, 5], "datatype": "INT32", "data": data}
        np.testing.assert_array_equal(parse_ids(json.dumps({"inputs": [tensor]}).encode()).H, ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": [1, 2, 40, 0, 0]}, r"ids holds 40 at \[0, 2\]"),
        ({"data": [1, -3, 4, 0, 0]}, r"ids holds -3 at \[0, 1\]"),
        ({"data": [1, 0, 4, 0, 0]}, "ids holds 0 at .*allowed only after the last click"),
        ({"data": [0, 0, 0, 0, 9]}, "ids holds 0 at .*allowed only after the last click"),
        ({"data": [1, 2.5, 4, 0, 0]}, "are not numbers"),
        ({"data": [1, True, 4, 0, 0]}, "are not numbers"),
        (
            {"data": [1, 2**31, 4, 0, 0]},
            r"correct: ids holds 2147483648 at \[0, 1\]: item ids are .* \(vocab_size 40\)",
        ),
        ({"data": [[1, 2, 2**32 + 1, 0, 0]]}, r"correct: ids holds 4294967297 at \[0, 2\]: item ids are"),
        ({"data": [1, 2**63, 4, 0, 0]}, "are not numbers"),
        ({"data": [1, 2, 4, 0, 0], "datatype": "FP32"}, "has datatype 'FP32', expected INT32"),
    ],
)
def test_ids_that_are_none_of_the_model_are_refused(changes: dict[str, object], message: str) -> None:
    """One request with a wrong id must not reach the model, where it would fail the batch of all."""
    tensor = {"name": "ids", "shape": [1, 5], "datatype": "INT32"} | changes
    with pytest.raises(Refusal, match=message):
        parse_ids(json.dumps({"inputs": [tensor]}).encode())


@pytest.mark.parametrize("dtype", ["int64", "uint32", "uint64"])
def test_wide_ids_are_not_sent_as_other_items(dtype: str) -> None:
    good = np.array([[1, 39, 7, 0, 0]], dtype=dtype)
    assert parse_ids(*encode_request(good)).H.tolist() == good.tolist()
    for value in (2**31, 2**32 - 1, *([2**32 + 1] if dtype != "uint32" else [])):
        wrong = good.copy()
        wrong[0, 1] = value
        with pytest.raises(CocorrrecError, match=rf"correct: ids holds {value} at \[0, 1\]: item ids are"):
            encode_request(wrong)


def test_what_is_neither_ids_nor_numbers_is_not_sent() -> None:
    for wrong in (np.ones((1, 5), dtype=bool), np.array([["1"]])):
        with pytest.raises(CocorrrecError, match=r"correct: the upload is .*expected float32 or int32"):
            encode_request(wrong)
