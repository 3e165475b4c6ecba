"""Mutants of every format that a stranger may send, through the reader that every command uses.

None may end in anything but one error of ours, take ten seconds or a gigabyte, or be taken for what it is not.
"""

import contextlib
import dataclasses
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cocorrrec_export.artifact.manifest import Artifact, open_artifact
from cocorrrec_export.artifact.recipe import load_recipe
from cocorrrec_export.data.held_out import held_out_set
from cocorrrec_export.data.prepared import read_cut, write_cut
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.isolation import in_child
from cocorrrec_export.modeling.store import ModelFolder, load_model, open_model
from cocorrrec_export.parity.vectors import read_vectors
from cocorrrec_export.profiling.report.document import read_profile, write_profile
from cocorrrec_export.resources import RECIPES_DIR
from cocorrrec_export.runtime.open import rehearse
from cocorrrec_export.training.checkpoint import RunState, load_checkpoint, save_checkpoint
from tests.coreml import MODEL
from tests.data.test_prepared import ORIGIN, example
from tests.exports import rehash
from tests.hostile.mutants import json_mutants, mutants
from tests.profiling.profiles import small_profile

SECONDS = 10.0
BYTES = 1 << 30
FEW, MANY = 24, 300
Read = Callable[[Path], Any]
"""Reads the folder or file, and returns what it holds in a form that can be compared."""


