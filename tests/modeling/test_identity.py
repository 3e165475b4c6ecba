"""A model is its configuration and its weights: with either changed it is another one, or none."""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.data.held_out import held_out_set
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.modeling.store import ModelFolder, load_model, open_model, shipped_models, write_description


@pytest.fixture
def copied(tiny: ModelFolder, tmp_path: Path) -> Path:
    shutil.copytree(tiny.path, tmp_path / "model")
    return tmp_path / "model"


def read(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "model.toml").read_text())


def write(folder: Path, table: dict[str, Any]) -> None:
    (folder / "model.toml").write_text(tomli_w.dumps(table))


CHANGES = [
    ("config", "inner_loss", "sigmoid"),
    ("config", "remask_correction", True),
    ("config", "mini_batch", 5),
    ("metrics", "made_up", 1.0),
    ("data", "vocabulary_sha256", "0" * 64),
    ("training", "seed", 77),
    ("files", "items.csv.gz", "0" * 64),
    (None, "name", "another"),
    (None, "toolkit_version", "9.9"),
    (None, "sha256", "0" * 64),
    (None, "content_sha256", "0" * 64),
]


@pytest.mark.parametrize(("table", "key", "value"), CHANGES)
def test_a_changed_description_is_refused(copied: Path, table: str | None, key: str, value: object) -> None:
    said = read(copied)
    (said if table is None else said[table])[key] = value
    write(copied, said)
    with pytest.raises(CocorrrecError, match="changed after it was written"):
        open_model(copied)


@pytest.mark.parametrize(("key", "value"), [("inner_loss", "sigmoid"), ("remask_correction", True), ("mini_batch", 5)])
def test_another_function_has_another_identity(copied: Path, tiny: ModelFolder, key: str, value: object) -> None:
    said = read(copied)
    said["config"][key] = value
    write_description(copied, said)
    changed = open_model(copied)
    assert changed.verified and changed.sha256 != tiny.sha256 and changed.weights_sha256 == tiny.weights_sha256
    for digest in ("sha256", "content_sha256"):  # as of an older version: read, and said to be unverified
        said = read(copied)
        del said[digest]
        write(copied, said)
    assert not open_model(copied).verified and open_model(copied).sha256 == changed.sha256


def test_of_many_tensors_that_do_not_fit_an_error_names_some(copied: Path) -> None:
    said = read(copied)
    said["config"]["hidden_size"] *= 2
    write_description(copied, said)
    with pytest.raises(CocorrrecError, match=r"the config wants .*; and \d+ more$") as caught:
        load_model(open_model(copied))
    assert str(caught.value).count(";") == 5


def test_a_name_is_no_part_of_the_function(copied: Path, tiny: ModelFolder) -> None:
    write_description(copied, read(copied) | {"name": "another"})
    assert open_model(copied).sha256 == tiny.sha256


def test_held_out_users_that_were_changed_are_refused(copied: Path) -> None:
    folder = open_model(copied)
    before = held_out_set(folder)
    EvaluationSet(before.histories, before.candidates.flip(1)).save(folder.evaluation_path)
    with pytest.raises(CocorrrecError, match="damaged or replaced"):
        held_out_set(folder)
    said = read(copied)
    said["files"] = {}
    write_description(copied, said)
    assert not held_out_set(open_model(copied)).candidates.equal(before.candidates), "older models: nothing to check by"
    data = bytearray(folder.evaluation_path.read_bytes())
    data[-4] ^= 1  # the last candidate, still an item of the model
    folder.evaluation_path.write_bytes(data)
    with pytest.raises(CocorrrecError, match="its own digest"):
        held_out_set(open_model(copied))


def test_what_is_checked_is_what_is_loaded(copied: Path) -> None:
    """Weights that change between the check of the folder and their use."""
    folder = open_model(copied)
    data = bytearray(folder.weights_path.read_bytes())
    data[-1] ^= 1
    folder.weights_path.write_bytes(data)
    with pytest.raises(CocorrrecError, match="damaged or replaced"):
        load_model(folder)


def test_every_shipped_model_is_verified() -> None:
    for path in shipped_models().values():
        folder = open_model(path)
        assert folder.verified
        others = {p.name for p in (folder.evaluation_path, folder.items_path) if p.is_file()}
        assert folder.files.keys() == others, json.dumps(folder.files)
