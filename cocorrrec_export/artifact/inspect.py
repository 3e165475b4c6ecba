"""What an export reports about itself, read from the file, with or without a manifest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocorrrec_export.artifact.manifest import MANIFEST, Artifact, describe_entry_points, open_artifact
from cocorrrec_export.contract import PART_PREFIX, SHARED_WEIGHTS
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.extras import require_runtime
from cocorrrec_export.files import sha256_file
from cocorrrec_export.isolation import in_child
from cocorrrec_export.runtime.base import ProgramFacts
from cocorrrec_export.runtime.open import describe
from cocorrrec_export.runtime.seal import KEY as SEAL_KEY
from cocorrrec_export.targets import TARGETS

UNVERIFIED = "manifest, which has no digest of itself"


@dataclass(frozen=True)
class Inspection:
    """A program, and what it reports about itself."""

    program: Path
    target: str
    facts: ProgramFacts
    checked_by: str
    """What vouches for the content."""

    @property
    def files(self) -> dict[str, Path]:
        """Every file of the program, by its name inside of it."""
        if self.program.is_file():
            return {self.program.name: self.program}
        paths = (path for path in sorted(self.program.rglob("*")) if path.is_file())
        return {path.relative_to(self.program).as_posix(): path for path in paths}

    @property
    def bytes(self) -> int:
        """Size of the program."""
        return sum(path.stat().st_size for path in self.files.values())

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part of the model's weights, and of ``graph``: all else. Empty where the file does not say."""
        sizes = {
            key.removeprefix(PART_PREFIX): int(value)
            for key, value in self.facts.metadata.items()
            if key.startswith(PART_PREFIX)
        }
        return sizes | {"graph": self.bytes - sum(sizes.values())} if sizes else {}

    def as_dict(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "path": str(self.program),
            "target": self.target,
            "bytes": self.bytes,
            "checked_by": self.checked_by,
            "metadata": self.facts.metadata,
            "entry_points": describe_entry_points(self.facts.entry_points),
            "parts": self.parts,
            "files": [
                {"path": name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
                for name, path in self.files.items()
            ],
        }


def inspect(path: Path) -> Inspection:
    """Read what a file, or the folder of an export, reports about itself, in a process that may crash.

    Args:
        path: an exported file, the folder of an ``.mlpackage`` or of ONNX entry points, or an export's folder.

    Raises:
        UsageError: no such path, or nothing of a known format.
        CocorrrecError: it is damaged, or not what its manifest or its own digest says.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if (path / MANIFEST).is_file():
        artifact = open_artifact(path)
        program, target = artifact.program, artifact.target
        checked_by = "manifest" if artifact.verified else UNVERIFIED
    else:
        shared = path.suffix == ".onnx" and (path.parent / SHARED_WEIGHTS).is_file()
        program = path.parent if shared else path  # the digest is that of all files that share the weights
        target, checked_by = _target_of(program), "nothing: it carries no digest"
    if checked_by == "manifest" and (missing := _missing_runtime(target)):
        return Inspection(program, target, _facts_of(artifact), f"manifest; the file was not opened: {missing}")
    facts = in_child(f"reading {program}", describe, target, program)
    if checked_by not in ("manifest", UNVERIFIED) and SEAL_KEY in facts.metadata:
        checked_by = "its own digest"
    return Inspection(program, target, facts, checked_by)


def _missing_runtime(target: str) -> str | None:
    """Why a file of a target cannot be read here."""
    try:
        require_runtime(target)
    except CocorrrecError as error:
        return str(error)
    return None


def _facts_of(artifact: Artifact) -> ProgramFacts:
    """What the manifest says, in the words of the file."""
    manifest = artifact.manifest
    model = {f"model_{key}": manifest["model"][key] for key in ("name", "sha256")}
    facts = {key: manifest[key] for key in ("kind", "precision", "toolkit_version")} | model
    return ProgramFacts(artifact.entry_points, facts)


def _target_of(path: Path) -> str:
    for row in TARGETS.values():
        if path.suffix == row.suffix or (path.is_dir() and any(path.glob(f"*{row.suffix}"))):
            return row.name
    known = ", ".join(row.suffix for row in TARGETS.values())
    raise UsageError(f"{path}: not an export: expected {known}, or a folder with one or a {MANIFEST}")