def plain(value: Any) -> Any:
    """For comparison: tensors and arrays as bytes."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def attack(path: Path, read: Read, made: "list[bytes]") -> int:
    """Put each mutant in the place of ``path``, and read; how many were read as what they were before."""
    whole, same = path.read_bytes(), 0
    before = plain(read(path))
    for index, mutant in enumerate(made):
        path.write_bytes(mutant)
        start, peak = time.monotonic(), peak_bytes()
        try:
            found = plain(read(path))
        except CocorrrecError:
            pass
        else:
            assert found == before, f"mutant {index} was taken for something else"
            same += 1
        assert time.monotonic() - start < SECONDS, f"mutant {index}"
        assert peak_bytes() - peak < BYTES, f"mutant {index}"
    path.write_bytes(whole)
    assert plain(read(path)) == before
    return same


def counted(slow_count: int = MANY) -> Any:
    return pytest.mark.parametrize("count", [FEW, pytest.param(slow_count, marks=pytest.mark.slow)])


@counted()
def test_manifest(gcn_fp32: Artifact, tmp_path: Path, count: int) -> None:
    shutil.copytree(gcn_fp32.path, tmp_path / "export")
    path = tmp_path / "export" / "manifest.json"

    def read(manifest: Path) -> object:
        return open_artifact(manifest.parent).manifest

    data = path.read_bytes()
    # A key that is renamed or removed leaves a manifest without a digest: refused or unverified, never taken as before.
    same = attack(path, read, [*mutants(data, count, seed=1), *json_mutants(data, count, seed=2)])
    assert same < count / 4, "only blanks may differ unseen"


@counted()
def test_model_description(tiny: ModelFolder, tmp_path: Path, count: int) -> None:
    shutil.copytree(tiny.path, tmp_path / "model")
    path = tmp_path / "model" / "model.toml"

    def read(toml: Path) -> object:
        folder = open_model(toml.parent)
        return [folder.sha256, folder.name, folder.config, folder.data, folder.training, folder.metrics, folder.files]

    attack(path, read, list(mutants(path.read_bytes(), count, seed=3)))


@counted()
@pytest.mark.parametrize("name", ["weights.safetensors", "evaluation.safetensors"])
def test_tensors_of_a_model(tiny: ModelFolder, tmp_path: Path, name: str, count: int) -> None:
    shutil.copytree(tiny.path, tmp_path / "model")
    folder = open_model(tmp_path / "model")

    def read(path: Path) -> object:
        if path.name.startswith("weights"):
            return load_model(open_model(path.parent)).state_dict()
        users = held_out_set(folder)
        return [users.histories, users.candidates]

    path = tmp_path / "model" / name
    assert attack(path, read, list(mutants(path.read_bytes(), count, seed=4))) == 0


@counted()
def test_vectors(gcn_fp32: Artifact, tmp_path: Path, count: int) -> None:
    shutil.copy(gcn_fp32.vectors, tmp_path / "vectors.safetensors")
    contracts = {entry.name: entry for entry in gcn_fp32.entry_points}
    path = tmp_path / "vectors.safetensors"

    def read(file: Path) -> object:
        cases = read_vectors(file, contracts)  # in any order
        return {f"{case.entry_point}.{case.name}": (case.inputs, case.expected) for case in cases}

    attack(path, read, list(mutants(path.read_bytes(), count, seed=5)))


@counted()
def test_checkpoint(tmp_path: Path, count: int) -> None:
    def parts() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.Adam(model.parameters())

    model, optimizer = parts()
    model(torch.ones(1, 3)).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    state = RunState(epoch=2, step=3, loss_sum=0.5, records=[{"loss": 1.0}], best_epoch=1)
    state.best = {name: x.clone() for name, x in model.state_dict().items()}
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, model, [optimizer], state)

    def read(file: Path) -> object:
        (model, optimizer), found = parts(), RunState()
        load_checkpoint(file, model, [optimizer], found)
        moments = list(optimizer.state_dict()["state"].values())
        return [model.state_dict(), moments, found.epoch, found.step, found.loss_sum, found.records, found.best]

    with torch.random.fork_rng():
        attack(path, read, list(mutants(path.read_bytes(), count, seed=6)))


@counted()
def test_cut(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.cut"
    write_cut(path, example(), ORIGIN)

    def read(file: Path) -> object:
        found = read_cut(file).interactions
        return [found.items, found.offsets, list(found.item_ids), list(found.user_ids)]

    attack(path, read, list(mutants(path.read_bytes(), count, seed=7)))


@counted()
@pytest.mark.parametrize("form", ["recipe", "profile"])
def test_documents_without_a_digest_end_in_an_error_of_ours_or_in_a_document(
    tmp_path: Path, form: str, count: int
) -> None:
    """Users write recipes, and compare profiles: another content is not to be refused, but never a fault of ours."""
    if form == "recipe":
        path = Path(shutil.copy(min(RECIPES_DIR.rglob("*.toml")), tmp_path / "a.toml"))
        read: Read = load_recipe
        made = list(mutants(path.read_bytes(), count, seed=8))
    else:
        path, read = write_profile(tmp_path, small_profile()), read_profile
        made = [*mutants(path.read_bytes(), count, seed=9), *json_mutants(path.read_bytes(), count, seed=10)]
    for mutant in made:
        path.write_bytes(mutant)
        start = time.monotonic()
        with contextlib.suppress(CocorrrecError):
            read(path)
        assert time.monotonic() - start < SECONDS


NATIVE = {
    "scn_int8": "scn.pte",
    "tflite_int8": "scn.tflite",
    "onnx_int8": "scn/rank.onnx",
    "gcn_fp32": "gcn.onnx",
    "coreml_fp32": f"scn.mlpackage/{MODEL}",
}
"""Of each export, what is damaged."""


def rehearsed(artifact: Artifact) -> int:
    """Bytes of memory that loading and running a program took, whatever came of it."""
    before = peak_bytes()
    with contextlib.suppress(Exception):  # of the library's own kinds too
        rehearse(artifact.target, artifact.program, artifact.entry_points)
    return peak_bytes() - before


@pytest.mark.parametrize(
    ("kind", "count"),
    [("scn_int8", 3), ("gcn_fp32", 3), *(pytest.param(kind, MANY, marks=pytest.mark.slow) for kind in NATIVE)],
)
def test_native_loaders_in_their_child(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, count: int
) -> None:
    """What a runtime makes of a damaged program stays in the child, in time and memory; and no manifest that was made
    to match it vouches for it."""
    monkeypatch.setattr("cocorrrec_export.isolation.TIMEOUT_S", SECONDS)
    if count == MANY:
        request.getfixturevalue("warm_children")
    artifact: Artifact = request.getfixturevalue(kind)
    folder = Path(shutil.copytree(artifact.path, tmp_path / "export"))
    changed = dataclasses.replace(artifact, path=folder)
    in_child("the first, which starts the others", rehearsed, changed)
    for index, mutant in enumerate(mutants((folder / NATIVE[kind]).read_bytes(), count, seed=11)):
        (folder / NATIVE[kind]).write_bytes(mutant)
        start, taken = time.monotonic(), 0
        with contextlib.suppress(CocorrrecError):  # it died, or took too long
            taken = in_child("running it", rehearsed, changed)
        assert taken < BYTES, f"mutant {index}"
        assert time.monotonic() - start < SECONDS, f"mutant {index}"
        rehash(folder, resealed=False)
        with pytest.raises(CocorrrecError):
            open_artifact(folder)
