"""What the LiteRT exporter mends of its converter."""

import pytest
import torch

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.export.tflite import _know_constants_by_content
from cocorrrec_export.runtime.tflite import read_flatbuffer


def test_a_constant_at_the_address_of_another_is_not_taken_for_it() -> None:
    pytest.importorskip("litert_torch")
    from litert_torch.backend.inline_consts import _ConstantFingerprint as Fingerprint

    _know_constants_by_content()
    first = torch.arange(12.0).view(3, 4)
    before = Fingerprint.from_tensor(first)
    assert Fingerprint.from_tensor(first.clone()) == before
    assert Fingerprint.from_tensor(first.view(4, 3)) != before
    assert Fingerprint.from_tensor(first.view(torch.int32)) != before
    first += 1
    assert Fingerprint.from_tensor(first) != before
    assert hash(Fingerprint.from_tensor(torch.zeros(0))) is not None


def test_int8_rows_become_float32_where_xnnpack_does_it(tflite_int8: Artifact) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = read_flatbuffer(tflite_int8.program)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    for graph in model.subgraphs:
        by = {
            names[model.operatorCodes[x.opcodeIndex].builtinCode]
            for x in graph.operators
            if graph.tensors[x.inputs[0]].type == schema.TensorType.INT8
            and graph.tensors[x.outputs[0]].type == schema.TensorType.FLOAT32
        }
        assert by == {"DEQUANTIZE"}
