"""An export on disk: a folder with the exported file, test vectors, and a manifest that vouches for every byte."""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocorrrec_export import strict_json
from cocorrrec_export.artifact.recipe import Recipe, folder_prefix, shipped_recipes
from cocorrrec_export.contract import EntryPoint, ParityLimits, TensorSpec
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.files import contained_path, listed_files, sha256_file
from cocorrrec_export.modeling.config import check_architecture
from cocorrrec_export.resources import MANIFEST_SCHEMA
from cocorrrec_export.runtime.seal import require_seal
from cocorrrec_export.schema import problems
from cocorrrec_export.targets import TARGETS, Kind, find_target

MANIFEST = "manifest.json"
VECTORS = "vectors.safetensors"
ITEMS = "items.csv.gz"
"""The app's ids of the items, and titles, in the order of the program's numbers."""
SCHEMA_VERSION = 2
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A folder whose every file is the one its manifest was written for."""

    path: Path
    manifest: dict[str, Any]

    @property
    def verified(self) -> bool:
        """Whether the manifest has a digest of itself; older ones have none, and may say anything of the files."""
        return "sha256" in self.manifest

    def digest(self, name: str) -> str:
        """The SHA-256 of one of the files, by the manifest."""
        return next(str(file["sha256"]) for file in self.manifest["files"] if file["path"] == name)

    @property
    def kind(self) -> Kind:
        """Which half of the model."""
        return self.manifest["kind"]

    @property
    def target(self) -> str:
        """Which family of runtimes reads the program."""
        return self.manifest["target"]

    @property
    def program(self) -> Path:
        """The exported file."""
        return self.path / find_target(self.target).programs[self.kind].name

    @property
    def vectors(self) -> Path:
        """Inputs and expected outputs."""
        return self.path / VECTORS

    @property
    def entry_points(self) -> tuple[EntryPoint, ...]:
        """The tensor contract of the program."""
        return tuple(
            EntryPoint(entry["name"], _specs(entry["inputs"]), _specs(entry["outputs"]))
            for entry in self.manifest["entry_points"]
        )

    @property
    def recipe(self) -> Recipe:
        """The recipe that the artifact was made by.

        Raises:
            UsageError: what the manifest says of it does not fit together.
        """
        table = self.manifest["recipe"]
        fields = {key: table[key] for key in ("name", "kind", "target", "backend", "precision")} | table["weights"]
        if self.kind == "scn":
            fields |= {"entry_points": tuple(table["entry_points"]), "item_side": table["item_side"]}
            fields |= table["shapes"] | {"scores": table.get("scores", "logit")}
        return Recipe(**fields, limits=ParityLimits(**table["parity"]))

    @property
    def limits(self) -> ParityLimits:
        """What parity must hold: by the recipe that ships for its kind, target and precision, not by its own word.

        The file's own limits count where they are stricter.

        Raises:
            CocorrrecError: no recipe ships for such a file.
        """
        own = self.manifest["recipe"]["parity"]
        for recipe in shipped_recipes():
            if (recipe.kind, recipe.target, recipe.precision) == (self.kind, self.target, self.manifest["precision"]):
                return recipe.limits.stricter_of(own)
        raise CocorrrecError(
            f"{self.path}: no recipe ships for a {self.kind} on {self.target} in {self.manifest['precision']}, so "
            "nothing says what parity must hold"
        )

    @property
    def bytes(self) -> int:
        """Size of the program alone, without vectors and manifest."""
        name = self.program.name
        return sum(
            file["bytes"]
            for file in self.manifest["files"]
            if file["path"] == name or file["path"].startswith(f"{name}/")
        )


def _specs(tensors: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(x["name"], x["dtype"], tuple(x["shape"])) for x in tensors)


def describe_entry_points(entry_points: tuple[EntryPoint, ...]) -> list[dict[str, Any]]:
    """The tensor contract as the manifest writes it."""

    def tensors(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
        return [{"name": x.name, "dtype": x.dtype, "shape": list(x.shape)} for x in specs]

    return [{"name": e.name, "inputs": tensors(e.inputs), "outputs": tensors(e.outputs)} for e in entry_points]


FLOP_COLUMNS = ("", "a call", "a token", "element-wise, a call", "element-wise, a token")
"""Of :func:`flop_rows`."""


def flop_rows(flops: dict[str, dict[str, int | None]]) -> list[list[str]]:
    """One row per entry point of a manifest's ``flops``; a dash where a token has no meaning."""
    figures = ("call", "per_token", "elementwise", "elementwise_per_token")
    return [
        [name, *("-" if (value := entry[figure]) is None else f"{value:,}" for figure in figures)]
        for name, entry in flops.items()
    ]


