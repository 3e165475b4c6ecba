"""Read TOML from strangers: strict keys, clear errors."""

import tomllib
from pathlib import Path
from typing import Any

from cocorrrec_export.errors import CocorrrecError, UsageError

MAX_TOML_BYTES = 1 << 20


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        UsageError: the file does not exist or is no file.
        CocorrrecError: it is no TOML, not UTF-8, or larger than 1 MiB.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.stat().st_size > MAX_TOML_BYTES:
        raise CocorrrecError(f"{path}: larger than {MAX_TOML_BYTES} bytes, this is no file of ours")
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CocorrrecError(f"{path}: not valid TOML: {error}") from None
