"""TOML and JSON from strangers: one meaning, bounded time, bounded numbers."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cocorrrec_export import strict_json
from cocorrrec_export.arrays import read_named
from cocorrrec_export.data.prepared import read_cut, read_origin
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.toml import read_toml
from cocorrrec_export.training.checkpoint import RunState, load_checkpoint


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 50_000) + " = 1",
        "[" + ".".join(f'"k{i}"' for i in range(100)) + "]",
        " . ".join("b" * 40) + " = 1",
        "a = " + "9" * 401,
        "a = -" + "9" * 20,
        "a = " + "9" * 5000,
        "a = " + "[" * 2000 + "]" * 2000,
        "a = " + "{b = " * 30 + "1" + "}" * 30,
        "a = [[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]",
        "a = 0x" + "f" * 400,
        "\n".join(f"k{i} = 1" for i in range(5000)),
        "a = [" + "1," * 400_000 + "]",
        "[[a]]\n" * 100_000,
    ],
    ids=lambda text: f"{text[:12]!r}, {len(text)} characters",
)
def test_toml_beyond_bounds_is_refused_in_time(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(CocorrrecError, match="not valid TOML"):
        read_toml(path)
    assert time.process_time() - start < 10


def test_toml_within_bounds_is_read_in_time(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("\n".join(f'key-{i} = "{"x" * 20}"' for i in range(3000)) + f"\n[a.b.c]\nd = {2**63 - 1}\n")
    start = time.process_time()
    assert read_toml(path)["a"]["b"]["c"]["d"] == 2**63 - 1
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        "NaN",
        "[Infinity]",
        "1e999",
        "9" * 401,
        str(2**63),
        "[" * 100_000,
        '{"a": {"b": 1, "b": 2}}',
        b"\xff",
    ],
)
def test_json_that_surprises_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the class is the contract
        strict_json.parse(text)


def test_many_keys_of_which_one_is_given_twice_are_refused_in_time() -> None:
    text = "{" + ",".join(f'"{key:x}": 0' for key in range(100_000)) + ', "last": 0, "last": 0}'
    start = time.process_time()
    with pytest.raises(ValueError, match="a key is given twice: 'last'"):
        strict_json.parse(text)
    assert time.process_time() - start < 10


def test_json_of_every_kind_is_read() -> None:
    text = '{"a": [1, -9223372036854775807, 0.5, -1e300, true, null, "\\u00e4"], "b": {}}'
    assert strict_json.parse(text)["a"][:4] == [1, -(2**63 - 1), 0.5, -1e300]


def test_the_digest_is_of_the_value() -> None:
    assert strict_json.digest({"a": 1, "b": "ä"}) == strict_json.digest({"b": "ä", "a": 1})
    assert strict_json.digest({"a": 1}) != strict_json.digest({"a": 1.5})
    with pytest.raises(ValueError, match="Out of range"):
        strict_json.digest({"a": math.nan})


def test_a_header_of_a_million_tensors_is_refused_unread(tmp_path: Path) -> None:
    one = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    header = ("{" + ",".join(one.format(number) for number in range(100_000)) + "}").encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    reads: tuple[Callable[[Path], object], ...] = (
        lambda path: read_named(path, "numpy"),
        lambda path: read_named(path, "pt", foreign=True),
        read_cut,
        read_origin,
        lambda path: load_checkpoint(path, torch.nn.Linear(1, 1), [], RunState()),
    )
    start = time.process_time()
    for read in reads:
        with pytest.raises(CocorrrecError, match=r"its header has \S+ bytes"):
            read(path)
    assert time.process_time() - start < 10