def _files_in(folder: Path) -> dict[str, Path]:
    """Relative name of each file, links included, of ``folder``, but of the manifest."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {name: path for path in sorted(paths) if (name := path.relative_to(folder).as_posix()) != MANIFEST}


def write_manifest(folder: Path, facts: dict[str, Any]) -> Artifact:
    """Complete ``facts`` by the schema version and the digest of every file in ``folder``, check them and write them.

    Raises:
        ValueError: the facts are not what the published schema says.
    """
    files = [
        {"path": name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for name, path in _files_in(folder).items()
    ]
    manifest = sealed({"schema_version": SCHEMA_VERSION, **facts, "files": files})
    wrong = _structure_problems(manifest)
    if wrong:
        raise ValueError("the manifest is not what its schema says: " + "; ".join(wrong))
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return Artifact(path=folder, manifest=manifest)


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with the digest of all that it says, under ``sha256``."""
    said = {key: value for key, value in manifest.items() if key != "sha256"}
    return said | {"sha256": strict_json.digest(said)}


def owned_files(folder: Path) -> set[str] | None:
    """The files of an export, by its manifest; None where there is none. For publishing over an older export."""
    return listed_files(folder, MANIFEST, keys=("schema_version", "kind", "target", "precision", "model"))


def open_artifact(path: Path, *, architecture: str | None = None) -> Artifact:
    """Read the manifest of a folder, and check every file against it before anything else touches one.

    The program must carry the digest of its own content too: a manifest can be made to match any file.

    Args:
        path: the folder.
        architecture: of which it must be; None takes any.

    Raises:
        UsageError: no folder, one without a manifest, or of another architecture.
        CocorrrecError: the manifest is damaged, a file is missing, changed or not vouched for, or the program is not
            what its own digest was made for.
    """
    if architecture is not None:
        check_architecture(architecture)
    manifest = _read_manifest(path)
    wrong = _structure_problems(manifest)
    if wrong:
        raise CocorrrecError(f"{path / MANIFEST}: " + "; ".join(wrong))
    actual = manifest["model"]["architecture"]
    if architecture not in (None, actual):
        raise UsageError(f"{path} is an export of {actual}, not of {architecture}")
    wrong = _file_problems(path, manifest)
    if not wrong and "sha256" in manifest and manifest != sealed(manifest):
        wrong = [f"changed: {MANIFEST} itself"]
    if wrong:
        raise CocorrrecError(f"{path} is not what its manifest says (export it again): " + "; ".join(wrong))
    artifact = Artifact(path=path, manifest=manifest)
    require_seal(artifact.program)
    return artifact


