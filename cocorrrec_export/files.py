"""Write files and folders so that an interrupted command leaves nothing half-written, and check them by digest."""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cocorrrec_export.errors import CocorrrecError

MAX_NAME = 255
"""Longest name in bytes, folders included, by which a file may name another."""


@contextmanager
def publish_directory(destination: Path) -> Iterator[Path]:
    """A temporary folder beside ``destination`` that takes its place when the block ends without an error.

    A folder that was there before is replaced; until the end it is untouched. On any error, Ctrl-C included, the
    temporary folder is removed.

    Raises:
        CocorrrecError: ``destination`` is a file.
    """
    if destination.exists() and not destination.is_dir():
        raise CocorrrecError(f"{destination} is a file; give a folder, or remove it")
    destination.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        staging.chmod(0o755)
        yield staging
        _replace_directory(staging, destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace_directory(staging: Path, destination: Path) -> None:
    if not destination.exists():
        staging.rename(destination)
        return
    old = destination.with_name(f".{destination.name}.{uuid.uuid4().hex[:8]}.old")
    destination.rename(old)
    try:
        staging.rename(destination)
    except OSError:
        old.rename(destination)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def publish_file(destination: Path) -> Iterator[Path]:
    """A temporary path beside ``destination`` that is renamed to it when the block ends without an error."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    staging = destination.with_name(f".{destination.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield staging
        with staging.open("rb") as written:
            os.fsync(written.fileno())
        staging.chmod(0o644)
        staging.replace(destination)
    finally:
        staging.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """Hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def contained_path(folder: Path, name: str, *, where: str) -> Path:
    """``folder / name`` for a name that a file gave us; it must stay inside ``folder``, and be no link out of it.

    Raises:
        CocorrrecError: the name leads outside.
    """
    path = folder / name
    short = 0 < len(name.encode(errors="replace")) <= MAX_NAME
    plain = not Path(name).is_absolute() and ".." not in Path(name).parts
    try:
        inside = short and plain and path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no name to the file system, as with a NUL in it; links in a circle
        inside = False
    if not inside:
        raise CocorrrecError(f"{where}: the file name {name[:MAX_NAME]!r} leads outside {folder}")
    return path
