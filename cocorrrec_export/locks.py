"""One owner for each folder that is written: a lock that names its owner, and that dies with it."""

import contextlib
import errno
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cocorrrec_export.errors import CocorrrecError

LOCK = ".cocorr-lock"
"""The lock of a folder that is worked in; of one that is replaced, it is ``.NAME.cocorr-lock`` next to it."""
_MAX_OWNER_BYTES = 4096
_TRIES = 100


@contextmanager
def lock(path: Path, what: Path) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    The operating system lets go of it when this process ends, however it ends: the next one takes it over.

    Args:
        path: of the lock; removed at the end.
        what: it stands for, for the error.

    Raises:
        CocorrrecError: another process holds it, which is named; or no file can be made there.
    """
    file = _locked(path, what)
    try:
        try:
            file.seek(0)
            file.truncate()
            file.write(json.dumps(_owner()).encode())
            file.flush()
        except OSError as error:  # the disk is full
            raise _unwritable(path.parent, error) from None
        yield
    finally:
        # Removed while it is held: whoever waits for this file sees that it is no longer the one of that name.
        with contextlib.suppress(OSError):
            path.unlink()
        with contextlib.suppress(OSError):  # what a full disk did not take is tried again
            file.close()


def _unwritable(folder: Path, error: OSError) -> CocorrrecError:
    return CocorrrecError(f"{folder}: cannot be written: {error.strerror}; give another place")


def _locked(path: Path, what: Path) -> IO[bytes]:
    for _ in range(_TRIES):
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError as error:
            raise _unwritable(path.parent, error) from None
        file = os.fdopen(number, "r+b")
        try:
            if not _try(file):
                owner = _said(file)
                raise CocorrrecError(f"{what} is being written by {owner}: wait for it, or give another folder")
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()  # the owner before removed it between our two calls
    raise CocorrrecError(f"{what} changes owners all the time: give another folder")


def _try(file: IO[bytes]) -> bool:
    """Whether the lock is ours now; on file systems without locks it always is."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_MAX_OWNER_BYTES)  # the bytes before it stay readable
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
    return True


def _owner() -> dict[str, Any]:
    return {
        "process": os.getpid(),
        "host": platform.node(),
        "program": Path(sys.argv[0]).name if sys.argv else "python",
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _said(file: IO[bytes]) -> str:
    try:
        file.seek(0)
        owner = json.loads(file.read(_MAX_OWNER_BYTES))
        return f"process {owner['process']} on {owner['host']} ({owner['program']}, since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
