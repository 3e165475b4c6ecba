"""Write a bundle: what both systems have in common."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cocorrrec_export.apps.model import AppModel
from cocorrrec_export.artifact.manifest import MANIFEST
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import listed_files, publish_directory, sha256_file

INDEX = "bundle.json"
ITEMS = "items.json"


@contextmanager
def publish_bundle(out: Path, system: str) -> Iterator[Path]:
    """A folder that takes the place of ``out`` when the block ends, with an index of its files.

    Raises:
        UsageError: ``out`` holds files that no bundle lists.
    """
    with publish_directory(out, lambda folder: listed_files(folder, INDEX)) as staging:
        yield staging
        files = [
            {"path": path.relative_to(staging).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in sorted(staging.rglob("*"))
            if path.is_file()
        ]
        index = {"system": system, "files": files}
        (staging / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write(path: Path, text: str) -> None:
    """A text file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def copy_model(model: AppModel, folder: Path) -> None:
    """Program, manifest and items."""
    folder.mkdir(parents=True)
    program = model.artifact.program
    if program.is_dir():
        shutil.copytree(program, folder / program.name)
    else:
        shutil.copyfile(program, folder / program.name)
    shutil.copyfile(model.artifact.path / MANIFEST, folder / MANIFEST)
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
