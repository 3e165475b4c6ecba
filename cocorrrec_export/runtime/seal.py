"""A digest that a program carries in itself, so that damage shows without a manifest too.

The metadata of a program hold :data:`KEY`: the SHA-256 of the whole program with :data:`PLACEHOLDER` in the digest's
place. A program is a file, or a folder of files.
"""

import hashlib
from pathlib import Path

from cocorrrec_export.errors import CocorrrecError

KEY = "content_sha256"
PLACEHOLDER = "the-sha256-of-this-program-with-these-64-characters-in-its-place"
assert len(PLACEHOLDER) == 64


def seal(program: Path) -> None:
    """Put the digest into a program whose metadata hold :data:`PLACEHOLDER` under :data:`KEY`.

    Raises:
        ValueError: they do not.
    """
    contents = _contents(program)
    placeholder = PLACEHOLDER.encode()
    if not any(placeholder in data for data in contents.values()):
        raise ValueError(f"{program} has no place for its digest")
    digest = _digest(program, contents).encode()
    for path, data in contents.items():
        if placeholder in data:
            path.write_bytes(data.replace(placeholder, digest))


def check_seal(program: Path, metadata: dict[str, str | int]) -> bool:
    """Whether a program carries its digest; one of another maker does not.

    Raises:
        CocorrrecError: it carries that of another content.
    """
    digest = metadata.get(KEY)
    if digest is None:
        return False
    given = str(digest).encode()
    contents = {path: data.replace(given, PLACEHOLDER.encode()) for path, data in _contents(program).items()}
    if len(given) != 64 or _digest(program, contents).encode() != given:
        raise CocorrrecError(f"{program}: damaged or changed: it is not the content that its own digest was made for")
    return True


def _contents(program: Path) -> dict[Path, bytes]:
    paths = [path for path in sorted(program.rglob("*")) if path.is_file()] if program.is_dir() else [program]
    return {path: path.read_bytes() for path in paths}


def _digest(program: Path, contents: dict[Path, bytes]) -> str:
    digest = hashlib.sha256()
    for path, data in contents.items():
        name = path.relative_to(program).as_posix() if path != program else ""
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()
