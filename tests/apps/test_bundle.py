"""Bundles for apps: what is in them, whom they refuse, and that the demo apps are made of exactly this."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cocorrrec_export.apps.android import ANDROID
from cocorrrec_export.apps.bundle import literal, write_bundle
from cocorrrec_export.apps.ios import IOS
from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.files import sha256_file
from cocorrrec_export.modeling.store import ModelFolder
from tests.commands import Cli
from tests.conftest import ROOT

SYSTEMS = {
    "android": ("src/main/assets/cocorrrec", "src/main/kotlin/org/cocorrrec/model/ScnModel.kt"),
    "ios": ("Sources/ScnModel/Resources", "Sources/ScnModel/ScnModel.swift"),
}


@pytest.fixture(scope="module", params=["android", "ios"])
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bundle(scn_int8: Artifact, system: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that tests only read."""
    out = tmp_path_factory.mktemp("bundles") / system
    made = write_bundle({"android": ANDROID, "ios": IOS}[system], scn_int8.path, out, model=None)
    assert made["bundle"] == str(out)
    return out


def test_program_manifest_and_items_are_those_of_the_export(bundle: Path, system: str, scn_int8: Artifact) -> None:
    model = bundle / SYSTEMS[system][0]
    assert sha256_file(model / "scn.pte") == sha256_file(scn_int8.program)
    assert json.loads((model / "manifest.json").read_text()) == scn_int8.manifest
    items = json.loads((model / "items.json").read_text())
    assert items["model_sha256"] == scn_int8.manifest["model"]["sha256"]
    assert len(items["items"]) == constant(bundle, system, "vocabSize") - 1


def constant(bundle: Path, system: str, name: str) -> Any:
    """A constant of the generated file, by its name in Swift."""
    text = (bundle / SYSTEMS[system][1]).read_text()
    name = re.sub("([A-Z])", r"_\1", name).upper() if system == "android" else name
    found = re.search(rf"\b{name}(?:: \[String\])? = (.*)", text)
    assert found, name
    return json.loads(re.sub(r"listOf(?:<String>)?\((.*)\)", r"[\1]", found[1]))


def test_the_constants_are_those_of_the_export(bundle: Path, system: str, scn_int8: Artifact) -> None:
    manifest = scn_int8.manifest
    inputs = {entry.name: {x.name: x.shape for x in entry.inputs} for entry in scn_int8.entry_points}
    assert constant(bundle, system, "name") == manifest["model"]["name"]
    assert constant(bundle, system, "version") == manifest["model"]["sha256"][:16]
    assert constant(bundle, system, "precision") == "int8"
    assert constant(bundle, system, "entryPoints") == list(inputs)
    assert (1, constant(bundle, system, "sequenceLength")) == inputs["rank"]["ids"]
    assert (1, constant(bundle, system, "candidates")) == inputs["rank"]["candidates"]
    corrections = [name for name in inputs["rank_corrected"] if name not in ("ids", "candidates")]
    assert constant(bundle, system, "correctionTensors") == corrections
    assert constant(bundle, system, "correction") == ("vector" if corrections == ["vector"] else "kernel")


def test_the_index_lists_every_file(bundle: Path, system: str) -> None:
    index = json.loads((bundle / "bundle.json").read_text())
    assert index["system"] == system
    present = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert {file["path"] for file in index["files"]} == present - {"bundle.json"}
    for file in index["files"]:
        assert file["sha256"] == sha256_file(bundle / file["path"])


KOTLIN = "src/main/kotlin/org/cocorrrec"
MODULES = {
    "android": {
        f"{KOTLIN}/recommending": f"android_demo/recommending/{KOTLIN}/recommending",
        f"{KOTLIN}/executorch": f"android_demo/scn-executorch/{KOTLIN}/executorch",
    },
    "ios": {f"Sources/{name}": f"ios_demo/Sources/{name}" for name in ("Recommending", "CloudClient", "ScnExecuTorch")},
}


def test_the_demo_is_made_of_exactly_these_sources(bundle: Path, system: str) -> None:
    for ours, theirs in MODULES[system].items():
        files = sorted((ROOT / theirs).iterdir())
        assert files
        assert [path.name for path in files] == sorted(path.name for path in (bundle / ours).iterdir())
        assert all(path.read_bytes() == (bundle / ours / path.name).read_bytes() for path in files)


def test_the_page_names_what_the_sources_have(bundle: Path, system: str) -> None:
    page = (bundle / "README.md").read_text()
    sources = "\n".join(path.read_text() for path in bundle.rglob("*") if path.suffix in (".kt", ".swift"))
    code = "".join(re.findall(r"```(?:kotlin|swift)\n(.*?)```", page, flags=re.DOTALL))
    for name in set(re.findall(r"\b(ScnModel|Contract|Items|History|Scn|ProgramFile|ExecuTorchProgram)\b", code)):
        assert re.search(rf"\b(class|object|struct|enum) {name}\b", sources), name
    for name in set(re.findall(r"ScnModel\.(\w+)", code)):
        assert re.search(rf"\b{name}\b", (bundle / SYSTEMS[system][1]).read_text()), name


def test_a_bundle_is_replaced_and_other_files_are_not(
    cli: Cli, scn_int8: Artifact, system: str, tmp_path: Path
) -> None:
    for _ in range(2):
        ended = cli("bundle", system, scn_int8.path, "--out", tmp_path / "bundle", "--json")
        assert ended.code == 0, ended.stderr
        assert json.loads(ended.stdout)["correction"] == "kernel"
    (tmp_path / "bundle" / "mine.txt").write_text("mine")
    ended = cli("bundle", system, scn_int8.path, "--out", tmp_path / "bundle")
    assert ended.code == 2 and "mine.txt" in ended.stderr
    assert (tmp_path / "bundle" / "mine.txt").read_text() == "mine"


def test_titles_of_the_model_go_along(
    cli: Cli, tiny: ModelFolder, scn_int8: Artifact, gcn_fp32: Artifact, system: str, tmp_path: Path
) -> None:
    ended = cli("bundle", system, scn_int8.path, "--out", tmp_path / "b", "--model", tiny.path)
    assert ended.code == 0, ended.stderr
    ended = cli("bundle", system, scn_int8.path, "--out", tmp_path / "c", "--model", "cocorrrec-movielens")
    assert ended.code == 2 and "was exported from other weights" in ended.stderr
    ended = cli("bundle", system, gcn_fp32.path, "--out", tmp_path / "c")
    assert ended.code == 2 and "holds a gcn for onnx" in ended.stderr
    assert not (tmp_path / "c").exists()


def test_each_system_takes_its_own_targets(cli: Cli, tflite_int8: Artifact, tmp_path: Path) -> None:
    ended = cli("bundle", "ios", tflite_int8.path, "--out", tmp_path / "b")
    assert ended.code == 2 and "--target executorch or --target coreml" in ended.stderr
    assert cli("bundle", "android", tflite_int8.path, "--out", tmp_path / "b").code == 0
    assert "TfliteProgram(file)" in (tmp_path / "b" / "README.md").read_text()


def test_names_are_literals_of_both_languages() -> None:
    assert literal('a"$b\\(c)') == '"a\\"\\$b\\\\(c)"'
