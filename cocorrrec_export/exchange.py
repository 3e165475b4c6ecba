"""Two folders change names in one step, so that nobody who looks finds neither."""

import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import Any

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # <linux/fs.h>
_RENAME_SWAP = 2  # <sys/stdio.h> of macOS
_NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
"""A kernel or a file system that cannot do it."""


def exchange(new: Path, old: Path, *, aside: Path) -> None:
    """Exchange the names of two folders of one file system.

    Where the system cannot, ``old`` steps aside for the moment between two renames; a process that is killed in it
    leaves the folder under the name ``aside``, next to a missing ``old``.

    Args:
        new: has the name ``old`` afterwards.
        old: has the name ``new`` afterwards.
        aside: a name that is free.

    Raises:
        OSError: neither was renamed.
    """
    try:
        _exchange_at_once(os.fsencode(new), os.fsencode(old))
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        _exchange_in_steps(new, old, aside)


def _exchange_at_once(new: bytes, old: bytes) -> None:
    library: Any = ctypes.CDLL(None, use_errno=True) if sys.platform != "win32" else None
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, new, _AT_FDCWD, old, _RENAME_EXCHANGE)
    elif sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(new, old, _RENAME_SWAP)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(old))


def _exchange_in_steps(new: Path, old: Path, aside: Path) -> None:
    old.rename(aside)
    try:
        new.rename(old)
    except BaseException:  # Ctrl-C too
        if not old.exists():
            aside.rename(old)
        raise
    aside.rename(new)
