"""``--architecture``: which model, or which export, is meant."""

import json
import os
import shutil
from pathlib import Path

import pytest

from cocorrrec_export.artifact.manifest import newest_artifact
from cocorrrec_export.errors import UsageError
from cocorrrec_export.modeling.store import find_model
from cocorrrec_export.resources import MODELS_DIR
from tests.commands import Cli
from tests.models import model_folder


def test_the_shipped_model_of_an_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(None) == find_model(None, "cocorrrec") == MODELS_DIR / "cocorrrec-movielens"
    assert find_model("cocorrrec-beauty", "cocorrrec") == MODELS_DIR / "cocorrrec-beauty"
    for name in ("a", "din-movielens", "z"):
        model_folder(tmp_path / name, users=False, architecture="din")
    model_folder(tmp_path / "only", users=False, architecture="sasrec")
    monkeypatch.setattr("cocorrrec_export.modeling.store.MODELS_DIR", tmp_path)
    assert find_model(None, "din") == tmp_path / "din-movielens"
    assert find_model(None, "sasrec") == tmp_path / "only"
    with pytest.raises(UsageError, match="no model of bert4rec ships: train one with 'cocorr-export train --arch"):
        find_model(None, "bert4rec")
    with pytest.raises(UsageError, match="is a din, not a sasrec: leave out --architecture"):
        find_model(str(tmp_path / "a"), "sasrec")


@pytest.mark.parametrize("command", ["evaluate", "scn --target onnx", "parity"])
def test_an_unknown_architecture_names_the_nearest(cli: Cli, command: str) -> None:
    ended = cli(*command.split(), "--architecture", "sasrek")
    assert (ended.code, ended.stdout) == (2, "")
    assert "unknown architecture 'sasrek' (did you mean 'sasrec'? known: bert4rec, cocorrrec," in ended.stderr


def test_evaluate_a_baseline(cli: Cli, tmp_path: Path) -> None:
    model_folder(tmp_path / "mine", architecture="gru4rec")
    ended = cli("evaluate", "--model", tmp_path / "mine", "--architecture", "gru4rec", "--json")
    assert (ended.code, set(json.loads(ended.stdout)["metrics"])) == (0, {"alone"})
    for command in (["evaluate"], ["scn", "--target", "onnx"]):
        ended = cli(*command, "--model", tmp_path / "mine", "--architecture", "din")
        assert ended.code == 2 and "is a gru4rec, not a din" in ended.stderr
    ended = cli("gcn", "--model", tmp_path / "mine")
    assert ended.code == 2 and "gru4rec has no cloud half" in ended.stderr


def test_the_newest_export_of_an_architecture(tmp_path: Path) -> None:
    for age, name in enumerate(("mamba4rec-tflite-int8", "din-onnx-fp32", "gcn-onnx-fp32", "scn-onnx-fp32")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
        os.utime(tmp_path / name / "manifest.json", (0, 1000 - age))
    assert newest_artifact(tmp_path).name == "mamba4rec-tflite-int8"
    assert newest_artifact(tmp_path, kind="scn").name == "scn-onnx-fp32"
    assert newest_artifact(tmp_path, architecture="cocorrrec").name == "scn-onnx-fp32"
    assert newest_artifact(tmp_path, architecture="din").name == "din-onnx-fp32"
    assert newest_artifact(tmp_path, targets=["onnx"]).name == "din-onnx-fp32"
    assert newest_artifact(tmp_path, kind="scn", targets=["onnx", "tflite"]).name == "scn-onnx-fp32"
    with pytest.raises(UsageError, match=r"no export for executorch or coreml under"):
        newest_artifact(tmp_path, targets=["executorch", "coreml"])
    shutil.rmtree(tmp_path / "din-onnx-fp32")
    with pytest.raises(
        UsageError, match=r"no export of din under .*: make one with 'cocorr-export scn --architecture din'"
    ):
        newest_artifact(tmp_path, architecture="din")
    with pytest.raises(UsageError, match="unknown architecture 'dinn'"):
        newest_artifact(tmp_path, architecture="dinn")
