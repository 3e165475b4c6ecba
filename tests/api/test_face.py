"""``import cocorrrec_export``: what it gives, what it imports, and that a user's script type-checks."""

import inspect
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import cocorrrec_export as cocorr
from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.errors import CocorrrecError, ParityError, UsageError
from cocorrrec_export.modeling.store import ModelFolder
from tests.conftest import ROOT

EXAMPLE = ROOT / "examples" / "python_face.py"
HEAVY = ("torch", "numpy", "polars", "onnx", "onnxruntime", "executorch", "matplotlib", "typer", "rich")


def python(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True, timeout=120)


def test_the_import_loads_nothing_heavy() -> None:
    loaded = python("import sys, cocorrrec_export\nprint(*sys.modules)").split()
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY)
    assert {name for name in loaded if name.startswith("cocorrrec_export")} == {"cocorrrec_export"}


def test_opening_an_artifact_needs_no_torch() -> None:
    code = "import sys, cocorrrec_export as c\nc.open_artifact, c.open_runtime, c.profile, c.check_parity, c.load_model"
    assert "torch" not in python(f"{code}\nprint(*sys.modules)").split()


@pytest.mark.parametrize("first", ["import cocorrrec_export.export.pipeline", "cocorrrec_export.export", "pass"])
def test_export_is_called_whatever_was_imported_before(first: str) -> None:
    code = f"""
import inspect, cocorrrec_export
{first}
from cocorrrec_export.export import pipeline
import cocorrrec_export.export.vectors as vectors
from cocorrrec_export import export
try:
    export("scn", "nowhere")
except cocorrrec_export.errors.UsageError as error:
    print(error)
print(pipeline.__name__, vectors.__name__, next(iter(inspect.signature(export).parameters)))
"""
    said, names = python(code).splitlines()
    assert "unknown target 'nowhere'" in said
    assert names == "cocorrrec_export.export.pipeline cocorrrec_export.export.vectors kind"


def test_every_name_is_documented() -> None:
    assert set(cocorr.__all__) <= set(dir(cocorr))
    for name in cocorr.__all__:
        found = getattr(cocorr, name)
        function = found.__wrapped__ if isinstance(found, types.ModuleType) else found
        text = inspect.getdoc(function) or ""
        assert re.search(r"^Raises:$", text, re.M) and "Error: " in text, name
        assert re.search(r"^Returns:$", text, re.M), name
        (arguments,) = re.findall(r"^Args:\n(.*?)\n\n", text, re.M | re.S)
        explained = re.findall(r"^    (\w+): ", arguments, re.M)
        assert explained == list(inspect.signature(function).parameters), name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'exports'"):
        cocorr.exports  # type: ignore[attr-defined]  # noqa: B018


def test_a_model_is_loaded_by_its_folder(tiny: ModelFolder) -> None:
    model = cocorr.load_model(tiny)
    torch = pytest.importorskip("torch")
    ids = torch.tensor([[1, 2] + [0] * (tiny.config.sequence_length - 2)])
    scores = model(ids, torch.tensor([[3, 4, 5]]))
    assert scores.shape == (1, 3) and scores.dtype == torch.float32
    with pytest.raises(UsageError, match="unknown model 'nothing'"):
        cocorr.load_model("nothing")


def test_a_model_is_evaluated(tiny: ModelFolder) -> None:
    found = cocorr.evaluate(tiny.path, controls=True, late_rates=[0.5], draws=2)
    assert found.users > 0 and 0 <= found.metrics["alone"]["ndcg@10"] <= 1
    assert found.as_dict().keys() >= {"metrics", "full", "references", "controls", "paired", "late"}
    assert found.as_dict()["late"]["draws"] == 2


def test_an_artifact_is_opened_run_and_checked(onnx_int8: Artifact, tiny: ModelFolder) -> None:
    artifact = cocorr.open_artifact(str(onnx_int8.path))
    runtime = cocorr.open_runtime(artifact)
    rank = runtime.entry_points["rank"]
    inputs = {spec.name: np.ones([int(n) for n in spec.shape], spec.dtype) for spec in rank.inputs}
    assert runtime.run("rank", inputs)["scores"].shape == rank.outputs[0].shape
    with pytest.raises(CocorrrecError, match="missing input candidates"):
        runtime.run("rank", {"ids": inputs["ids"]})
    assert cocorr.check_parity(artifact, vectors_only=True).tensors.top10_overlap > 0.9
    assert cocorr.check_parity(artifact.path, model=tiny).ranking.users > 0
    with pytest.raises(UsageError, match="leave model and data out"):
        cocorr.check_parity(artifact, model=tiny, vectors_only=True)


def test_parity_beyond_the_limits_is_an_error_of_its_kind(onnx_int8: Artifact, tmp_path: Path) -> None:
    recipe = tmp_path / "strict.toml"
    shipped = (ROOT / "export_recipes" / "onnx-cpu-int8.toml").read_text()
    recipe.write_text(re.sub(r"max_abs = .*", "max_abs = 0", shipped))
    with pytest.raises(ParityError):
        cocorr.check_parity(onnx_int8, recipe=recipe, vectors_only=True)


def test_a_profile_takes_a_phone_when_a_serial_is_given(onnx_int8: Artifact, tmp_path: Path) -> None:
    with pytest.raises(CocorrrecError, match="onnx files are profiled with --host"):
        cocorr.profile(onnx_int8, tmp_path / "report", device="ABC")
    assert not (tmp_path / "report").exists()


def test_the_readme_uses_these_names_alone() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert re.findall(r"^(?:import|from) .*$", example, re.M) == ["import cocorrrec_export as cocorr"]
    assert set(re.findall(r"\bcocorr\.(\w+)", example)) <= set(cocorr.__all__)


@pytest.mark.slow
def test_a_users_script_type_checks(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "script.py")
    (tmp_path / "wrong.py").write_text('import cocorrrec_export as c\nc.export("scn", 3)\nc.evaluate().nothing\n')
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null", "--cache-dir", "cache"]
    ended = subprocess.run([*command, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stdout
    ended = subprocess.run([*command, "wrong.py"], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 1 and len(re.findall(r"error: .*\[(arg-type|attr-defined)\]", ended.stdout)) == 2


@pytest.mark.slow
def test_the_example_does_the_whole_job(tmp_path: Path) -> None:
    clicks = (np.random.default_rng(1).integers(0, 300, (300, 1)) + np.arange(12)) % 300  # each follows the one before
    rows = [f"{user},{item},{time}" for user, own in enumerate(clicks) for time, item in enumerate(own)]
    (tmp_path / "clicks.csv").write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    ended = subprocess.run(
        [sys.executable, EXAMPLE, "clicks.csv"], cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "pass"
    assert (tmp_path / "profiles" / "mine" / "report.html").is_file()
