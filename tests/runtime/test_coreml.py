"""Loading packages: what fits, what does not, and what is damaged."""

import dataclasses
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export import __version__
from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet
from cocorrrec_export.runtime import coreml
from cocorrrec_export.runtime.base import Arrays
from cocorrrec_export.runtime.coreml import CoreMLRuntime, describe
from cocorrrec_export.runtime.mil import compile_functions
from cocorrrec_export.runtime.mlpackage import Package, open_package
from cocorrrec_export.runtime.open import open_runtime
from tests.conftest import ROOT
from tests.coreml import MODEL, WEIGHTS, CoreMLExports, change_model, operations

IDS = np.arange(1, 11, dtype=np.int32)[None]


@pytest.fixture(scope="module")
def fp32(coreml_exports: CoreMLExports) -> Artifact:
    """The smallest program: no casts."""
    return coreml_exports.artifact("fp32")


def test_which_runtime_computes(fp32: Artifact) -> None:
    runtime = open_runtime("coreml", fp32.program, fp32.entry_points)
    assert isinstance(runtime, CoreMLRuntime)
    assert (
        runtime.executed_by.startswith("coreml ")
        if sys.platform == "darwin"
        else (runtime.executed_by == f"mil-numpy {__version__}")
    )


@pytest.mark.parametrize(
    ("entry_point", "inputs", "message"),
    [
        ("ranks", {}, "no entry point 'ranks': this file has encode, rank"),
        ("encode", {}, "missing input ids"),
        ("encode", {"ids": IDS[:, :9]}, r"ids is int32 \[1, 9\], expected int32 \[1, 10\]"),
        ("encode", {"ids": IDS.astype(np.int64)}, "ids is int64"),
        ("encode", {"ids": IDS, "x": IDS}, "unexpected input x"),
        ("encode", {"ids": IDS * 6}, r"encode: ids holds 60 at \[0, 9\]: item ids are 1 to vocab_size - 1"),
        ("encode", {"ids": -IDS}, r"encode: ids holds -1 at \[0, 0\]: item ids are 1 to vocab_size - 1"),
        ("rank", {"ids": IDS, "candidates": np.full((1, 100), 2**31 - 1, np.int32)}, "candidates holds 2147483647"),
    ],
)
def test_inputs_that_do_not_fit(coreml_exports: CoreMLExports, entry_point: str, inputs: Arrays, message: str) -> None:
    with pytest.raises(CocorrrecError, match=message):
        coreml_exports.runtime("fp32").run(entry_point, inputs)


def test_outputs_are_copies_and_inputs_are_left_alone(coreml_exports: CoreMLExports) -> None:
    runtime, ids = coreml_exports.runtime("fp32"), IDS.copy()
    first = runtime.run("encode", {"ids": ids})["H"]
    kept = first.copy()
    first += 1
    np.testing.assert_array_equal(runtime.run("encode", {"ids": ids})["H"], kept)
    np.testing.assert_array_equal(ids, IDS)


def test_a_contract_that_is_not_the_files_is_refused(fp32: Artifact) -> None:
    renamed = [dataclasses.replace(entry, name=f"{entry.name}_") for entry in fp32.entry_points]
    with pytest.raises(CocorrrecError, match="lacks the entry points encode_, rank_,"):
        CoreMLRuntime(fp32.program, renamed)
    encode = fp32.entry_points[0]
    wrong = dataclasses.replace(encode, outputs=(dataclasses.replace(encode.outputs[0], shape=(1, 10, 32)),))
    message = r"encode has H float32 \[1, 10, 64\] as outputs, expected H float32 \[1, 10, 32\]"
    with pytest.raises(CocorrrecError, match=message):
        CoreMLRuntime(fp32.program, [wrong])


def test_a_part_of_the_entry_points_will_do(fp32: Artifact) -> None:
    runtime = CoreMLRuntime(fp32.program, fp32.entry_points[:1])
    assert runtime.entry_points.keys() == {"encode"}


def test_metadata(fp32: Artifact, coreml_exports: CoreMLExports) -> None:
    assert describe(fp32.program).metadata["model_sha256"] == coreml_exports.model.sha256


