"""Files of named arrays (safetensors), read and written with numpy alone, or with torch where that is at hand."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import publish_file


def read_named(path: Path, framework: Literal["numpy", "pt"]) -> dict[str, Any]:
    """All tensors of a file, as arrays of numpy or tensors of torch.

    Raises:
        CocorrrecError: the file is missing, truncated or damaged.
    """
    if not path.is_file():
        raise CocorrrecError(f"{path}: no such file")
    try:
        with safe_open(path, framework=framework) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CocorrrecError(f"{path}: not a complete safetensors file: {error}") from None


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """All arrays of a file.

    Raises:
        CocorrrecError: the file is missing, truncated or damaged, or holds a dtype that numpy does not have.
    """
    try:
        return read_named(path, "numpy")
    except (AttributeError, TypeError) as error:
        raise CocorrrecError(f"{path}: holds a dtype that numpy does not have: {error}") from None


def write_arrays(arrays: dict[str, NDArray[np.generic]], path: Path) -> None:
    """Write a file, whole or not at all.

    Raises:
        CocorrrecError: the disk is full or read-only.
    """
    with publish_file(path) as staging:
        staging.write_bytes(save({name: np.ascontiguousarray(x) for name, x in arrays.items()}))
