"""What is inside a ``.pte``: the weights once, int8 weights in int8, arithmetic in XNNPACK."""

from typing import Any

import numpy as np
import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet
from cocorrrec_export.modeling.store import ModelFolder, load_model
from cocorrrec_export.runtime.open import open_runtime

DELEGATES = {"encode": 1, "rank": 1, "rank_corrected": 2, "step": 2, "score": 1}
ARITHMETIC = {"linear", "bmm", "mm", "addmm", "tanh", "sigmoid", "rsqrt", "dequantize_per_channel"}


def program_file(artifact: Artifact) -> Any:
    with quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary

        return deserialize_pte_binary(artifact.program.read_bytes())


def constant_bytes(artifact: Artifact) -> int:
    """All tensors in the file, in the program and in the store that the delegates share."""
    file = program_file(artifact)
    shared = sum(len(buffer) for buffer in file.named_data.buffers)
    return shared + sum(len(buffer.storage) for buffer in file.program.constant_buffer)


@pytest.mark.parametrize("kind", ["scn_fp32", "scn_int8"])
def test_arithmetic_runs_in_xnnpack(kind: str, request: pytest.FixtureRequest) -> None:
    plans = {plan.name: plan for plan in program_file(request.getfixturevalue(kind)).program.execution_plan}
    for name, delegates in DELEGATES.items():
        assert len(plans[name].delegates) == delegates
        outside = {operator.name.split("::")[1] for operator in plans[name].operators}
        assert not outside & ARITHMETIC


def test_weights_are_stored_once_and_in_their_precision(
    scn_fp32: Artifact, scn_int8: Artifact, tiny: ModelFolder
) -> None:
    parameters = sum(x.numel() for x in load_model(tiny).scn.parameters())
    # Rotary tables, masks and constant rows come on top; a second copy of any projection would be 16 KiB, 4 in int8.
    constants = 14_500
    assert constant_bytes(scn_fp32) < 4 * parameters + constants
    # One byte for tables and projections, four for the other ~2,000 parameters, and the scales.
    assert constant_bytes(scn_int8) < parameters + 3 * 2000 + constants


@pytest.mark.parametrize("item", [60, -1, 2**31 - 1, -(2**31)])
def test_an_item_outside_the_vocabulary_is_an_error_and_not_a_crash(scn_int8: Artifact, item: int) -> None:
    runtime = open_runtime("executorch", scn_int8.program, scn_int8.entry_points)
    ids = np.ones((1, 10), dtype=np.int32)
    good = runtime.run("encode", {"ids": ids})["H"]
    bad = ids.copy()
    bad[0, 3] = item
    with pytest.raises(CocorrrecError, match=rf"encode: ids holds {item} at \[0, 3\]: item ids are 1 to"):
        runtime.run("encode", {"ids": bad})
    np.testing.assert_array_equal(runtime.run("encode", {"ids": ids})["H"], good)


def test_outputs_are_copies(scn_fp32: Artifact) -> None:
    runtime = open_runtime("executorch", scn_fp32.program, scn_fp32.entry_points)
    first = runtime.run("encode", {"ids": np.full((1, 10), 1, np.int32)})["H"]
    kept = first.copy()
    runtime.run("encode", {"ids": np.full((1, 10), 2, np.int32)})
    np.testing.assert_array_equal(first, kept)


def test_a_contract_that_is_not_the_files_is_refused(scn_fp32: Artifact) -> None:
    import dataclasses

    renamed = [dataclasses.replace(entry, name=f"{entry.name}_") for entry in scn_fp32.entry_points]
    with pytest.raises(CocorrrecError, match="lacks the entry points encode_"):
        open_runtime("executorch", scn_fp32.program, renamed)
    encode = scn_fp32.entry_points[0]
    wrong = dataclasses.replace(encode, outputs=(dataclasses.replace(encode.outputs[0], shape=(1, 10, 32)),))
    runtime = open_runtime("executorch", scn_fp32.program, [wrong])
    with pytest.raises(CocorrrecError, match=r"returned H as float32 \[1, 10, 64\], expected float32 \[1, 10, 32\]"):
        runtime.run("encode", {"ids": np.ones((1, 10), np.int32)})