def _read_manifest(path: Path) -> dict[str, Any]:
    where = path / MANIFEST
    if not path.exists():
        raise UsageError(f"{path}: no such folder; give one that 'cocorr-export scn' or 'gcn' wrote")
    if not where.is_file():
        raise UsageError(f"{path} holds no {MANIFEST}: not an export of this toolkit")
    with where.open("rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise CocorrrecError(f"{where}: larger than {MAX_MANIFEST_BYTES} bytes, this is not a manifest")
    try:
        manifest = strict_json.parse(data)
    except ValueError as error:
        raise CocorrrecError(f"{where}: damaged or truncated: {error}") from None
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise CocorrrecError(
            f"{where}: schema version {version}, this version of the toolkit reads {SCHEMA_VERSION}: export it again"
        )
    return manifest


def _structure_problems(manifest: Any) -> list[str]:
    wrong = problems(manifest, json.loads(MANIFEST_SCHEMA.read_text(encoding="utf-8")))
    if wrong:
        return wrong
    for key in ("kind", "target", "precision"):
        if manifest["recipe"][key] != manifest[key]:
            wrong.append(f"recipe.{key} is '{manifest['recipe'][key]}', {key} is '{manifest[key]}'")
    names = [entry["name"] for entry in manifest["entry_points"]]
    if len(set(names)) != len(names):
        wrong.append(f"entry_points names one twice: {', '.join(names)}")
    paths = [file["path"] for file in manifest["files"]]
    if len(set(paths)) != len(paths):
        wrong.append("files names one twice")
    row = TARGETS.get(manifest["target"])
    if row is None or manifest["kind"] not in row.programs:
        return [*wrong, f"there is no {manifest['kind']} for {manifest['target']}"]
    program = row.programs[manifest["kind"]].name
    if not any(path == program or path.startswith(f"{program}/") for path in paths):
        wrong.append(f"files does not name {program}")
    if VECTORS not in paths:
        wrong.append(f"files does not name {VECTORS}")
    items = manifest.get("items")
    if items is not None and (items["file"], items["sha256"]) not in {
        (x["path"], x["sha256"]) for x in manifest["files"]
    }:
        wrong.append(f"items names {items['file']}, which files does not name with the same sha256")
    values = [manifest["parity"]["tensors"][key] for key in ("max_abs", "max_rel")]
    if not all(math.isfinite(value) for value in values):
        wrong.append("parity.tensors holds a value that is not finite")
    return wrong


def _file_problems(folder: Path, manifest: dict[str, Any]) -> list[str]:
    wrong = []
    present = _files_in(folder)
    for file in manifest["files"]:
        name = file["path"]
        path = contained_path(folder, name, where=str(folder / MANIFEST))
        if not path.is_file():
            wrong.append(f"missing: {name}")
        elif path.stat().st_size != file["bytes"]:
            wrong.append(f"changed: {name} has {path.stat().st_size} bytes, the manifest says {file['bytes']}")
        elif (digest := sha256_file(path)) != file["sha256"]:
            wrong.append(f"changed: {name} has sha256 {digest[:16]}..., the manifest says {file['sha256'][:16]}...")
    known = {file["path"] for file in manifest["files"]}
    wrong += [f"extra: {name}" for name in present if name not in known]
    return wrong


def newest_artifact(
    dist: Path, *, kind: str | None = None, architecture: str | None = None, targets: Collection[str] | None = None
) -> Path:
    """The folder under ``dist`` whose manifest was written last.

    Args:
        dist: parent of the folders.
        kind: which half of a CoCorrRec.
        architecture: or the on-device model of which architecture; neither takes any export.
        targets: of which it must be one; None takes any.

    Raises:
        UsageError: there is none, or no such architecture.
    """
    if architecture is not None:
        check_architecture(architecture)
    prefix = folder_prefix(kind or "scn", architecture or "cocorrrec") if kind or architecture else "*"
    pattern = f"{prefix}-*/{MANIFEST}"
    manifests = [path for path in dist.glob(pattern) if not path.parent.name.startswith(".")]
    if targets is not None:
        manifests = [path for path in manifests if set(path.parent.name.split("-")) & set(targets)]
    if not manifests:
        option = f" --architecture {architecture}" if architecture else ""
        of = f" of {architecture}" if architecture else ""
        of += f" for {' or '.join(targets)}" if targets is not None else ""
        raise UsageError(
            f"no export{of} under {dist}: make one with 'cocorr-export {kind or 'scn'}{option}', or name its folder"
        )
    return max(manifests, key=lambda path: path.stat().st_mtime_ns).parent
