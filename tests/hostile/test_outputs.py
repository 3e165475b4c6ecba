"""Whatever a command is told to write to: what is there and not its own stays, and it says so before any work."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cocorrrec_export.apps.android import ANDROID
from cocorrrec_export.apps.bundle import write_bundle
from cocorrrec_export.apps.ios import IOS
from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.data.prepared import write_cut
from cocorrrec_export.errors import UsageError
from cocorrrec_export.files import publish_file, require_writable
from cocorrrec_export.modeling.store import ModelFolder
from cocorrrec_export.pictures import is_own_png
from cocorrrec_export.serving.bundle import bundle_triton
from tests.commands import Cli
from tests.data.test_prepared import ORIGIN, example
from tests.training.test_training import csv_file

MINE = b"\x89PNG\r\n\x1a\n years of work"
Foreign = Callable[[Path], None]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file by its name; what the product keeps while it works included."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


FILES = {
    "prepare": ("cocorr-export", "data prepare {clicks} --out {out}/a.cut", "a.cut"),
    "statistics": ("cocorr-export", "data statistics {clicks} --plot {out}/a.png", "a.png"),
    "evaluate": ("cocorr-export", "evaluate --model {model} --late-rate 0,1 --plot {out}/late.png", "late.png"),
    "export-weights": ("cocorr-export", "export-weights {model} --out {out}/weights.pt", "weights.pt"),
    "link": ("cocorr-profile", "link --scn {scn} --gcn {gcn} --deadline-ms 9 --out {out}", "link.json"),
    "link, page": ("cocorr-profile", "link --scn {scn} --gcn {gcn} --deadline-ms 9 --out {out}", "link.html"),
    "train": ("cocorr-export", "train --data {clicks} --out {out}", "metrics.jsonl"),
    "import": ("cocorr-export", "import {weights} --out {out}", "items.csv.gz"),
    "reproduce": ("cocorr-export", "reproduce --data {clicks} --quick --out {out}", "report.md"),
    "reproduce, results": ("cocorr-export", "reproduce --data {clicks} --quick --out {out}", "results.json"),
    "reproduce, best": ("cocorr-export", "reproduce --data {clicks} --recipe best --out {out}", "comparison.csv"),
    "scn": ("cocorr-export", "scn --model {model} --target onnx --precision fp32 --out {out}", "scn-onnx-fp32/notes"),
    "gcn": ("cocorr-export", "gcn --model {model} --out {out}", "gcn-onnx-fp32/manifest.json"),
    "profile": ("cocorr-profile", "{gcn} --host --iterations 1 --output {out}", "profile.json"),
    "android": ("cocorr-export", "bundle android {scn} --model {model} --out {out}", "bundle.json"),
    "ios": ("cocorr-export", "bundle ios {scn} --model {model} --out {out}", "Package.swift"),
    "triton": ("cocorr-export", "bundle triton {gcn} --out {out}", "gcn/config.pbtxt"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [MINE, b'{"files": [], "a": 1}'], ids=["text", "json"])
def test_a_file_of_the_users_stays(
    name: str,
    content: bytes,
    any_cli: Cli,
    tiny: ModelFolder,
    scn_int8: Artifact,
    gcn_fp32: Artifact,
    tmp_path: Path,
) -> None:
    program, line, place = FILES[name]
    out = tmp_path / "mine"
    (out / place).parent.mkdir(parents=True)
    (out / place).write_bytes(content)
    places = {
        "clicks": csv_file(tmp_path / "clicks.csv"),
        "model": tiny.path,
        "weights": tiny.path / "weights.safetensors",
        "scn": scn_int8.path,
        "gcn": gcn_fp32.path,
        "out": out,
    }
    before = tree(tmp_path)
    ended = any_cli(program, *(word.format(**places) for word in line.split()))
    assert (ended.code, ended.stdout) == (2, ""), ended.stderr
    (message,) = [text for text in ended.stderr.splitlines() if text.startswith("error: ")]
    assert str(out) in message
    assert tree(tmp_path) == before


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [a_pipe, a_socket])
def test_what_is_no_file_is_not_replaced_by_one(make: Foreign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``--out /dev/null`` by a user who may do that to a device."""
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path = Path("a")
    make(path)
    before = path.lstat()
    for ours in (None, lambda _: True):
        with pytest.raises(UsageError, match="device, a pipe or a socket"), publish_file(path, ours):
            pytest.fail("the work began")
        with pytest.raises(UsageError, match="device, a pipe or a socket"):
            require_writable(path, ours)
    assert os.path.samestat(path.lstat(), before) and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UsageError, match="device, a pipe or a socket"):
        require_writable(Path(os.devnull))


def test_a_file_that_came_during_the_work_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.cut"

    def work() -> None:
        with publish_file(path, lambda _: False) as staging:
            staging.write_text("ours")
            path.write_text("mine")

    with pytest.raises(UsageError, match="did not write"):
        work()
    assert path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_own_and_empty_files_are_replaced(cli: Cli, tmp_path: Path) -> None:
    clicks, cut, plot = csv_file(tmp_path / "clicks.csv"), tmp_path / "a.cut", tmp_path / "a.png"
    cut.touch()
    for _ in range(2):
        assert cli("data", "prepare", clicks, "--out", cut).code == 0
        assert cli("data", "statistics", cut, "--plot", plot).code == 0
        assert is_own_png(plot)
    # Another name of the source is the source.
    other = tmp_path / "other.csv"
    other.hardlink_to(clicks)
    ended = cli("data", "prepare", clicks, "--out", other)
    assert ended.code == 2 and "is the file itself" in ended.stderr
    write_cut(cut, example(), ORIGIN)


@pytest.mark.parametrize("name", ["android", "ios", "triton"])
def test_who_edits_a_bundle_keeps_it(
    name: str, tiny: ModelFolder, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The folder lies in an app, or with an operator: written again as long as nobody has changed it."""
    out = tmp_path / "bundle"

    def write() -> None:
        if name == "triton":
            gcn: Artifact = request.getfixturevalue("gcn_fp32")
            bundle_triton(gcn.path, out, max_batch=32, max_queue_delay_us=250, storage_uri="s3://x/y")
        else:
            scn: Artifact = request.getfixturevalue("scn_int8")
            write_bundle({"android": ANDROID, "ios": IOS}[name], scn.path, out, model=str(tiny.path))

    write()
    write()
    edited = {"android": "**/*.kt", "ios": "**/*.swift", "triton": "gcn/config.pbtxt"}[name]
    path = min(out.glob(edited))
    path.write_text(path.read_text().replace("\n", "\n\n", 1))
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=f"edited since .*{path.name}"):
        write()
    assert tree(tmp_path) == before


def test_a_bundle_of_one_system_does_not_take_the_place_of_another(
    scn_int8: Artifact, tiny: ModelFolder, tmp_path: Path
) -> None:
    write_bundle(ANDROID, scn_int8.path, tmp_path / "bundle", model=str(tiny.path))
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="did not write"):
        write_bundle(IOS, scn_int8.path, tmp_path / "bundle", model=str(tiny.path))
    assert tree(tmp_path) == before
