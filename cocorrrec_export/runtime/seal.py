"""A digest that a program carries in itself, so that damage shows without a manifest too.

The metadata of a program hold :data:`KEY`: the SHA-256 of the whole program with :data:`PLACEHOLDER` in the digest's
place. A program is a file, or a folder of files.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from cocorrrec_export.errors import CocorrrecError

KEY = "content_sha256"
PLACEHOLDER = "the-sha256-of-this-program-with-these-64-characters-in-its-place"
assert len(PLACEHOLDER) == 64
MAX_DIGESTS = 32
"""That a program holds once: its own, the model's, and few others. One with more was made to keep us busy."""
MAX_FOUND = 10_000
"""Places in a file that are looked at."""

_STRIDE = 16
_IS_HEX = bytes(byte in b"0123456789abcdef" for byte in range(256))
_HEX_RUN = b"\1" * (64 // _STRIDE)


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
    if len(given) != 64 or not _vouches(given, program, _contents(program)):
        raise CocorrrecError(f"{program}: damaged or changed: it is not the content that its own digest was made for")
    return True


def require_seal(program: Path) -> None:
    """Refuse a program that does not carry the digest of its content, without reading its format.

    A manifest can be made to match any file. The file's own digest is looked for in all that it may be: every 64
    hexadecimal characters in it.

    Raises:
        CocorrrecError: none of them is the digest of the content with the placeholder in its place.
    """
    contents = _contents(program)
    found: Counter[bytes] = Counter()
    for data in contents.values():
        found |= Counter(islice(_digests_in(data), MAX_FOUND))
    # Metadata are written once; runtimes name weights by digests of theirs, each wherever it is used.
    once = sorted(digest for digest, count in found.items() if count == 1)
    if len(once) > MAX_DIGESTS:
        raise CocorrrecError(f"{program}: damaged: it holds more than {MAX_DIGESTS} digests")
    if not any(_vouches(digest, program, contents) for digest in once):
        raise CocorrrecError(
            f"{program}: damaged or changed: it does not carry the digest of its content (export it again)"
        )


def _digests_in(data: bytes) -> Iterator[bytes]:
    """Every 64 hexadecimal characters in a row: such a run shows in four neighbors of every sixteenth byte."""
    samples = data[::_STRIDE].translate(_IS_HEX)
    at, seen = samples.find(_HEX_RUN), 0
    while at >= 0:
        start = max(seen, (at - 1) * _STRIDE + 1)
        for match in re.finditer(rb"(?=([0-9a-f]{64}))", data[start : at * _STRIDE + 128]):
            yield match[1]
            seen = start + match.start() + 1
        at = samples.find(_HEX_RUN, at + 1)


def _vouches(digest: bytes, program: Path, contents: dict[Path, bytes]) -> bool:
    """Whether a digest is that of the content with the placeholder in the digest's place."""
    blank = {path: data.replace(digest, PLACEHOLDER.encode()) for path, data in contents.items()}
    return _digest(program, blank).encode() == digest


def _contents(program: Path) -> dict[Path, bytes]:
    paths = [path for path in sorted(program.rglob("*")) if path.is_file()] if program.is_dir() else [program]
    return {path: path.read_bytes() for path in paths}


def _digest(program: Path, contents: dict[Path, bytes]) -> str:
    digest = hashlib.sha256()
    for path, data in contents.items():
        name = path.relative_to(program).as_posix() if path != program else ""
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()
