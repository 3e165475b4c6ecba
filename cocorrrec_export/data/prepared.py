"""A prepared data set: interactions that are filtered, numbered and ordered, in one safetensors file.

The tensors are what :class:`Interactions` holds; ids are the bytes of all of them in UTF-8, and where each ends. The
header has one entry, JSON: where the prepared data set comes from, and the digest of that and of every tensor.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cocorrrec_export.arrays import check_header
from cocorrrec_export.data.interactions import MIN_USER_INTERACTIONS, Interactions
from cocorrrec_export.data.mapping import map_tensors, release, write_tensors
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import publish_file

SUFFIX = ".cut"
FORMAT = 2

_ENTRY = "cocorrrec_cut"
_BEGINNING = f'{{"__metadata__":{{"{_ENTRY}":'.encode()  # after the 8 bytes that say how long the header is
_DTYPES = {"items": "I32", "offsets": "I64", "item_ids": "U8", "item_id_ends": "I64"}
_USER_DTYPES = {"user_ids": "U8", "user_id_ends": "I64"}
_OPTIONAL = (_USER_DTYPES, {"times": "I64"}, {"rows": "I32"})


class Cut(NamedTuple):
    """What a file holds."""

    interactions: Interactions
    origin: dict[str, Any]


def is_cut(path: Path) -> bool:
    """Whether a file is a prepared data set, by its first bytes or its name."""
    return path.is_file() and (path.suffix == SUFFIX or begins_as_cut(path))


def begins_as_cut(path: Path) -> bool:
    """Whether a file begins as a prepared data set does, whatever its name."""
    with path.open("rb") as file:
        return file.read(8 + len(_BEGINNING))[8:] == _BEGINNING


def write_cut(path: Path, interactions: Interactions, origin: dict[str, Any], *, user_ids: bool = True) -> None:
    """Write a prepared data set, whole or not at all.

    Args:
        path: the file.
        interactions: what it holds.
        origin: where they come from, as JSON.
        user_ids: keep the users' external ids; else they are numbered.
    """
    tensors: dict[str, NDArray[Any]] = {"items": interactions.items, "offsets": interactions.offsets}
    tensors["item_ids"], tensors["item_id_ends"] = _pack(interactions.item_ids)
    if user_ids:
        tensors["user_ids"], tensors["user_id_ends"] = _pack(interactions.user_ids)
    for name in ("times", "rows"):
        if (values := getattr(interactions, name)) is not None:
            tensors[name] = values
    entry = {"format": FORMAT, "origin": origin, "dated": interactions.dated, "notes": list(interactions.notes)}
    entry["sha256"] = _digest(entry, tensors)
    with publish_file(path, begins_as_cut) as staging:
        write_tensors(staging, tensors, {_ENTRY: json.dumps(entry, sort_keys=True)})


def read_cut(path: Path) -> Cut:
    """Check a file of :func:`write_cut`; its clicks stay in the file, mapped, and are read where they are needed.

    Raises:
        CocorrrecError: the file is damaged, or no cut.
    """
    check_header(path)
    try:
        with safe_open(path, framework="np") as file:
            entry = _read_entry(path, file)
            dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            optional = {
                name: kind for more in _OPTIONAL for name, kind in more.items() if more.items() <= dtypes.items()
            }
            if dtypes != _DTYPES | optional:
                raise CocorrrecError(f"{path}: damaged, or not a prepared data set: holds {dtypes}")
            tensors = map_tensors(path)
    except SafetensorError as error:
        raise CocorrrecError(f"{path}: not a complete prepared data set: {error}") from None
    if _digest(entry, tensors) != entry["sha256"]:
        raise CocorrrecError(f"{path}: damaged: its digest does not match its content; prepare it again")
    try:
        return Cut(_unpack(tensors, entry), entry["origin"])
    except ValueError as error:  # a UnicodeDecodeError is one
        raise CocorrrecError(f"{path}: not a sound prepared data set: {error}") from None


def read_origin(path: Path) -> dict[str, Any]:
    """Where a prepared data set comes from: from its header, whatever its size; the rest is not checked.

    Raises:
        CocorrrecError: the header is damaged, or not that of a prepared data set.
    """
    check_header(path)
    try:
        with safe_open(path, framework="np") as file:
            origin: dict[str, Any] = _read_entry(path, file)["origin"]
            return origin
    except SafetensorError as error:
        raise CocorrrecError(f"{path}: not a complete prepared data set: {error}") from None


def _read_entry(path: Path, file: Any) -> dict[str, Any]:
    try:
        entry = json.loads((file.metadata() or {})[_ENTRY])
        version, _, _ = entry["format"], dict(entry["origin"]), entry["sha256"]
        if version == FORMAT:
            _ = bool(entry["dated"]), [str(note) for note in entry["notes"]]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CocorrrecError(f"{path}: damaged, or not a prepared data set: its header lacks '{_ENTRY}'") from None
    if version != FORMAT:
        raise CocorrrecError(f"{path}: prepared in format {version!r}, this version reads {FORMAT}; prepare it again")
    return entry


def _digest(entry: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> str:
    """Of everything but the digest itself."""
    facts = {name: [x.dtype.str, list(x.shape)] for name, x in tensors.items()}
    text = json.dumps([entry["format"], entry["origin"], entry["dated"], entry["notes"], facts], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name]).data)
        release(tensors[name])
    return digest.hexdigest()


def _pack(ids: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    encoded = [text.encode() for text in ids]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), ends


def _split(data: NDArray[np.uint8], ends: NDArray[np.int64], what: str) -> list[str]:
    flat = data.ndim == ends.ndim == 1
    # Without a negative one no difference overflows.
    if not flat or (ends < 1).any() or (np.diff(ends) < 1).any() or ends[-1:].tolist() != [len(data)]:
        raise ValueError(f"the {what} ids do not end where it says")
    text, start, ids = data.tobytes(), 0, []
    for end in ends.tolist():
        ids.append(text[start:end].decode())
        start = end
    if len(set(ids)) != len(ids):
        raise ValueError(f"two of the {what} ids are the same")
    return ids


def _unpack(tensors: dict[str, NDArray[Any]], entry: dict[str, Any]) -> Interactions:
    items, offsets = tensors["items"], tensors["offsets"]
    item_ids = _split(tensors["item_ids"], tensors["item_id_ends"], "item")
    if items.ndim != 1 or offsets.ndim != 1 or len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(items):
        raise ValueError("users and interactions do not belong together")
    if (offsets < 0).any() or (np.diff(offsets) < MIN_USER_INTERACTIONS).any():
        raise ValueError(f"a user has fewer than {MIN_USER_INTERACTIONS} interactions")
    if items.min() < 1 or items.max() > len(item_ids):
        raise ValueError(f"items {items.min()} to {items.max()}, it knows 1 to {len(item_ids)}")
    users, times, rows = len(offsets) - 1, tensors.get("times"), tensors.get("rows")
    if any(x is not None and x.shape != items.shape for x in (times, rows)):
        raise ValueError("times or rows and interactions do not belong together")
    user_ids = [str(user) for user in range(users)]
    if "user_ids" in tensors:
        user_ids = _split(tensors["user_ids"], tensors["user_id_ends"], "user")
    if len(user_ids) != users:
        raise ValueError(f"{len(user_ids)} ids of {users} users")
    dated, notes = bool(entry["dated"]) and times is not None, tuple(map(str, entry["notes"]))
    return Interactions(items, offsets, item_ids, user_ids, times=times, rows=rows, dated=dated, notes=notes)
