"""Files of named arrays (safetensors), read and written with numpy alone, or with torch where that is at hand."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cocorrrec_export import strict_json
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import publish_file

DIGEST = "sha256"
"""Metadata of a file: the :func:`digest_of` its content."""
MAX_HEADER_BYTES = 4 << 20
"""Of a safetensors file: forty thousand names and shapes. Reading takes a hundred times as much memory."""


def check_header(path: Path) -> None:
    """Refuse a safetensors file whose header no file of tensors has, before anything reads it.

    Raises:
        CocorrrecError: it is larger than :data:`MAX_HEADER_BYTES`.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if MAX_HEADER_BYTES < size < path.stat().st_size:
        raise CocorrrecError(f"{path}: its header has {size:,} bytes, no file of tensors has more than 4 MiB")


def read_named(
    path: Path, framework: Literal["numpy", "pt"], *, sha256: str | None = None, foreign: bool = False
) -> dict[str, Any]:
    """All tensors of a file, as arrays of numpy or tensors of torch.

    Args:
        path: the file; it is read once, so that what is checked is what is loaded.
        framework: what to make of it.
        sha256: what the file's digest must be; None takes any.
        foreign: the file may be another program's, whose header has entries of its own.

    Raises:
        CocorrrecError: the file is missing, truncated, damaged, not the one of that digest, or holds a dtype that the
            framework does not have.
    """
    if not path.is_file():
        raise CocorrrecError(f"{path}: no such file")
    check_header(path)
    data = path.read_bytes()
    if sha256 is not None and (actual := hashlib.sha256(data).hexdigest()) != sha256:
        raise CocorrrecError(
            f"{path}: damaged or replaced: sha256 is {actual[:16]}..., expected {sha256[:16]}...; copy it again"
        )
    try:
        tensors = _load(data, framework)
        metadata = strict_json.parse(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CocorrrecError(f"{path}: not a complete safetensors file: {error}") from None
    # A name that nobody writes is the digest's own, damaged: the file would pass for an older one, which has none.
    strange = set() if foreign else metadata.keys() - {DIGEST, "format"}
    if strange or (DIGEST in metadata and metadata[DIGEST] != digest_of(tensors)):
        raise CocorrrecError(f"{path}: damaged: it is not what its own digest says; make or copy it again")
    return tensors


def _load(data: bytes, framework: str) -> dict[str, Any]:
    if framework == "numpy":
        return load(data)
    from safetensors import torch

    return torch.load(data)


def digest_of(tensors: Mapping[str, Any]) -> str:
    """SHA-256 of arrays, or of tensors on the CPU, with their names, dtypes and shapes."""
    digest = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        digest.update(json.dumps([name, str(x.dtype).removeprefix("torch."), list(x.shape)]).encode())
        digest.update(np.ascontiguousarray(x).data)
    return digest.hexdigest()


def read_arrays(path: Path, *, sha256: str | None = None) -> dict[str, NDArray[np.generic]]:
    """All arrays of a file; as :func:`read_named`.

    Raises:
        CocorrrecError: as there.
    """
    return read_named(path, "numpy", sha256=sha256)


def write_arrays(arrays: dict[str, NDArray[np.generic]], path: Path) -> None:
    """Write a file with the digest of its content, whole or not at all; the same arrays give the same bytes.

    Raises:
        CocorrrecError: the disk is full or read-only.
    """
    plain = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
    with publish_file(path) as staging:
        staging.write_bytes(save(plain, metadata={DIGEST: digest_of(plain)}))
