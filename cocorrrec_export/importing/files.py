"""Tensors out of a stranger's file, by name. Nothing in it is ever executed: no object is unpickled."""

import io
import mmap
import pickle
import shlex
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cocorrrec_export.errors import CocorrrecError, UsageError, listed
from cocorrrec_export.files import publish_file
from cocorrrec_export.modeling.store import read_tensors, write_tensors

_NESTED = ("state_dict", "model_state_dict", "model")
"""Where a checkpoint keeps the tensors of the model, next to those of the optimizer and the epoch."""
_AMPLIFYING = b"bytearray"
MAX_SHARED = 4
"""Tensors of one file may share bytes, as tied weights do: all of them together are at most so many times its size."""
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_SAFETENSORS = b"\0\0\0\0{"
"""From its fifth byte on: the upper half of the header's length, and the header."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a ``.safetensors`` file, or of a state_dict that torch saved; float32 on the CPU.

    Raises:
        UsageError: no such file.
        CocorrrecError: the file is empty, truncated, damaged, of another kind, or holds pickled objects.
    """
    if path.is_dir():
        hint = ": it is a model folder already, give it to other commands with --model" if _is_model(path) else ""
        raise UsageError(f"{path} is a folder{hint or '; give the file of the weights'}")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise CocorrrecError(f"{path}: the file is empty")
    # The first byte of a safetensors file is of its header's length, and may be a pickle's.
    if start[4:] == _SAFETENSORS or (start[8:] == b"{" and start[:1] != _PICKLE):
        tensors = read_tensors(path, foreign=True)
    elif start[:4] == _ZIP or start[:1] == _PICKLE:
        tensors = _read_torch(path, zipped=start[:4] == _ZIP)
    else:
        raise CocorrrecError(
            f"{path}: neither a safetensors file nor one that torch.save wrote, by its first bytes {start[:4].hex(' ')}"
        )
    if not tensors:
        raise CocorrrecError(f"{path}: holds no tensors")
    _check_sizes(path, tensors)
    return {name: x.detach().to(torch.float32).contiguous() for name, x in tensors.items()}


def write_weights(tensors: dict[str, Tensor], path: Path, *, metadata: dict[str, str] | None = None) -> None:
    """Write tensors by the file's name: ``.safetensors``, or ``.pt``, ``.pth`` or ``.bin`` as a state_dict of torch.

    Args:
        tensors: by name.
        path: the file.
        metadata: entries of a safetensors header; a state_dict has none.

    Raises:
        UsageError: another ending, or the file exists.
        CocorrrecError: the disk is full or read-only.
    """
    if path.exists():
        raise UsageError(f"{path} exists already: give another --out")
    if path.suffix == ".safetensors":
        write_tensors(tensors, path, metadata=metadata)
        return
    if path.suffix not in (".pt", ".pth", ".bin"):
        raise UsageError(f"{path}: give a file that ends with .safetensors, .pt, .pth or .bin")
    content = io.BytesIO()  # torch makes errors of its own of a disk that is full
    torch.save({name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}, content)
    with publish_file(path) as staging:
        staging.write_bytes(content.getbuffer())


def _is_model(path: Path) -> bool:
    return (path / "model.toml").is_file()


def _read_torch(path: Path, *, zipped: bool) -> dict[str, Tensor]:
    if zipped:
        _check_archive(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # The one function that torch lets a pickle call whose result is as large as a number in the file says.
        if data.find(_AMPLIFYING) >= 0:
            raise CocorrrecError(_refusal(path, zipped=zipped, reason=f"Unsupported: {_AMPLIFYING.decode()}"))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise CocorrrecError(_refusal(path, zipped=zipped, reason=str(error))) from None
    except Exception as error:  # what torch's reader trips over in a stranger's file is an answer, not a fault of ours
        reason = (str(error).splitlines() or [""])[0]
        raise CocorrrecError(f"{path}: truncated or damaged: {type(error).__name__}: {reason}") from None
    return _find_tensors(path, content)


def _check_archive(path: Path) -> None:
    """Refuse an archive that is cut off, that would unpack to more than it is, or that is of another kind."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CocorrrecError(f"{path}: truncated or damaged: {error}") from None
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise CocorrrecError(
            f"{path}: a TorchScript program, not a state_dict: save the state_dict of the module that it was made from"
        )
    if "data.pkl" not in names:
        raise CocorrrecError(f"{path}: a zip archive that torch.save did not write: it holds {listed(sorted(names))}")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CocorrrecError(f"{path}: a compressed archive, which torch.save does not write")


def _refusal(path: Path, *, zipped: bool, reason: str) -> str:
    """Why a file with objects in it is not read, and the line that saves its tensors where its classes are known."""
    classes = _classes_in(path) if zipped else []
    if not classes and "Unsupported" not in reason and "weights_only" not in reason.lower():
        return f"{path}: truncated or damaged: {reason.splitlines()[0] if reason else 'no complete pickle'}"
    kind = "pickled objects"
    if any(name.startswith("recbole.") for name in classes):
        kind = "a RecBole checkpoint with its pickled config"
    elif classes:
        kind = f"pickled objects ({listed(classes, count=3)})"
    weights = path.with_name(f"{path.stem}-weights.pt")
    code = (
        f"import torch; m = torch.load({str(path)!r}, map_location='cpu', weights_only=False); "
        f"torch.save(m['state_dict'] if isinstance(m, dict) else m.state_dict(), {str(weights)!r})"
    )
    return (
        f"{path}: holds {kind}, and unpickling runs whatever code a file names, so it is not read. Where you trained "
        f"it, and trust it, save its tensors alone, then import {weights.name}:\n  python -c {shlex.quote(code)}"
    )


def _classes_in(path: Path) -> list[str]:
    """The classes that a file's pickle names beyond those of tensors; found without running it."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # the names only make the refusal clearer
        return []


def _find_tensors(path: Path, content: Any) -> dict[str, Tensor]:
    if _is_state_dict(content):
        return dict(content)
    if isinstance(content, dict):
        found = next((content[key] for key in _NESTED if _is_state_dict(content.get(key))), None)
        if found is not None:
            return dict(found)
        keys = listed(map(str, content))
        raise CocorrrecError(f"{path}: no state_dict: a dictionary with {keys}, none of which holds tensors by name")
    raise CocorrrecError(f"{path}: no state_dict: it holds a {type(content).__name__}, not tensors by name")


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(x, Tensor) for name, x in content.items())
    )


def _check_sizes(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse what cannot be weights, or is larger than the bytes that the file has for it, or for all of them."""
    total = sum(_checked_bytes(path, name, x) for name, x in tensors.items())
    if total > MAX_SHARED * path.stat().st_size:
        raise CocorrrecError(
            f"{path}: its tensors say to have {total:,} bytes, more than {MAX_SHARED} times the file's"
        )


def _checked_bytes(path: Path, name: str, x: Tensor) -> int:
    shown = listed([name])
    if x.is_nested or x.is_meta or x.layout != torch.strided or x.is_quantized or not x.dtype.is_floating_point:
        raise CocorrrecError(
            f"{path}: tensor {shown} is {x.dtype}, {x.layout}: weights are dense floating-point numbers"
        )
    if x.numel() * x.element_size() > x.untyped_storage().nbytes():
        raise CocorrrecError(f"{path}: tensor {shown} says to be larger than the bytes that it has")
    return x.numel() * x.element_size()
