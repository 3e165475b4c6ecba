"""Publishing: nothing of the user's is lost, nothing of ours is left, and at every moment there is one of the two."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cocorrrec_export import files
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.exchange import exchange
from cocorrrec_export.files import (
    is_temporary,
    listed_files,
    own_folder,
    publish_directory,
    publish_file,
    require_writable,
)

INDEX = "index.json"


def owned(folder: Path) -> set[str] | None:
    return listed_files(folder, INDEX)


def write(folder: Path, **content: str) -> None:
    """A folder of this test's kind."""
    folder.mkdir(exist_ok=True)
    for name, text in content.items():
        (folder / name).write_text(text)
    (folder / INDEX).write_text(json.dumps({"files": [{"path": name} for name in content]}))


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def publish(destination: Path, **content: str) -> None:
    with publish_directory(destination, owned) as staging:
        write(staging, **content)


def a_strange_file(folder: Path) -> None:
    (folder / "thesis.txt").write_text("years of work")


def a_strange_file_below(folder: Path) -> None:
    (folder / "plots").mkdir()
    (folder / "plots" / "mine.svg").write_text("<svg/>")


def a_link(folder: Path) -> None:
    (folder / "mine").symlink_to(folder.parent)


def no_index(folder: Path) -> None:
    (folder / INDEX).unlink()


def an_index_of_something_else(folder: Path) -> None:
    (folder / INDEX).write_text('{"files": "all of them"}')


@pytest.mark.parametrize("change", [a_strange_file, a_strange_file_below, a_link, no_index, an_index_of_something_else])
def test_a_folder_with_something_of_the_users_is_refused_before_any_work(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    place = tmp_path / "results"
    write(place, a="old")
    change(place)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="did not write"), publish_directory(place, owned):
        pytest.fail("the work began")
    assert tree(tmp_path) == before and sorted(p.name for p in tmp_path.iterdir()) == ["results"]


def test_what_came_during_the_work_is_kept(tmp_path: Path) -> None:
    place = tmp_path / "results"
    publish(place, a="old")

    def work() -> None:
        with publish_directory(place, owned) as staging:
            write(staging, a="new")
            (place / "notes").write_text("mine")

    with pytest.raises(UsageError, match=r"did not write.*notes"):
        work()
    assert tree(place)["notes"] == "mine" and tree(place)["a"] == "old"


def test_empty_new_and_own_folders_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "new", tmp_path / "deep" / "er"):
        publish(place, a="1", gone="x")
        publish(place, a="2")
        assert tree(place).keys() == {"a", INDEX} and tree(place)["a"] == "2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "empty", "new"]


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    publish(tmp_path / "results", a="1")
    assert (tmp_path / "results").is_symlink() and (tmp_path / "disk" / "a").read_text() == "1"


