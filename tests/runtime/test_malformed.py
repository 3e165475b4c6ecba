"""Damaged files of every format: one clear error, and never a crash of this process."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cocorrrec_export.artifact.inspect import inspect
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.modeling.store import ModelFolder
from tests.commands import Cli
from tests.coreml import MODEL, WEIGHTS

pytestmark = pytest.mark.usefixtures("warm_children")


def damages(data: bytes, count: int, *, seed: int) -> Iterator[bytes]:
    """``count`` truncations and bit flips, in turn."""
    rng = random.Random(seed)
    for index in range(count):
        damaged = bytearray(data)
        if index % 2:
            del damaged[rng.randrange(len(damaged)) :]
        else:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        yield bytes(damaged)


FILES = {
    "scn_int8": ("scn.pte",),
    "tflite_int8": ("scn.tflite",),
    "onnx_int8": ("scn/rank.onnx", "scn/weights.bin"),
    "gcn_fp32": ("gcn.onnx",),
    "coreml_fp32": tuple(f"scn.mlpackage/{name}" for name in ("Manifest.json", MODEL, WEIGHTS)),
}
CASES = [(kind, name) for kind, names in FILES.items() for name in names]


def refused_each_time(folder: Path, name: str, count: int) -> None:
    """Without the manifest: the file speaks for itself alone."""
    (folder / "manifest.json").unlink()
    path = folder / name
    whole = path.read_bytes()
    looked_at = folder / name.split("/")[0]
    assert inspect(looked_at).checked_by == "its own digest"
    for damaged in damages(whole, count, seed=len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(CocorrrecError) as raised:
            inspect(looked_at)
        assert raised.value.exit_code == 1
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[name for _, name in CASES])
def test_a_few_damages(kind: str, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(request.getfixturevalue(kind).path, folder)
    refused_each_time(folder, name, 10)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), CASES, ids=[name for _, name in CASES])
def test_two_hundred_damages(kind: str, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(request.getfixturevalue(kind).path, folder)
    refused_each_time(folder, name, 200)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), CASES, ids=[name for _, name in CASES])
def test_commands_end_with_1_and_one_line(
    kind: str, name: str, request: pytest.FixtureRequest, tmp_path: Path, cli: Cli, tiny: ModelFolder
) -> None:
    """The commands themselves, on the folder with its manifest: 200 damages each."""
    folder = tmp_path / "export"
    shutil.copytree(request.getfixturevalue(kind).path, folder)
    path = folder / name
    for damaged in damages(path.read_bytes(), 200, seed=1):
        path.write_bytes(damaged)
        for command in (["inspect", folder], ["parity", folder, "--model", tiny.path]):
            ended = cli(*command)
            assert ended.code == 1 and not ended.stdout
            (message,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
            assert "is not what its manifest says" in message
            assert "Traceback" not in ended.stderr
