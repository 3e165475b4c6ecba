"""One export of each kind and target, shared by the tests that look at exported files."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cocorrrec_export.artifact.manifest import Artifact, sealed
from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.export import pipeline
from cocorrrec_export.files import sha256_file
from cocorrrec_export.modeling.store import ModelFolder
from cocorrrec_export.runtime.seal import PLACEHOLDER, seal
from cocorrrec_export.targets import find_target
from tests.coreml import CoreMLExports
from tests.models import model_folder
from tests.once import once, shared_folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A random model with held-out users."""
    return model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_sha256(tiny: ModelFolder) -> str:
    """The digest by which everything names that model."""
    return tiny.sha256


Exported = Callable[[str, str, str], Artifact]


@pytest.fixture(scope="session")
def exported(tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The random model, exported by kind, target and precision: once for all processes of a run."""
    shared = shared_folder(tmp_path_factory)

    def export(kind: str, target: str, precision: str) -> Artifact:
        recipe = choose_recipe(kind, target, precision=precision)  # type: ignore[arg-type]
        out = shared / f"{kind}-{target}-{precision}"  # a folder for each: some tests take the newest of a folder
        source = pipeline.open_source(str(tiny.path), None)
        return once(out / recipe.folder(tiny.config.architecture), lambda: pipeline.export(source, recipe, out))

    return export


@pytest.fixture(scope="session")
def scn_fp32(exported: Exported) -> Artifact:
    """The on-device model in float32."""
    return exported("scn", "executorch", "fp32")


@pytest.fixture(scope="session")
def scn_int8(exported: Exported) -> Artifact:
    """The on-device model in int8."""
    return exported("scn", "executorch", "int8")


@pytest.fixture(scope="session")
def gcn_fp32(exported: Exported) -> Artifact:
    """The cloud model."""
    return exported("gcn", "onnx", "fp32")


@pytest.fixture(scope="session")
def tflite_int8(exported: Exported) -> Artifact:
    """The on-device model as a ``.tflite``."""
    return exported("scn", "tflite", "int8")


@pytest.fixture(scope="session")
def onnx_int8(exported: Exported) -> Artifact:
    """The on-device model as ONNX files."""
    return exported("scn", "onnx", "int8")


@pytest.fixture(scope="session")
def coreml_exports(tmp_path_factory: pytest.TempPathFactory) -> CoreMLExports:
    """A random model's exports to Core ML, each made once for all processes of a run."""
    model = model_folder(tmp_path_factory.mktemp("models") / "tiny")
    return CoreMLExports(model, shared_folder(tmp_path_factory) / "coreml")


@pytest.fixture(scope="session")
def coreml_fp32(coreml_exports: CoreMLExports) -> Artifact:
    """The on-device model as an ``.mlpackage``."""
    return coreml_exports.artifact("fp32")


def reseal(program: Path, model_sha256: str) -> None:
    """Make the program's own digest that of what is there now: the one that it carries is that of another content."""
    contents = [path for path in [program, *program.rglob("*")] if path.is_file()]
    found = [Counter(re.findall(rb"[0-9a-f]{64}", path.read_bytes())) for path in contents]
    (digest,) = {digest for each in found for digest, count in each.items() if count == 1} - {model_sha256.encode()}
    for path in contents:
        path.write_bytes(path.read_bytes().replace(digest, PLACEHOLDER.encode()))
    seal(program)


def rehash(folder: Path, *, resealed: bool = True) -> None:
    """Make digests vouch for what is there now, so that only running it can tell a change.

    Args:
        folder: an export.
        resealed: also the digest in the program itself, not the manifest's alone.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    if resealed:
        reseal(folder / find_target(manifest["target"]).programs[manifest["kind"]].name, manifest["model"]["sha256"])
    for file in manifest["files"]:
        path = folder / file["path"]
        file |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))


@pytest.fixture(params=["scn_int8", "tflite_int8", "onnx_int8"])
def phone_int8(request: pytest.FixtureRequest) -> Artifact:
    """The on-device model in int8, for each target in turn but Core ML, which has tests of its own."""
    return request.getfixturevalue(request.param)