@pytest.mark.parametrize("name", [".", "..", "inner"])
def test_where_this_process_stands_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    place = inner if name == "inner" else Path(name)
    with pytest.raises(UsageError, match="current folder"), publish_directory(place, owned):
        pytest.fail("the work began")
    assert inner.is_dir()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_a_failure_leaves_nothing_new_and_the_parents_it_found(tmp_path: Path, error: BaseException) -> None:
    def fail(place: Path) -> None:
        with publish_directory(place, owned) as staging:
            write(staging, a="half")
            raise error

    with pytest.raises(type(error)) as raised:
        fail(tmp_path / "dist" / "sub" / "x")
    assert list(tmp_path.iterdir()) == []
    if isinstance(error, OSError):
        assert str(tmp_path / "dist" / "sub" / "x") in str(raised.value), "a full disk says of which file"
    with pytest.raises(type(error)), publish_file(tmp_path / "dist" / "file.json"):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_found_out_at_once(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("mine")
    for place in (blocker / "results", Path("/proc/results")):
        with pytest.raises(CocorrrecError, match="cannot be written"), publish_directory(place, owned):
            pytest.fail("the work began")
        with pytest.raises(CocorrrecError, match="cannot be written"):
            require_writable(place)
    with pytest.raises(UsageError, match="is a folder"):
        require_writable(tmp_path)
    with pytest.raises(UsageError, match="is a file"), publish_directory(blocker, owned):
        pytest.fail("the work began")
    require_writable(tmp_path / "a" / "b" / "c.json")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_reader_always_finds_one_of_the_two(tmp_path: Path, at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not at_once:  # as on a system that cannot: a reader may find none, but nothing is lost
        monkeypatch.setattr("cocorrrec_export.exchange._exchange_at_once", _cannot)
    place, missed, done = tmp_path / "results", [0], threading.Event()
    publish(place, a="0")

    def read() -> None:
        while not done.is_set():
            missed[0] += not (place / "a").exists()

    reader = threading.Thread(target=read)
    reader.start()
    for index in range(100):
        publish(place, a=str(index))
    done.set()
    reader.join()
    assert (place / "a").read_text() == "99" and [p.name for p in tmp_path.iterdir()] == ["results"]
    assert not (at_once and missed[0])


def _cannot(*_: bytes) -> None:
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize("failing", [1, 2])
def test_an_interruption_between_two_renames_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    monkeypatch.setattr("cocorrrec_export.exchange._exchange_at_once", _cannot)
    for name in ("new", "old"):
        write(tmp_path / name, a=name)
    calls, rename = [0], Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] == failing:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exchange(tmp_path / "new", tmp_path / "old", aside=tmp_path / "aside")
    assert (tmp_path / "old" / "a").read_text() == "old" and (tmp_path / "new" / "a").read_text() == "new"


def test_what_killed_processes_left_is_put_right(tmp_path: Path) -> None:
    (tmp_path / ".results.0123abcd.tmp").mkdir()
    (tmp_path / ".other.0123abcd.tmp").mkdir()
    (tmp_path / ".results.backup01").mkdir()
    write(tmp_path / ".results.89abcdef.old", a="only copy")
    with pytest.raises(ValueError, match="x"), publish_directory(tmp_path / "results", owned):
        raise ValueError("x")
    assert (tmp_path / "results" / "a").read_text() == "only copy"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.0123abcd.tmp", ".results.backup01", "results"]


def test_a_file_under_way_of_another_process_is_left_and_a_stale_one_removed(tmp_path: Path) -> None:
    fresh, stale = (tmp_path / f".a.json.{digit * 8}.tmp" for digit in "12")
    for folder in (fresh, stale):
        folder.mkdir()
    os.utime(stale, (0, time.time() - 2 * files.STALE_S))
    with publish_file(tmp_path / "a.json") as staging:
        staging.write_text("x")
        (staging.parent / ".tmpAb12").write_text("a library's own")
    assert sorted(p.name for p in tmp_path.iterdir()) == [fresh.name, "a.json"]


HOLD = """
import sys, time
from pathlib import Path
from cocorrrec_export.files import own_folder, publish_directory
place = Path(sys.argv[2])
with own_folder(place) if sys.argv[1] == "own" else publish_directory(place, lambda _: ()):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("way", ["own", "publish"])
def test_a_folder_has_one_owner_and_a_dead_one_is_replaced(tmp_path: Path, way: str) -> None:
    place = tmp_path / "out"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, way, str(place)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with (
            pytest.raises(CocorrrecError, match=rf"being written by process {holder.pid} on "),
            own_folder(place) if way == "own" else publish_directory(place, lambda _: ()),
        ):
            pytest.fail("two owners")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    if way == "own":
        (place / ".weights.safetensors.0a0a0a0a.tmp").mkdir()
        with own_folder(place):
            assert all(is_temporary(path.name) for path in place.iterdir())
        assert list(place.iterdir()) == []
    else:
        publish(place, a="1")
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_only_names_of_ours_are_temporary() -> None:
    for name in (".cocorr-lock", ".dist.cocorr-lock", ".a.json.0123abcd.tmp", ".x.89abcdef.old"):
        assert is_temporary(name)
    for name in (".git", ".a.tmp", "a.0123abcd.tmp", ".a.0123abcg.tmp", ".tmp", "results", "cocorr-lock"):
        assert not is_temporary(name)