def test_reading_imports_no_more_of_core_ml_tools_than_its_messages(fp32: Artifact) -> None:
    """The whole package takes many seconds; either may come first."""
    manifest = (fp32.program / "Manifest.json").read_bytes()
    program = f"""
import sys
from pathlib import Path
from cocorrrec_export.runtime.coreml import describe
before = describe(Path({str(fp32.program)!r}))
assert "coremltools" not in sys.modules and "torch" not in sys.modules
import coremltools
spec = coremltools.utils.load_spec({str(fp32.program)!r})
assert spec.description.metadata.userDefined["model_sha256"] == before.metadata["model_sha256"]
assert describe(Path({str(fp32.program)!r})) == before
"""
    with quiet():
        ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    # Core ML Tools wrote it again; they write what we write.
    assert (fp32.program / "Manifest.json").read_bytes() == manifest


class StandIn:
    """Takes the place of Core ML's model class where there is no Core ML; computes with our executor."""

    def __init__(self, path: str, *, function_name: str, compute_units: object) -> None:
        package = open_package(Path(path))
        self.function = compile_functions(package, [function_name])[function_name]
        assert getattr(compute_units, "name", "") == "CPU_ONLY"

    def predict(self, inputs: Arrays) -> Arrays:
        if inputs.keys() != self.function.inputs.keys():
            raise RuntimeError("Error: wrong inputs\nmore lines")
        return self.function(inputs)


def test_on_macos_core_ml_itself_computes(
    fp32: Artifact, coreml_exports: CoreMLExports, monkeypatch: pytest.MonkeyPatch
) -> None:
    with quiet():
        import coremltools
    expected = coreml_exports.runtime("fp32").run("encode", {"ids": IDS})["H"]
    monkeypatch.setattr(coreml.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(coreml.platform, "mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(coremltools.models, "MLModel", StandIn)
    runtime = CoreMLRuntime(fp32.program, fp32.entry_points)
    assert runtime.executed_by == "coreml 15.1"
    np.testing.assert_array_equal(runtime.run("encode", {"ids": IDS})["H"], expected)
    monkeypatch.setattr(StandIn, "predict", lambda *_: 1 / 0)
    with pytest.raises(CocorrrecError, match="encode: Core ML failed: division by zero"):
        runtime.run("encode", {"ids": IDS})
    monkeypatch.setattr(StandIn, "__init__", lambda *_, **__: 1 / 0)
    with pytest.raises(CocorrrecError, match="Core ML cannot load encode"):
        CoreMLRuntime(fp32.program, fp32.entry_points)


# ---------------------------------------------------------------------- damage


def use(path: Path, entry_points: tuple[EntryPoint, ...]) -> None:
    """All that a command may do with a package."""
    package = open_package(path)
    package.weight_bytes()
    runtime = CoreMLRuntime(path, entry_points)
    for entry in entry_points:
        runtime.run(entry.name, {x.name: np.ones(tuple(map(int, x.shape)), x.dtype) for x in entry.inputs})


def refusal(path: Path, entry_points: tuple[EntryPoint, ...]) -> str | None:
    """What is said against a package; None where it can be used."""
    try:
        use(path, entry_points)
    except CocorrrecError as error:
        return str(error)
    return None


def damages(content: bytes, generator: random.Random, truncations: int, flips: int) -> Iterator[tuple[str, bytes]]:
    for _ in range(truncations):
        size = generator.randrange(len(content))
        yield f"cut at {size}", content[:size]
    for _ in range(flips):
        bit = generator.randrange(8 * len(content))
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(changed)


@pytest.mark.parametrize(
    ("name", "truncations", "flips"), [("Manifest.json", 60, 120), (MODEL, 80, 200), (WEIGHTS, 40, 80)]
)
def test_damage_ends_in_one_line_or_in_a_result(
    coreml_exports: CoreMLExports, tmp_path: Path, name: str, truncations: int, flips: int
) -> None:
    path, entry_points = coreml_exports.package(tmp_path, "int8")
    entry_points = entry_points[:2]
    content = (path / name).read_bytes()
    refused = 0
    for what, damaged in damages(content, random.Random(name), truncations, flips):
        (path / name).write_bytes(damaged)
        said = refusal(path, entry_points)
        assert said is None or ("\n" not in said and len(said) < 1000), (what, said)
        refused += said is not None
    assert refused >= truncations
    (path / name).write_bytes(content)
    use(path, entry_points)


def test_headers_of_constants_are_believed_in_nothing(coreml_exports: CoreMLExports, tmp_path: Path) -> None:
    """Every bit of the header of the table, where random damage would seldom hit."""
    path, entry_points = coreml_exports.package(tmp_path, "int8")
    entry_points = entry_points[:1]
    content = (path / WEIGHTS).read_bytes()
    table = next(x for x in operations(open_package(path), "encode") if x.outputs[0].name == "table_quantized")
    start = table.attributes["val"].blobFileValue.offset
    refused = 0
    for bit in range(8 * 24):
        changed = bytearray(content)
        changed[start + bit // 8] ^= 1 << bit % 8
        (path / WEIGHTS).write_bytes(changed)
        said = refusal(path, entry_points)
        assert said is None or "table_quantized" in said or "constant at byte" in said
        refused += said is not None
    # All of the sentinel, the dtype and the size; of the offset those bits that lead out of the file.
    assert refused > 8 * 16 + 40


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{}", "damaged or truncated, it names no model"),
        ("[" * 100_000, "damaged or truncated"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 5}}}', "it names no model"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "../../x"}}}', "leads outside"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "/etc/passwd"}}}', "leads outside"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "nothing"}}}', "Data/nothing is missing"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "a\\u0000"}}}', "leads outside"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "\\ud800"}}}', "leads outside"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "' + "x" * 5000 + '"}}}', "leads outside"),
        (" " * (1 << 20) + "{}", "damaged or truncated"),
    ],
)
def test_manifests_that_name_no_model(tmp_path: Path, manifest: str, message: str) -> None:
    (tmp_path / "Manifest.json").write_text(manifest)
    with pytest.raises(CocorrrecError, match=message):
        open_package(tmp_path)


