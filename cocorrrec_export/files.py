"""Write files and folders so that an interrupted command leaves nothing half-written, and check them by digest.

What is written is under a temporary name next to its destination, and takes the destination's name at the end. A
folder is only ever replaced by one of the same kind, and by an exchange: at no moment is there none.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.exchange import exchange
from cocorrrec_export.locks import LOCK, lock

MAX_NAME = 255
"""Longest name in bytes, folders included, by which a file may name another."""
MAX_INDEX_BYTES = 1 << 20
STALE_S = 3600.0
"""A temporary file so old, and under no lock, is of a process that died."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<kind>tmp|old)")
_ABOUT_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
Owned = Callable[[Path], Collection[str] | None]
"""The names of the files that a folder of a kind of ours may hold; None: the folder is not of this kind."""
Ours = Callable[[Path], bool]
"""Whether a file is of the kind that a command writes."""


def total_bytes(path: Path) -> int:
    """Size of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file())


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that we keep while we work: never the user's."""
    return (name.startswith(".") and name.endswith(LOCK)) or _TEMPORARY.fullmatch(name) is not None


@contextmanager
def publish_directory(destination: Path, owned: Owned) -> Iterator[Path]:
    """A temporary folder next to ``destination`` that takes its place when the block ends without an error.

    Begin the block before the work: a destination that cannot be written is found out at its start. A folder that was
    there before is exchanged for the new one at the end, if it is of the same kind; until then it is untouched. On any
    error, Ctrl-C included, the temporary folder is removed, with the parents that were made for it. One process at a
    time has a destination.

    Args:
        destination: must not be there, or be empty, or hold what ``owned`` says and nothing else.
        owned: tells folders of the kind that is written.

    Raises:
        UsageError: ``destination`` is a file, holds something else, or is where this process is.
        CocorrrecError: another process is writing it, or nothing can be written there.
    """
    destination = destination.resolve()
    _check_replaceable(destination, owned)
    with _parents(destination), lock(destination.parent / f".{destination.name}{LOCK}", destination):
        _remove_leftovers(destination, older_than_s=0.0)
        staging = _temporary(destination)
        staging.mkdir()
        try:
            with naming(destination):
                yield staging
                _flush(staging)
                _check_replaceable(destination, owned)  # again: the work took a while
                if destination.exists():
                    exchange(staging, destination, aside=_temporary(destination, "old"))
                else:
                    staging.rename(destination)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # after an exchange, what was there before


def _check_replaceable(destination: Path, owned: Owned) -> None:
    if destination.exists() and not destination.is_dir():
        raise UsageError(f"{destination} is a file; give a folder, or remove it")
    if Path.cwd().is_relative_to(destination):
        raise UsageError(f"{destination} is the current folder, or holds it: give a folder inside it")
    if not destination.is_dir():
        return
    if os.path.ismount(destination):
        raise UsageError(f"{destination} is where a file system is mounted, and cannot be replaced: give one inside it")
    held = _files_under(destination)
    names = owned(destination) if held else ()
    strange = sorted(held if names is None else held.difference(names))
    if strange:
        shown = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
        what = f"{destination} holds files that this command did not write, or that were edited since"
        raise UsageError(f"{what} ({shown}): give another folder")


