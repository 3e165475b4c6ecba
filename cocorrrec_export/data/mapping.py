"""Arrays that live in a file: the system reads what is touched, and may drop it again."""

import json
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.errors import CocorrrecError

SCRATCH_BYTES = 1 << 27
"""Size from which :func:`scratch` takes a file."""
_ALIGNMENT = 8
_BLOCK = 1 << 22
_DTYPES: dict[str, np.dtype[Any]] = {"I32": np.dtype("<i4"), "I64": np.dtype("<i8"), "U8": np.dtype("u1")}


def map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The int32, int64 and uint8 tensors of a safetensors file, read-only and not in memory until they are read.

    Args:
        path: a file whose header was checked, as :func:`safetensors.safe_open` does.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {
        name: _map(path, _DTYPES[facts["dtype"]], tuple(facts["shape"]), 8 + size + facts["data_offsets"][0])
        for name, facts in header.items()
    }


def write_tensors(path: Path, tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    """A safetensors file of arrays of one dimension as :func:`map_tensors` reads them; none is copied as a whole."""
    names, place = {dtype: name for name, dtype in _DTYPES.items()}, 0
    header: dict[str, Any] = {"__metadata__": metadata}
    aligned = sorted(tensors.items(), key=lambda pair: (-pair[1].itemsize, pair[0]))  # as the library sorts them
    for name, x in aligned:
        header[name] = {"dtype": names[x.dtype], "shape": list(x.shape), "data_offsets": [place, place + x.nbytes]}
        place += x.nbytes
    said = json.dumps(header, separators=(",", ":")).encode()
    said += b" " * (-len(said) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(said).to_bytes(8, "little") + said)
        for _, x in aligned:
            for start in range(0, len(x), _BLOCK):
                file.write(np.ascontiguousarray(x[start : start + _BLOCK]).data)
            release(x)


def _map(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> NDArray[Any]:
    if 0 in shape:  # nothing that could be mapped
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(path, dtype, mode="r", offset=offset, shape=shape))


def scratch(shape: tuple[int, ...], dtype: type[np.signedinteger[Any]] = np.int32) -> NDArray[Any]:
    """An array to be filled: in memory, or, if large, in a file without a name where temporary files are kept.

    Raises:
        CocorrrecError: there is no room for the file.
    """
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    if size < SCRATCH_BYTES:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        try:
            if hasattr(os, "posix_fallocate"):  # a hole that cannot be filled later would end the process
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise CocorrrecError(
                f"{tempfile.gettempdir()}: no room for {size:,} bytes of data: {error.strerror}; name "
                "another folder in TMPDIR"
            ) from None
        return np.asarray(np.memmap(file, dtype, mode="w+", shape=shape))


def release(array: NDArray[Any]) -> None:
    """Give back the memory of a mapped array, which is read again when it is touched; others stay as they are."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.base if isinstance(base, np.ndarray) else None
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