def test_no_package(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CocorrrecError, match=r"no Core ML package: it has no Manifest\.json"):
            open_package(path)


def test_missing_weights_and_links_out(coreml_exports: CoreMLExports, tmp_path: Path) -> None:
    path, entry_points = coreml_exports.package(tmp_path)
    outside = tmp_path / "outside.bin"
    shutil.move(path / WEIGHTS, outside)
    with pytest.raises(CocorrrecError, match=r"file of weights .* missing"):
        use(path, entry_points)
    (path / WEIGHTS).symlink_to(outside)
    with pytest.raises(CocorrrecError, match="leads outside"):
        use(path, entry_points)


def test_a_model_that_is_no_program(coreml_exports: CoreMLExports, tmp_path: Path) -> None:
    path, _ = coreml_exports.package(tmp_path)
    (path / MODEL).write_bytes(b"")
    with pytest.raises(CocorrrecError, match="holds no ML program"):
        open_package(path)


def test_a_vocabulary_that_is_no_number(coreml_exports: CoreMLExports, tmp_path: Path) -> None:
    path, entry_points = coreml_exports.package(tmp_path)

    def change(package: Package) -> None:
        package.model.description.metadata.userDefined["vocab_size"] = "²"

    change_model(path, change)
    with pytest.raises(CocorrrecError, match="vocab_size '²', which is not a number"):
        use(path, entry_points)


def test_a_program_that_is_not_what_its_description_says(coreml_exports: CoreMLExports, tmp_path: Path) -> None:
    path, entry_points = coreml_exports.package(tmp_path)

    def change(package: Package) -> None:
        package.model.mlProgram.functions["encode"].inputs[0].type.tensorType.dimensions[0].constant.size = 10
        package.model.mlProgram.functions["encode"].inputs[0].type.tensorType.dimensions[1].constant.size = 1

    change_model(path, change)
    with pytest.raises(CocorrrecError, match="the program of encode is not what its description says"):
        use(path, entry_points)


def test_the_contract_of_the_file_is_readable_without_a_manifest(fp32: Artifact) -> None:
    described = open_package(fp32.program).entry_points()
    assert tuple(described.values()) == tuple(fp32.entry_points)
    assert json.loads((fp32.program / "Manifest.json").read_text())["fileFormatVersion"] == "1.0.0"
