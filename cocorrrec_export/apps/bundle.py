"""Write a bundle: what both systems have in common."""

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cocorrrec_export.apps.model import AppModel, open_app_model
from cocorrrec_export.artifact.copies import checked_copy
from cocorrrec_export.artifact.manifest import MANIFEST
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import publish_directory, sha256_file, unchanged_files

INDEX = "bundle.json"
ITEMS = "items.json"
PAGE = "README.md"


@dataclass(frozen=True)
class System:
    """What the bundles of one system have of their own."""

    name: str
    """As its maker writes it; in small letters, the name of the command."""
    targets: tuple[str, ...]
    """Of exports that it runs."""
    model_folder: Path
    """Where program, manifest and items are in the bundle."""
    fill: Callable[[AppModel, Path], None]
    """Writes the rest, the page of three steps included, into the folder given."""


def write_bundle(system: System, artifact: Path, out: Path, *, model: str | None) -> dict[str, str]:
    """Write the folder to drop into an app, with an index of its files.

    Args:
        system: whose bundle it is.
        artifact: folder of an export for one of the system's targets.
        out: the bundle's folder; replaced if it is a bundle for this system, nothing else is in it, and no file of it
            was edited.
        model: name or folder of the model that was exported, where it is not a shipped one.

    Returns:
        What was written, for the command's table.

    Raises:
        UsageError: another kind of export, or ``out`` holds something else than a bundle as it was written.
        CocorrrecError: a file of the export is missing or changed.
    """
    opened = open_app_model(artifact, targets=system.targets, system=system.name, model=model)
    with publish_directory(out, functools.partial(_owned_files, system)) as staging:
        _copy_model(opened, staging / system.model_folder)
        system.fill(opened, staging)
        _write_index(system, staging)
    return {
        "bundle": str(out),
        "program": opened.artifact.program.name,
        "correction": opened.correction,
        "items": f"{len(opened.items):,}" + ("" if opened.has_titles else ", by their numbers: the model has no items"),
        "start with": str(out / PAGE),
    }


def _owned_files(system: System, folder: Path) -> set[str] | None:
    try:
        same = json.loads((folder / INDEX).read_bytes())["system"] == system.name.lower()
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    return unchanged_files(folder, INDEX) if same else None


def _write_index(system: System, folder: Path) -> None:
    files = [
        {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    write(folder / INDEX, json.dumps({"system": system.name.lower(), "files": files}, indent=2) + "\n")


def after_the_steps(model: AppModel, model_folder: Path) -> str:
    """The end of a bundle's page: the cloud, and a table of what is in the bundle."""
    program = model_folder / model.artifact.program.name
    return f"""\
With a cloud: `Phone` sends what the server needs, waits until its deadline at most, and ranks with what is there.
`Recommender` does all of it for a screen.

| | |
|---|---|
| program | `{program.as_posix()}`, {model.artifact.bytes:,} bytes |
| version | `{model.version}`; the server must have the same |
| ids | 1 to {int(model.metadata["vocab_size"]) - 1}; 0 is padding, on the right |
| clicks read, candidates per call | {model.metadata["sequence_length"]}, {model.metadata["candidates"]} |
| correction | {model.correction} |
| items | {model.items_note} |
"""


def write(path: Path, text: str) -> None:
    """A text file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy_model(model: AppModel, folder: Path) -> None:
    """Program, manifest and items: the bytes that were checked, whatever the export's folder holds by now."""
    folder.mkdir(parents=True)
    with checked_copy(model.artifact) as program:
        copy = shutil.copytree if program.is_dir() else shutil.copyfile
        copy(program, folder / program.name)
    write(folder / MANIFEST, json.dumps(model.artifact.manifest, indent=2) + "\n")
    write(folder / ITEMS, model.items_json)


def copy_sources(source: Path, destination: Path) -> None:
    """The sources of a module.

    Raises:
        CocorrrecError: this installation does not have them.
    """
    if not source.is_dir():
        raise CocorrrecError(f"{source} is missing: install cocorrrec-export again")
    shutil.copytree(source, destination)


def literal(text: str) -> str:
    """A string literal that Kotlin and Swift read alike."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\$")
