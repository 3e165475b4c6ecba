"""The bodies of the Open Inference Protocol v2: JSON, and its binary tensor extension.

Sources: the REST part of the Open Inference Protocol, and the binary tensor data extension as KServe and Triton
describe it. A body with binary tensors is the JSON object, whose size the header ``Inference-Header-Content-Length``
gives, then the bytes of each binary tensor, little-endian, row by row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.contract import HISTORY, EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.runtime.base import id_problem, narrowed
from cocorrrec_export.serving.errors import Refusal

Array = NDArray[Any]
"""float32, or int32 where the contract says so."""

HEADER_LENGTH = b"inference-header-content-length"
EXTENSIONS = ("binary_tensor_data",)
DATATYPES = {"float32": "FP32", "int32": "INT32"}
"""The protocol's names of what a contract can have; four bytes each."""
MAX_KEPT_JSON_BYTES = 4096
_UNSUPPORTED = ("shared_memory_region", "classification")


_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Input(msgspec.Struct):
    name: str
    shape: list[_Int64]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw = msgspec.Raw()  # read when the rest is right; empty where there is none


class _RequestedOutput(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_RequestedOutput] | None = None


class _Response(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[dict[str, Any]]
    id: str | None = None


_decode = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode
_DECODERS: dict[tuple[str, int], Callable[[msgspec.Raw], Any]] = {
    ("float32", 1): msgspec.json.Decoder(list[float]).decode,
    ("float32", 2): msgspec.json.Decoder(list[list[float]]).decode,
    ("float32", 3): msgspec.json.Decoder(list[list[list[float]]]).decode,
    ("int32", 1): msgspec.json.Decoder(list[_Int64]).decode,
    ("int32", 2): msgspec.json.Decoder(list[list[_Int64]]).decode,
}
"""By the dtype and the levels of nesting."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One request, checked against the model's contract."""

    id: str | None
    H: Array
    """The upload, ``[N, L, D]`` or ids ``[N, L_cloud]``; a view of the body where the tensor was binary."""
    outputs: tuple[tuple[str, bool], ...]
    """Name of each wanted output, and whether it goes back as binary."""


def parse_request(
    body: bytes, header_length: bytes | None, contract: EntryPoint, *, max_users: int, vocab_size: int | None = None
) -> InferRequest:
    """Read and check the body of an infer request.

    Args:
        body: all of it.
        header_length: value of ``Inference-Header-Content-Length``, where the request has one.
        contract: the entry point; its one input is ``[N, ...]``.
        max_users: the largest N.
        vocab_size: V of a model whose input are item ids.

    Raises:
        Refusal: what is wrong with it, in one sentence.
    """
    size = _json_size(body, header_length)
    try:
        request = _decode(body if size == len(body) else body[:size])
    except msgspec.ValidationError as error:
        raise Refusal(f"the request is not an inference request of the protocol: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"the request is not JSON: {error}") from None
    except RecursionError:
        raise Refusal("the request is not an inference request: its JSON is nested too deeply") from None
    _refuse_unsupported(request.parameters)
    spec = contract.inputs[0]
    if len(request.inputs) != 1 or request.inputs[0].name != spec.name:
        names = ", ".join(repr(x.name[:40]) for x in request.inputs[:5]) or "none"
        raise Refusal(f"the model takes the one input '{spec.name}', the request has {names}")
    H = _tensor(request.inputs[0], spec, body, size, max_users)
    if spec.name == HISTORY:
        # One request with ids that are none must not spoil the batch of all.
        if problem := id_problem(spec.name, H, vocab_size):
            raise Refusal(f"{contract.name}: {problem}")
        H = H.astype(spec.dtype, copy=False)
    return InferRequest(request.id, H, _wanted(request, contract))


def _json_size(body: bytes, header_length: bytes | None) -> int:
    """Bytes of the JSON part."""
    if header_length is None:
        return len(body)
    if not header_length.isdigit() or len(header_length) > 12 or int(header_length) > len(body):
        shown = header_length[:20].decode("latin-1")
        raise Refusal(f"Inference-Header-Content-Length is '{shown}', the body has {len(body)} bytes")
    return int(header_length)


def _tensor(given: _Input, spec: TensorSpec, body: bytes, size: int, max_users: int) -> Array:
    """The array of an input, if it is what the contract says; its values are looked at when a batch is computed."""
    name, shape = spec.name, given.shape
    if given.datatype != DATATYPES[spec.dtype]:
        raise Refusal(f"input '{name}' has datatype '{given.datatype[:20]}', expected {DATATYPES[spec.dtype]}")
    if len(shape) != len(spec.shape) or tuple(shape[1:]) != spec.shape[1:]:
        raise Refusal(f"input '{name}' has shape {shape[:8]}, expected {_shape(spec)} with 1 <= N <= {max_users}")
    if not 1 <= shape[0] <= max_users:
        raise Refusal(f"input '{name}' has {shape[0]} users, one request takes 1 to {max_users}")
    parameters = given.parameters or {}
    _refuse_unsupported(parameters)
    count = math.prod(shape)
    binary = parameters.get("binary_data_size")
    has_data = memoryview(given.data).nbytes > 0
    if (binary is None) is not has_data:
        raise Refusal(f"input '{name}' must have either data or the parameter binary_data_size")
    if has_data:
        if len(body) != size:
            raise Refusal(f"{len(body) - size} bytes follow the JSON part, and no input says that they are its own")
        return _from_json(given.data, spec, shape, count)
    if type(binary) is not int or binary != 4 * count:
        raise Refusal(f"input '{name}' has binary_data_size {binary!r:.40}, its shape asks for {4 * count} bytes")
    if len(body) - size != binary:
        raise Refusal(f"input '{name}' has {len(body) - size} bytes after the JSON part, expected {binary}")
    array = np.frombuffer(body, np.dtype(spec.dtype).newbyteorder("<"), offset=size).reshape(shape)
    # A view keeps the whole body; one with a long JSON part must not be kept while its few numbers wait.
    return array if size <= MAX_KEPT_JSON_BYTES else array.copy()


def _from_json(data: msgspec.Raw, spec: TensorSpec, shape: list[int], count: int) -> Array:
    """A tensor from JSON numbers: flat, or nested like its shape; ids as wide as they came."""
    name = spec.name
    flat = bytes(data).lstrip()[1:].lstrip()[:1] != b"["
    try:
        values = _DECODERS[spec.dtype, 1 if flat else len(shape)](data)
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused as such
            array = np.array(values, dtype="int64" if spec.dtype == "int32" else spec.dtype)
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise Refusal(
            f"data of input '{name}' are not numbers of shape {shape}: {str(error).splitlines()[0]}"
        ) from None
    if array.size != count or not (flat or list(array.shape) == shape):
        raise Refusal(f"data of input '{name}' hold {array.size} numbers, shape {shape} asks for {count}")
    return array.reshape(shape)


def _wanted(request: _Request, contract: EntryPoint) -> tuple[tuple[str, bool], ...]:
    default = _flag(request.parameters, "binary_data_output", False)
    if not request.outputs:
        return tuple((spec.name, default) for spec in contract.outputs)
    known = {spec.name for spec in contract.outputs}
    for output in request.outputs:
        if output.name not in known:
            raise Refusal(f"no output '{output.name[:40]}': the model has {', '.join(sorted(known))}")
        _refuse_unsupported(output.parameters)
    wanted = {output.name: _flag(output.parameters, "binary_data", default) for output in request.outputs}
    if len(wanted) != len(request.outputs):
        raise Refusal("outputs names one twice")
    return tuple(wanted.items())


def _flag(parameters: dict[str, Any] | None, name: str, default: bool) -> bool:
    if not parameters or name not in parameters:
        return default
    value = parameters[name]
    if not isinstance(value, bool):
        raise Refusal(f"parameter {name} must be true or false")
    return value


def _refuse_unsupported(parameters: dict[str, Any] | None) -> None:
    """A parameter of another extension, if it would be wrong to pass over it."""
    for name in _UNSUPPORTED:
        if parameters and name in parameters:
            raise Refusal(f"parameter {name}: this server has the extensions {', '.join(EXTENSIONS)} alone")


def _shape(spec: TensorSpec) -> str:
    return f"[{', '.join(map(str, spec.shape))}]"


def encode_response(
    request: InferRequest, arrays: dict[str, Array], *, model_name: str, model_version: str
) -> tuple[bytes, int | None]:
    """The body of an answer, and the size of its JSON part where binary tensors follow it."""
    outputs: list[dict[str, Any]] = []
    parts: list[memoryview] = []
    for name, binary in request.outputs:
        array = arrays[name]
        output: dict[str, Any] = {"name": name, "datatype": DATATYPES["float32"], "shape": array.shape}
        if binary:
            output["parameters"] = {"binary_data_size": array.nbytes}
            # A view: joining the parts is the one copy.
            parts.append(np.ascontiguousarray(array, "<f4").data.cast("B"))
        else:
            output["data"] = array.ravel().tolist()
        outputs.append(output)
    header = _encode(_Response(model_name, model_version, outputs, request.id))
    return (b"".join((header, *parts)), len(header)) if parts else (header, None)


def encode_request(upload: Array, *, name: str | None = None, request_id: str | None = None) -> tuple[bytes, int]:
    """The body of a request for every output in binary, and the size of its JSON part.

    Args:
        upload: ``H [N, L, D]`` float32, or ``ids [N, L_cloud]`` int32.
        name: of the input; by default ``H`` or ``ids``, after the type.
        request_id: comes back with the answer.

    Raises:
        CocorrrecError: neither numbers nor ids, or ids that are none.
    """
    if upload.dtype.kind not in "iuf":
        raise CocorrrecError(f"correct: the upload is {upload.dtype} {list(upload.shape)}, expected float32 or int32")
    dtype = "float32" if upload.dtype.kind == "f" else "int32"
    if dtype == "int32":
        upload = narrowed("correct", HISTORY, upload)
    content = upload.astype(np.dtype(dtype).newbyteorder("<"), copy=False).tobytes()
    tensor = {
        "name": name or (HISTORY if dtype == "int32" else "H"),
        "shape": upload.shape,
        "datatype": DATATYPES[dtype],
        "parameters": {"binary_data_size": len(content)},
    }
    facts: dict[str, Any] = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    header = _encode(facts if request_id is None else {"id": request_id} | facts)
    return header + content, len(header)


class _Answer(msgspec.Struct):
    outputs: list[_Input]
    id: str | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


def parse_response(body: bytes, header_length: int) -> tuple[str | None, dict[str, Array]]:
    """The id and the binary tensors of an answer.

    Raises:
        ValueError: it is not what a server of the protocol sends.
    """
    answer = _decode_answer(body[:header_length])
    arrays, start = {}, header_length
    for output in answer.outputs:
        size = (output.parameters or {}).get("binary_data_size")
        if type(size) is not int or size != 4 * math.prod(output.shape) or start + size > len(body):
            raise ValueError(f"output '{output.name}' has binary_data_size {size}, shape {output.shape}")
        # A copy, since runtimes want arrays that they may write to.
        arrays[output.name] = np.frombuffer(body, "<f4", size // 4, start).reshape(output.shape).copy()
        start += size
    if start != len(body):
        raise ValueError(f"{len(body) - start} bytes too many")
    return answer.id, arrays


def encode_error(message: str) -> bytes:
    """The one form of every error."""
    return _encode({"error": message})
