"""Where a command is started: limits, closed streams, full disks. One error that names the cause, or none."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export import isolation
from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.isolation import in_child
from cocorrrec_export.modeling.store import ModelFolder
from cocorrrec_export.serving.listening import read_token
from tests.commands import Cli
from tests.conftest import absent
from tests.hostile.test_current_folder import program
from tests.training.test_training import csv_file

resource = pytest.importorskip("resource")
# Of a library that an export in the same process brings: what we start is another program at once.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")


def run(before: Callable[[], None], *arguments: object, **streams: object) -> "subprocess.CompletedProcess[bytes]":
    """``cocorr-export`` after a change of its surroundings."""
    command = [program("cocorr-export"), *map(str, arguments)]
    return subprocess.run(command, preexec_fn=before, check=False, timeout=120, **streams)  # type: ignore[call-overload]


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_standard_stream_that_is_closed(descriptor: int, gcn_fp32: Artifact, tmp_path: Path) -> None:
    """As under some supervisors: what is opened next has the number of the stream."""
    names = {1: "stdout", 2: "stderr"}
    with contextlib.ExitStack() as stack:
        streams = {
            name: stack.enter_context((tmp_path / name).open("wb"))
            for number, name in names.items()
            if number != descriptor
        }
        done = run(lambda: os.close(descriptor), "inspect", gcn_fp32.program, "--json", **streams)
    said = {name: (tmp_path / name).read_text() for name in streams}
    assert (done.returncode, said.get("stderr", "")) == (0, "")
    assert said.get("stdout", "{").startswith("{")


def test_what_native_code_prints_goes_into_no_file_of_ours(tmp_path: Path) -> None:
    """A file that is opened where stdout was, and then quiet, whose numbers are 1 and 2."""
    code = (
        "import os, sys; from cocorrrec_export.cli import console; from cocorrrec_export.extras import quiet\n"
        "def app():\n"
        "    with open(sys.argv[1], 'wb') as file:\n"
        "        with quiet():\n"
        "            os.write(1, b'noise')\n"
        "            file.write(b'whole')\n"
        "            file.flush()\n"
        "console.run(app)\n"
    )
    path = tmp_path / "file"
    command = [sys.executable, "-P", "-c", code, str(path)]
    done = subprocess.run(command, preexec_fn=lambda: [os.close(n) for n in (0, 1, 2)], check=False, timeout=60)  # type: ignore[func-returns-value]
    assert (done.returncode, path.read_bytes()) == (0, b"whole")


def test_less_memory_allowed_than_a_child_would_take(gcn_fp32: Artifact) -> None:
    """``ulimit -v``, as on shared computers: it cannot be raised, and is no damage of the file."""
    most = isolation.MEMORY_BYTES // 2
    done = run(
        lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
        "inspect",
        gcn_fp32.program,
        "--json",
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")


SLACK = 64 << 20
"""What an interpreter takes or gives back meanwhile."""


def _take(size: int, most: int) -> int:
    """Bytes that were written to memory while a program of ``size`` bytes may take ``most`` more, and after that."""
    with isolation.program_memory(size):
        taken = np.ones(most - SLACK, np.uint8).size
        with pytest.raises(MemoryError):
            np.ones(most + SLACK, np.uint8)
    return taken + np.ones(most + SLACK, np.uint8).size


def _take_too_much(size: int, most: int) -> None:
    with isolation.program_memory(size):
        np.ones(most + SLACK, np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="the system counts memory so on Linux alone")
def test_memory_that_a_program_may_take_grows_with_its_file() -> None:
    for size in (0, 3_000_000):
        most = isolation.PROGRAM_BYTES + isolation.PROGRAM_SIZES * size
        assert in_child("taking it", _take, size, most) == 2 * most
        with pytest.raises(CocorrrecError, match=f"a file of {size:,} bytes asks for more than {most:,} bytes"):
            in_child("taking it", _take_too_much, size, most)


def test_a_full_disk_behind_stdout() -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(lambda: None, "models", "--json", stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"error: input or output: No space left on device\n")


def _die_while_answering() -> object:
    """Ends the process in the middle of its answer, which is pickled and sent in pieces."""
    return [os.urandom(1 << 20), _Deadly()]


class _Deadly:
    def __reduce__(self) -> str:
        os.kill(os.getpid(), 9)
        return ""


def test_a_child_that_dies_while_it_answers() -> None:
    with pytest.raises(CocorrrecError, match="reading it: the process died by SIGKILL"):
        in_child("reading it", _die_while_answering)


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe\x00", "schlüssel".encode(), b"a\0b", b"x" * 9000])
def test_a_token_file_that_holds_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="holds no bearer token"):
        read_token(path)
    path.write_bytes(b"  secret\r\n")
    assert read_token(path) == "secret"


def test_a_message_about_a_strangers_file_has_an_end(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text("[training]\n" + "".join(f"key{number} = 1\n" for number in range(4000)))
    ended = cli("train", "--data", csv_file(tmp_path / "clicks.csv"), "--config", config, "--out", tmp_path / "model")
    assert ended.code == 2 and "unknown key 'key0'" in ended.stderr
    assert len(ended.stderr) < 20_000 and "characters more" in ended.stderr


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder of a file system of its own, with no byte left."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        absent("a full disk needs a user who may mount one")
    try:
        with contextlib.suppress(OSError), (folder / "mine").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


WRITING = {
    "prepare": "data prepare {clicks} --out {full}/a.cut",
    "statistics": "data statistics {clicks} --plot {full}/a.png",
    "weights of torch": "export-weights {model} --out {full}/a.pt",
    "weights": "export-weights {model} --out {full}/a.safetensors",
    "train": "train --data {clicks} --config {config} --out {full}/model",
    "import": "import {model}/weights.safetensors --out {full}/model",
    "triton": "bundle triton {gcn} --out {full}/bundle",
}


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("left", [0, 16 << 10], ids=["nothing", "a little"])
def test_a_full_disk_is_named_and_nothing_is_left_on_it(
    name: str, left: int, full_disk: Path, cli: Cli, tiny: ModelFolder, gcn_fp32: Artifact, tmp_path: Path
) -> None:
    mine = full_disk / "mine"
    os.truncate(mine, mine.stat().st_size - left)
    config = tmp_path / "train.toml"
    config.write_text("[training]\nevaluation_negatives = 10\nepochs = 1\n")
    places = {"clicks": csv_file(tmp_path / "clicks.csv"), "config": config, "full": full_disk}
    places |= {"model": tiny.path, "gcn": gcn_fp32.path}
    ended = cli(*(word.format(**places) for word in WRITING[name].split()))
    if ended.code == 0:
        assert left and name == "prepare"  # it fits
        return
    (message,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.code == 1 and str(full_disk) in message and "No space left on device" in message, ended.stderr
    kept = {"model"} if name == "train" else set()  # a run that was stopped keeps what it can be resumed from
    assert {path.name for path in full_disk.iterdir()} - kept == {"mine"}


def test_a_full_disk_for_temporary_files_is_named(
    full_disk: Path, cli: Cli, gcn_fp32: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(full_disk))
    ended = cli("bundle", "triton", gcn_fp32.path, "--out", tmp_path / "bundle")
    assert ended.code == 1 and str(full_disk) in ended.stderr and "No space left on device" in ended.stderr
    assert not (tmp_path / "bundle").exists()


def test_a_current_folder_that_was_removed(gcn_fp32: Artifact, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    def remove() -> None:
        os.chdir(gone)
        gone.rmdir()

    done = run(remove, "inspect", gcn_fp32.program, capture_output=True)
    assert done.returncode == 2
    assert done.stderr == b"error: the current folder does not exist any more: change to another one\n"
