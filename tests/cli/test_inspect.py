"""``inspect`` and ``doctor``, as a person and as a script meet them."""

import json
from pathlib import Path

import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.doctor import computer as doctor
from tests.commands import Cli


def test_inspect_with_and_without_a_manifest(cli: Cli, onnx_int8: Artifact, tiny_sha256: str) -> None:
    with_manifest = json.loads(cli("inspect", onnx_int8.path, "--json").stdout)
    bare = json.loads(cli("inspect", onnx_int8.program / "rank.onnx", "--json").stdout)  # the folder that it needs
    assert with_manifest.pop("checked_by") == "manifest"
    assert bare.pop("checked_by") == "its own digest"
    assert bare == with_manifest
    assert bare["metadata"]["model_sha256"] == tiny_sha256
    by_name = {entry["name"]: entry for entry in bare["entry_points"]}
    assert by_name["rank"]["outputs"] == [{"name": "scores", "dtype": "float32", "shape": [1, 100]}]
    assert sum(bare["parts"].values()) == bare["bytes"] == onnx_int8.bytes


def test_inspect_for_people(cli: Cli, phone_int8: Artifact) -> None:
    ended = cli("inspect", phone_int8.program)
    assert ended.code == 0
    for part in ("its own digest", "content_sha256", "ids int32 [1, 10]", "item_side", "graph", "rank_corrected"):
        assert part in ended.stdout


@pytest.mark.parametrize(
    ("name", "message"), [("absent.pte", "no such file or folder"), ("notes.txt", "not an export: expected .pte")]
)
def test_what_is_no_export(cli: Cli, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    ended = cli("inspect", tmp_path / name)
    assert ended.code == 2 and message in ended.stderr and not ended.stdout


def test_a_file_of_another_maker_says_so(cli: Cli, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "other", value[:1], value[1:])
    onnx.save(helper.make_model(graph), tmp_path / "other.onnx")
    ended = cli("inspect", tmp_path / "other.onnx", "--json")
    assert ended.code == 0
    found = json.loads(ended.stdout)
    assert found["checked_by"] == "nothing: it carries no digest" and found["parts"] == {}
    assert found["entry_points"][0]["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["N", 2]}]


@pytest.mark.slow
def test_doctor(cli: Cli) -> None:
    ended = cli("doctor", "--json")
    found = json.loads(ended.stdout)
    assert found.keys() == {"ok", "platform", "checks"}
    assert ended.code == 0 and found["ok"], ended.stdout
    checks = {check["name"]: check for check in found["checks"]}
    for name in ("python", "torch", "executorch", "scn for tflite", "scn for coreml", "gcn for onnx", "adb"):
        assert checks[name].keys() == {"name", "ok", "detail", "hint"}
    assert "exports and runs" in checks["scn for executorch"]["detail"]


def test_doctor_says_what_is_missing_and_how_to_mend_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TARGETS", {})  # their checks take seconds, and have a test of their own
    monkeypatch.setattr(doctor.importlib.metadata, "version", _without_onnx)
    ended = cli("doctor", "--json")
    assert ended.code == 1
    (failed,) = [check for check in json.loads(ended.stdout)["checks"] if not check["ok"]]
    assert failed["name"] == "onnx" and failed["detail"] == "not installed"
    assert failed["hint"] == "pip install 'cocorrrec-export[onnx]'"


def _without_onnx(name: str) -> str:
    if name == "onnx":
        raise doctor.importlib.metadata.PackageNotFoundError(name)
    return next(x.version for x in doctor.importlib.metadata.distributions(name=name))