def _files_under(folder: Path) -> set[str]:
    """Relative names of all that is not a folder, links included, but for temporary files of ours."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if (path.is_symlink() or not path.is_dir()) and not any(map(is_temporary, path.relative_to(folder).parts))
    }


def listed_files(folder: Path, index: str, *, keys: Collection[str] = ()) -> set[str] | None:
    """The names in a folder that the JSON file ``index`` of ours lists under ``files``, with the index's own.

    None where there is no such index, or one without the ``keys`` that ours has; for :func:`publish_directory`, which
    trusts nothing else in it.
    """
    digests = _listed_digests(folder, index, keys)
    return None if digests is None else {index, *digests}


def unchanged_files(folder: Path, index: str) -> set[str] | None:
    """The same without those that are not what the index says any more: who edits a file makes it his own."""
    digests = _listed_digests(folder, index, ())
    if digests is None:
        return None
    held = _files_under(folder) & digests.keys()
    return {index, *(name for name in held if sha256_file(folder / name) == digests[name])}


def _listed_digests(folder: Path, index: str, keys: Collection[str]) -> dict[str, str] | None:
    try:
        with (folder / index).open("rb") as file:
            facts = json.loads(file.read(MAX_INDEX_BYTES))
        found = {str(file["path"]): str(file.get("sha256")) for file in facts["files"]}
        return found if facts.keys() >= set(keys) else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


@contextmanager
def publish_file(destination: Path, ours: Ours | None = None) -> Iterator[Path]:
    """A temporary path that is renamed to ``destination`` when the block ends without an error.

    It has the destination's own name, in a temporary folder next to it, where libraries may leave temporary files too.

    Args:
        destination: the file.
        ours: for a name that the user gave: nothing else than an empty file and one of this kind is replaced. Check
            it before the work with :func:`require_writable`.

    Raises:
        UsageError: ``destination`` is a folder, a device, or a file of another kind.
        CocorrrecError: nothing can be written there.
    """
    _check_file(destination, ours)
    with _parents(destination):
        _remove_leftovers(destination, older_than_s=STALE_S)
        folder = _temporary(destination)
        folder.mkdir()
        staging = folder / destination.name
        try:
            with naming(destination):
                yield staging
                with staging.open("rb") as written:
                    os.fsync(written.fileno())
                staging.chmod(0o644)
                _check_file(destination, ours)  # again: the work took a while
                staging.replace(destination)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def require_writable(destination: Path, ours: Ours | None = None) -> None:
    """Check, before work whose result goes there, that a file can be written to ``destination``.

    Args:
        destination: the file.
        ours: as of :func:`publish_file`.

    Raises:
        UsageError: it is a folder, a device, or a file of another kind.
        CocorrrecError: nothing can be written there.
    """
    _check_file(destination, ours)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(_parents(destination, keep=False))
        probe = _temporary(destination)
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            raise CocorrrecError(f"{made}: cannot be written: {error.strerror}") from None


def _check_file(destination: Path, ours: Ours | None) -> None:
    if destination.is_dir():
        raise UsageError(f"{destination} is a folder; give a file")
    if not destination.exists():
        return
    if not destination.is_file():
        raise UsageError(f"{destination} is a device, a pipe or a socket; give a file")
    if ours is None or not destination.stat().st_size:
        return
    try:
        known = ours(destination)
    except OSError:
        known = False
    if not known:
        raise UsageError(f"{destination} is a file that this command did not write: give another name, or remove it")


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Have a folder, which is made if there is none, for this process alone, and tidy it before and after.

    Raises:
        UsageError: it is a file.
        CocorrrecError: another process has it, or nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder")
    with _parents(folder / LOCK), lock(folder / LOCK, folder):
        remove_temporaries(folder)
        try:
            yield
        finally:
            remove_temporaries(folder)


def remove_temporaries(folder: Path) -> None:
    """Remove what interrupted runs of ours left in a folder that nobody else writes to now."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            _remove(path)


@contextmanager
def _parents(destination: Path, *, keep: bool = True) -> Iterator[Path]:
    """The parent of a destination, made for as long as the block does not fail; yields it."""
    parent = destination.parent
    missing = list(itertools.takewhile(lambda folder: not folder.exists(), (parent, *parent.parents)))
    made: list[Path] = []
    done = False
    try:
        try:
            for folder in reversed(missing):
                with contextlib.suppress(FileExistsError):  # another process was faster
                    folder.mkdir()
                    made.append(folder)
            if not os.access(parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise CocorrrecError(f"{parent}: cannot be written: {error.strerror}; give another place") from None
        yield parent
        done = keep
    finally:
        if not done:
            for folder in reversed(made):
                with contextlib.suppress(OSError):  # not empty: somebody has use for it
                    folder.rmdir()


@contextmanager
def naming(destination: Path) -> Iterator[None]:
    """Errors of the file system that name no file, as those of a full disk, name the destination."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _ABOUT_THE_DISK:
            error.filename = str(destination)
        raise


def _temporary(destination: Path, kind: str = "tmp") -> Path:
    return destination.with_name(f".{destination.name}.{uuid.uuid4().hex[:8]}.{kind}")


def _remove_leftovers(destination: Path, *, older_than_s: float) -> None:
    """Put right what a killed process left: a folder set aside comes back if nothing took its place; the rest goes."""
    for path in destination.parent.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or match["name"] != destination.name:
            continue
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if hasattr(os, "getuid") and status.st_uid != os.getuid():
            continue
        if match["kind"] == "old" and not destination.exists():
            path.rename(destination)
        elif time.time() - status.st_mtime >= older_than_s:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(folder: Path) -> None:
    """What is in a folder is on the disk before the folder gets its name."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())


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
