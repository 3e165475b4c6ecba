"""A folder that is not what its manifest says never reaches a runtime."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cocorrrec_export.artifact.manifest import Artifact, newest_artifact, open_artifact, sealed
from cocorrrec_export.errors import CocorrrecError, UsageError
from tests.commands import Cli
from tests.exports import rehash


def edit(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))

    return apply


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "gcn.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "gcn.onnx").write_bytes(data)


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-10])  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_bit, "changed: gcn.onnx has sha256"),
        (cut("gcn.onnx"), r"changed: gcn.onnx has \d+ bytes, the manifest says"),
        (lambda folder: (folder / "gcn.onnx").unlink(), "missing: gcn.onnx"),
        (lambda folder: (folder / "more.txt").write_text("x"), "extra: more.txt"),
        (cut("manifest.json"), "damaged or truncated"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "damaged or truncated"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "damaged or truncated"),
        (lambda folder: (folder / "manifest.json").write_text(" " * (1 << 20) + "{}"), "larger than 1048576"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "must be object"),
        (edit(lambda m: m.pop("parity")), "missing key 'parity'"),
        (edit(lambda m: m.update(extra=1)), "unknown key 'extra'"),
        (
            edit(lambda m: m.update(schema_version=1)),
            "schema version 1, this version of the toolkit reads 2: export it again",
        ),
        (edit(lambda m: m.update(precision="int8")), "recipe.precision is 'fp32', precision is 'int8'"),
        (edit(lambda m: m["files"][0].update(path="../gcn.onnx")), "leads outside|does not name gcn.onnx"),
        (edit(lambda m: m["files"].append(m["files"][0] | {"path": "/etc/passwd"})), "leads outside"),
        (edit(lambda m: m["files"].append(m["files"][0])), "names one twice"),
        (edit(lambda m: m["entry_points"][0]["inputs"][0].update(shape=[-1, 10, 64])), "must be at least 1"),
        (edit(lambda m: m["parity"].update(verdict="perhaps")), "must be one of pass, fail"),
    ],
)
def test_damage(gcn_fp32: Artifact, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(gcn_fp32.path, folder)
    assert open_artifact(folder).manifest == gcn_fp32.manifest
    damage(folder)
    with pytest.raises(CocorrrecError, match=message):
        open_artifact(folder)


def test_a_link_out_of_the_folder_is_refused(gcn_fp32: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(gcn_fp32.path, folder)
    (folder / "gcn.onnx").unlink()
    (folder / "gcn.onnx").symlink_to(gcn_fp32.program)
    with pytest.raises(CocorrrecError, match="leads outside"):
        open_artifact(folder)


def test_no_folder_and_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        open_artifact(tmp_path / "none")
    with pytest.raises(UsageError, match=r"holds no manifest.json"):
        open_artifact(tmp_path)


def test_the_newest(gcn_fp32: Artifact, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no export under"):
        newest_artifact(tmp_path)
    shutil.copytree(gcn_fp32.path, tmp_path / "gcn-onnx-fp32")
    assert newest_artifact(tmp_path) == tmp_path / "gcn-onnx-fp32"
    with pytest.raises(UsageError, match="no export under"):
        newest_artifact(tmp_path, kind="scn")


def empty_program(folder: Path) -> None:
    program = folder / "gcn.onnx"
    program.write_bytes(b"")


def negated_program(folder: Path) -> None:
    """Another function in a file that every reader takes."""
    program = folder / "gcn.onnx"
    program.write_bytes(program.read_bytes().replace(b"LeakyRelu", b"HardSwish"))


COMMANDS: dict[str, tuple[str, ...]] = {
    "parity": ("cocorr-export", "parity", "{}"),
    "parity of vectors": ("cocorr-export", "parity", "{}", "--vectors"),
    "inspect": ("cocorr-export", "inspect", "{}"),
    "inspect of items": ("cocorr-export", "inspect", "{}", "--items"),
    "bundle triton": ("cocorr-export", "bundle", "triton", "{}", "--out", "new"),
    "bundle android": ("cocorr-export", "bundle", "android", "{}", "--out", "new"),
    "bundle ios": ("cocorr-export", "bundle", "ios", "{}", "--out", "new"),
    "profile": ("cocorr-profile", "{}", "--host", "--output", "new"),
    "link": ("cocorr-profile", "link", "--scn", "{}", "--gcn", "{}"),
    "serve": ("cocorr-serve", "gcn", "{}"),
}
"""Every command that opens an export; ``{}`` is its folder."""


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("damage", [empty_program, negated_program])
def test_no_command_takes_a_program_that_its_manifest_was_made_to_match(
    gcn_fp32: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    any_cli: Cli,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    folder = tmp_path / "export"
    shutil.copytree(gcn_fp32.path, folder)
    damage(folder)
    rehash(folder, resealed=False)
    monkeypatch.chdir(tmp_path)
    program, *arguments = COMMANDS[name]
    ended = any_cli(program, *(x.format(folder) for x in arguments))
    assert ended.code == 1, ended
    assert "does not carry the digest of its content" in ended.stderr, ended.stderr
    assert not (tmp_path / "new").exists()
