"""Ids and numbers that a native runtime would answer anyway: one message, the same on every target."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.contract import CANDIDATES, CLICK, HISTORY, ID_RULE
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.modeling.ttt import Correction
from cocorrrec_export.runtime.base import Arrays, Runtime, check_inputs, id_problem, score_list
from cocorrrec_export.runtime.open import describe, open_runtime
from tests.models import random_model

V = 60
HISTORY_OK = np.array([[7, 59, 3, 0, 0, 0, 0, 0, 0, 0]], dtype=np.int32)
ITEMS = np.arange(1, 6)


@pytest.fixture(params=["scn_fp32", "coreml_fp32", "tflite_int8", "onnx_int8"])
def opened(request: pytest.FixtureRequest) -> tuple[Artifact, Runtime]:
    artifact: Artifact = request.getfixturevalue(request.param)
    return artifact, open_runtime(artifact.target, artifact.program, artifact.entry_points)


def valid(runtime: Runtime, name: str) -> Arrays:
    """Inputs that an entry point takes."""
    inputs: Arrays = {}
    for spec in runtime.entry_points[name].inputs:
        shape = tuple(int(n) for n in spec.shape)
        inputs[spec.name] = np.full(shape, spec.name in (CANDIDATES, CLICK), dtype=spec.dtype)
    return inputs | ({HISTORY: HISTORY_OK} if HISTORY in inputs else {})


def with_value(array: Any, place: tuple[int, ...], value: float) -> Any:
    changed = array.copy()
    changed[place] = value
    return changed


def test_the_same_message_on_every_target(opened: tuple[Artifact, Runtime]) -> None:
    _, runtime = opened
    rule = f"{ID_RULE} (vocab_size {V})"
    cases = [
        ("rank", HISTORY, (0, 1), -1, f"rank: ids holds -1 at [0, 1]: {rule}"),
        ("encode", HISTORY, (0, 2), V, f"encode: ids holds {V} at [0, 2]: {rule}"),
        ("rank", HISTORY, (0, 1), 0, f"rank: ids holds 0 at [0, 1]: {rule}"),
        ("rank", HISTORY, (0, 9), 4, f"rank: ids holds 0 at [0, 8]: {rule}"),
        ("score", CANDIDATES, (0, 7), 0, f"score: candidates holds 0 at [0, 7]: {rule}"),
        ("rank", CANDIDATES, (0, 0), 2**31 - 1, f"rank: candidates holds {2**31 - 1} at [0, 0]: {rule}"),
        ("step", CLICK, (0,), 0, f"step: item holds 0 at [0]: {rule}"),
        ("rank_corrected", "k_b", (0, 1, 2, 3), np.nan, "rank_corrected: k_b holds a number that is not finite"),
        ("rank_corrected", "k_attn", (0, 0, 0, 0), np.inf, "rank_corrected: k_attn holds a number that is not finite"),
        ("score", "user", (0, 5), -np.inf, "score: user holds a number that is not finite"),
    ]
    for name, tensor, place, value, message in cases:
        inputs = valid(runtime, name)
        runtime.run(name, inputs)
        with pytest.raises(CocorrrecError) as raised:
            runtime.run(name, inputs | {tensor: with_value(inputs[tensor], place, value)})
        assert str(raised.value) == message


def test_lists_of_candidates(opened: tuple[Artifact, Runtime]) -> None:
    _, runtime = opened
    ids = {HISTORY: HISTORY_OK}
    scores = score_list(runtime, "rank", ids, ITEMS)
    np.testing.assert_array_equal(scores, score_list(runtime, "rank", ids, np.tile(ITEMS, 30))[:5])
    for wrong, words in (
        (np.array([], dtype=np.int64), "rank: candidates is empty"),
        (np.array([3, 2**32 + 5]), f"rank: candidates holds {2**32 + 5} at [1]"),
        (np.array([3, V]), f"rank: candidates holds {V} at [0, 1]"),
        (np.array([1.0]), "expected whole numbers"),
        (np.array([[1]]), "expected whole numbers"),
    ):
        with pytest.raises(CocorrrecError) as raised:
            score_list(runtime, "rank", ids, wrong)
        assert words in str(raised.value)
    with pytest.raises(CocorrrecError, match="rank: ids is a list, expected a numpy array int32"):
        runtime.run("rank", valid(runtime, "rank") | {HISTORY: HISTORY_OK.tolist()})


@torch.no_grad()
def test_a_constant_correction(opened: tuple[Artifact, Runtime]) -> None:
    """It has the deviation 0, on every target: what is added is the mean of what it is matched to, as in the model."""
    artifact, runtime = opened
    model, items = random_model(), 1 + np.arange(100, dtype=np.int32)[None] % (V - 1)
    vectors = model.item_vectors(torch.from_numpy(items).long())
    inputs = valid(runtime, "rank_corrected") | {CANDIDATES: items}
    for value in (0.0, 0.3, -7.0, 1e4):
        inputs |= {name: np.full_like(inputs[name], value) for name in ("k_attn", "k_b")}
        answer = Correction(*(torch.from_numpy(inputs[name]) for name in ("k_attn", "k_b")))
        expected = model.match(model.fuse(torch.from_numpy(HISTORY_OK).long(), answer), vectors)
        actual = runtime.run("rank_corrected", inputs)["scores"]
        close = 1e-4 if artifact.manifest["precision"] == "fp32" else artifact.limits.max_abs
        np.testing.assert_allclose(actual, expected.numpy(), atol=close, err_msg=str(value))


def test_the_file_says_the_rule(opened: tuple[Artifact, Runtime]) -> None:
    artifact, _ = opened
    assert describe(artifact.target, artifact.program).metadata["id_rule"] == ID_RULE


def test_a_history_of_one_place_and_of_many_users() -> None:
    assert id_problem(HISTORY, np.array([[0], [4]]), 5) is None
    assert "holds 5 at [1, 0]" in str(id_problem(HISTORY, np.array([[4], [5]]), 5))
    assert "holds 0 at [1, 0]" in str(id_problem(HISTORY, np.array([[4, 0], [0, 4]]), 5))
    assert id_problem(CLICK, np.array([2**31 - 2]), None) is None
    assert "(vocab_size" not in str(id_problem(CLICK, np.array([2**40]), None))


@pytest.mark.parametrize("name", ["README.md", "docs/manifest.md", "docs/exporting.md"])
def test_the_pages_say_it_in_the_same_words(name: str) -> None:
    page = " ".join((Path(__file__).parents[2] / name).read_text().replace("`", "").split())
    assert ID_RULE.removeprefix("item ids") in page


def test_nothing_else_is_refused(opened: tuple[Artifact, Runtime]) -> None:
    _, runtime = opened
    contract = check_inputs(runtime.entry_points, "step", valid(runtime, "step"), vocab_size=V)
    assert dataclasses.asdict(contract)["name"] == "step"
    state = valid(runtime, "step") | {"position": np.array([-1], dtype=np.int32)}
    runtime.run("step", state)


def test_a_file_of_no_bytes_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "gcn.onnx").write_bytes(b"")
    with pytest.raises(CocorrrecError, match="damaged, or no ONNX model: it has no operators"):
        describe("onnx", tmp_path / "gcn.onnx")
