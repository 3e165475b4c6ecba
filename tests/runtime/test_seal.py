"""The digest that a program carries, found without reading its format."""

import os
import random
import re
import time
from pathlib import Path

import pytest

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.runtime.seal import PLACEHOLDER, _digests_in, require_seal, seal

MODEL = b"b" * 64


def program(path: Path, *, before: int = 100) -> Path:
    path.write_bytes(os.urandom(before) + MODEL + b"\0" + PLACEHOLDER.encode() + os.urandom(50))
    seal(path)
    return path


@pytest.mark.parametrize("before", [0, 1, 15, 16, 17, 63, 64])
def test_it_is_found_wherever_it_stands(tmp_path: Path, before: int) -> None:
    path = program(tmp_path / "a.bin", before=before)
    require_seal(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CocorrrecError, match="does not carry the digest of its content"):
        require_seal(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, MODEL, PLACEHOLDER.encode()])
def test_without_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(CocorrrecError, match="does not carry the digest of its content"):
        require_seal(tmp_path / "a.bin")


def test_every_run_of_digits_is_seen_once() -> None:
    rng = random.Random(0)
    for length in (63, 64, 65, 80, 130):
        for _ in range(20):
            digits = "".join(rng.choices("0123456789abcdef", k=length)).encode()
            data = rng.randbytes(rng.randrange(200)) + digits + rng.randbytes(rng.randrange(100)) + digits[:64]
            assert list(_digests_in(data)) == [x[1] for x in re.finditer(rb"(?=([0-9a-f]{64}))", data)]


def test_a_file_made_of_digests_takes_no_time(tmp_path: Path) -> None:
    path, since = tmp_path / "a.bin", time.monotonic()
    path.write_bytes("".join(random.Random(1).choices("0123456789abcdef", k=4 << 20)).encode())
    with pytest.raises(CocorrrecError, match="it holds more than 32 digests"):
        require_seal(path)
    assert time.monotonic() - since < 10
