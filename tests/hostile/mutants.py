"""Mutants of files, seeded: the same number gives the same mutants on every machine."""

import json
import random
from collections.abc import Callable, Iterator

Mutate = Callable[[random.Random, bytes], bytes]


def flip_bit(rng: random.Random, data: bytes) -> bytes:
    """One bit."""
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    """The end is missing."""
    return data[: rng.randrange(len(data))]


def repeat(rng: random.Random, data: bytes) -> bytes:
    """A part is there twice."""
    start = rng.randrange(len(data))
    part = data[start : start + 1 + rng.randrange(200)]
    return data[:start] + part + data[start:]


def swap_digit(rng: random.Random, data: bytes) -> bytes:
    """Another digit for one of text: still well formed, and something else."""
    places = [i for i, byte in enumerate(data[: 1 << 16]) if 48 <= byte <= 57]
    if not places:
        return flip_bit(rng, data)
    place = rng.choice(places)
    return data[:place] + bytes([48 + (data[place] - 47) % 10]) + data[place + 1 :]


def huge_number(rng: random.Random, data: bytes) -> bytes:
    """A number of text grows beyond every type."""
    places = [i for i, byte in enumerate(data[: 1 << 16]) if 48 <= byte <= 57]
    if not places:
        return cut(rng, data)
    place = rng.choice(places)
    return data[:place] + b"9" * rng.choice((19, 401, 5000)) + data[place:]


def large_field(rng: random.Random, data: bytes) -> bytes:
    """Four bytes of a header say that something is enormous."""
    place = rng.randrange(min(len(data), 4096))
    return (
        data[:place] + rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80")) + data[place + 4 :]
    )


EVERY: tuple[Mutate, ...] = (flip_bit, cut, repeat, swap_digit, huge_number, large_field)


def mutants(data: bytes, count: int, *, seed: int) -> Iterator[bytes]:
    """``count`` mutants that differ from ``data``, of every kind in turn."""
    rng, made = random.Random(seed), 0
    while made < count:
        mutant = EVERY[made % len(EVERY)](rng, data)
        if mutant != data:
            made += 1
            yield mutant


def json_mutants(data: bytes, count: int, *, seed: int) -> Iterator[bytes]:
    """``count`` documents with one value replaced: well-formed JSON that says something else."""
    rng, made = random.Random(seed), 0
    odd = (None, -1, 0, 2**40, 1e300, "", "../../x", "\x00", [], {}, True, "0" * 64)
    while made < count:
        document = json.loads(data)
        value, path = document, []
        while isinstance(value, (dict, list)) and value:
            key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
            path.append((value, key))
            value = value[key]
        holder, key = rng.choice(path)
        holder[key] = rng.choice(odd)
        mutant = json.dumps(document).encode()
        if json.loads(mutant) != json.loads(data):
            made += 1
            yield mutant
