"""Which inputs are tested, how they are written, and what a damaged file of them is answered with."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.export.graphs import gcn_contract, scn_contracts
from cocorrrec_export.modeling.store import read_tensors, write_tensors
from cocorrrec_export.parity.cases import gcn_cases, history_cases, scn_cases, stream_items
from cocorrrec_export.parity.vectors import Case, read_vectors, write_vectors
from tests.models import CONFIG, random_model, random_users

CONTRACTS = scn_contracts(CONFIG, candidates=12)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return scn_cases(random_model(), CONFIG, CONTRACTS, random_users())


def test_real_histories_come_first_and_every_edge_is_there() -> None:
    users = random_users()
    histories = history_cases(CONFIG, users)
    assert next(iter(histories)) == "user0" and histories["user0"].equal(users.histories[:1])
    lengths = {int((ids != 0).sum()) for ids in histories.values()}
    assert {0, 1, 2, 5, 9, 10} <= lengths
    assert histories["first_item"].eq(1).all() and histories["last_item"].eq(59).all()
    assert all(ids.shape == (1, 10) for ids in histories.values())
    assert next(iter(history_cases(CONFIG, None))) == "random0"
    for ids in histories.values():  # padding is on the right
        clicks = int((ids != 0).sum())
        assert (ids[0, :clicks] != 0).all()


def test_the_inputs_are_the_same_every_time() -> None:
    for real in (None, random_users()):
        first, second = history_cases(CONFIG, real), history_cases(CONFIG, real)
        assert all(first[name].equal(second[name]) for name in first)


def test_every_entry_point_is_covered_and_expected_from_the_plain_model(cases: list[Case]) -> None:
    assert {case.entry_point for case in cases} == CONTRACTS.keys()
    model = random_model()
    for case in cases:
        if case.entry_point not in ("rank", "rank_corrected"):
            continue
        ids, candidates = (torch.from_numpy(case.inputs[name]) for name in ("ids", "candidates"))
        expected = model(ids, candidates, corrected=case.entry_point == "rank_corrected")
        torch.testing.assert_close(torch.from_numpy(case.expected["scores"]), expected.detach())
        assert {1, 59} <= set(case.inputs["candidates"][0].tolist()), "both ends of the vocabulary are candidates"


def test_the_stream_passes_a_commit(cases: list[Case]) -> None:
    steps = [case for case in cases if case.entry_point == "step"]
    assert len(steps) > CONFIG.mini_batch
    for before, after in itertools.pairwise(steps):
        assert np.array_equal(before.expected["W_next"], after.inputs["W"])
        assert np.array_equal(before.expected["position_next"], after.inputs["position"])
    users = random_users()
    first = users.histories[users.histories != 0][:3]
    assert torch.cat(stream_items(CONFIG, users, 3)).equal(first)


def test_gcn_cases_are_one_user_and_many() -> None:
    sizes = {case.inputs["H"].shape[0] for case in gcn_cases(random_model(), CONFIG, random_users())}
    assert 1 in sizes and max(sizes) > 10


def test_names_dtypes_and_places(cases: list[Case], tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.safetensors", cases, CONTRACTS)
    tensors = read_tensors(tmp_path / "v.safetensors")
    for side, specs in (("in", CONTRACTS["rank_corrected"].inputs), ("out", CONTRACTS["rank_corrected"].outputs)):
        for index, spec in enumerate(specs):
            tensor = tensors[f"rank_corrected.user0.{side}.{index}.{spec.name}"]
            assert tuple(tensor.shape) == spec.shape and str(tensor.dtype) == f"torch.{spec.dtype}"


def test_round_trip(cases: list[Case], tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.safetensors", cases, CONTRACTS)
    read = {(case.entry_point, case.name): case for case in read_vectors(tmp_path / "v.safetensors", CONTRACTS)}
    assert read.keys() == {(case.entry_point, case.name) for case in cases}
    for case in cases:
        same = read[case.entry_point, case.name]
        for mine, theirs in ((case.inputs, same.inputs), (case.expected, same.expected)):
            assert mine.keys() == theirs.keys()
            assert all(np.array_equal(theirs[name], value.astype(theirs[name].dtype)) for name, value in mine.items())


GCN = {"correct": gcn_contract(CONFIG)}
H = torch.zeros(2, 10, 64)
GOOD = {
    "correct.a.in.0.H": H,
    "correct.a.out.0.k_attn": torch.zeros(2, 4, 10, 10),
    "correct.a.out.1.k_b": torch.zeros(2, 4, 10, 16),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict.fromkeys(GOOD), "holds no test vectors"),
        ({"correct.a.in.0.H": None}, r"correct.a: holds \[\], expected \['H'\]"),
        ({"correct.a.in.0.H": H[..., :3]}, r"H is float32 \[2, 10, 3\], expected float32 \['N', 10, 64\]"),
        ({"correct.a.in.0.H": H[0]}, r"H is float32 \[10, 64\]"),
        ({"correct.a.in.0.H": H.double()}, "H is float64"),
        ({"correct.a.in.1.G": H}, r"holds \['G', 'H'\]"),
        ({"rank.a.in.0.ids": H}, "'rank.a.in.0.ids' is not a test vector of correct"),
        ({"correct.a.H": H}, "'correct.a.H' is not a test vector"),
        ({"correct.a.at.0.H": H}, "is not a test vector"),
    ],
)
def test_vectors_that_do_not_fit(tmp_path: Path, changes: dict[str, torch.Tensor | None], message: str) -> None:
    path = tmp_path / "v.safetensors"
    write_tensors({name: x for name, x in (GOOD | changes).items() if x is not None}, path)
    with pytest.raises(CocorrrecError, match=message):
        read_vectors(path, GCN)


def test_good_ones_and_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    write_tensors(GOOD, path)
    assert len(read_vectors(path, GCN)) == 1
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CocorrrecError, match="not a complete safetensors file"):
        read_vectors(path, GCN)


def test_a_file_without_candidates_still_has_cases() -> None:
    only: dict[str, EntryPoint] = {"encode": CONTRACTS["encode"]}
    assert {case.entry_point for case in scn_cases(random_model(), CONFIG, only, None)} == {"encode"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["in", "out"])
def test_vectors_that_are_not_finite_are_refused(tmp_path: Path, side: str, value: float) -> None:
    spec = (TensorSpec("user", "float32", (2,)),)
    good, bad = np.zeros(2, np.float32), np.array([0.0, value], np.float32)
    case = Case("e", "c", {"user": bad if side == "in" else good}, {"user": bad if side == "out" else good})
    write_vectors(tmp_path / "v.safetensors", [case], {"e": EntryPoint("e", spec, spec)})
    with pytest.raises(CocorrrecError, match=r"e\.c: user holds a number that is not finite"):
        read_vectors(tmp_path / "v.safetensors", {"e": EntryPoint("e", spec, spec)})
