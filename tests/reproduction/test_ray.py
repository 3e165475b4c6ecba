"""``reproduce --ray``: the report of a cluster is that of one machine, whatever happens to its workers."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cocorrrec_export.errors import UsageError
from cocorrrec_export.reproduction.ray import cluster
from tests.commands import start
from tests.reproduction.test_reproduce import small_config
from tests.training.test_training import csv_file

ROWS = "gru4rec,sasrec"


def command(folder: Path, out: Path, *more: str) -> tuple[str, ...]:
    data, config = folder / "clicks.csv", folder / "config.toml"
    sizes = ("--models", ROWS, "--seeds", "1", "--learning-rates", "0.002", "--mini-batches", "none", "--epochs", "2")
    return ("reproduce", "--data", str(data), "--config", str(config), *sizes, "--out", str(out), *more)


def results(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return {key: found[key] for key in ("table_1", "learning_rates") if key in found} | {
        path.parent.name: {k: v for k, v in json.loads(path.read_text()).items() if k != "seconds"}
        for path in sorted(out.glob("runs/*/result.json"))
    }


@pytest.mark.slow
def test_a_cluster_whose_worker_is_killed_makes_the_same_report(tmp_path: Path) -> None:
    import psutil

    csv_file(tmp_path / "clicks.csv")
    small_config(tmp_path)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    for module in ("torch", "numpy", "cocorrrec_export", "safetensors"):  # a worker that looked here would fail
        (stranger / f"{module}.py").write_text(f"raise SystemExit('{stranger}')")
    # As the installed command, whose Python does not look into the current folder either.
    safe = f"import sys; sys.path[:] = [p for p in sys.path if p not in ('', {str(stranger)!r})]; "
    process = start(*command(tmp_path, tmp_path / "ray", "--ray", "local", "--json"), cwd=stranger, prelude=safe)
    killed = None
    try:
        until = time.monotonic() + 240
        while killed is None and process.poll() is None and time.monotonic() < until:
            killed = killed_worker(psutil.Process(process.pid))
            time.sleep(0.2)
        stdout, stderr = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    assert killed is not None, "no worker was seen: nothing was killed"
    assert json.loads(stdout)["path"] == str(tmp_path / "ray")
    alone = start(*command(tmp_path, tmp_path / "alone", "--jobs", "1"), cwd=tmp_path)
    _, stderr = alone.communicate(timeout=240)
    assert alone.returncode == 0, stderr
    assert results(tmp_path / "ray") == results(tmp_path / "alone")
    assert len(results(tmp_path / "ray")) >= 2


def killed_worker(driver: Any) -> int | None:
    """One process of ours that was working on a run, and that is no more."""
    import psutil

    for process in driver.children(recursive=True):
        try:
            title = "".join(process.cmdline())  # Ray's workers are called what they do
            if title.startswith("ray::") and "-seed1" in title:
                process.kill()
                return int(process.pid)
        except psutil.Error:  # it has gone by itself
            continue
    return None


@pytest.mark.skipif("ray" in sys.modules, reason="a cluster of another test is in use")
def test_a_cluster_that_is_not_there_is_one_error() -> None:
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="no Ray cluster can be used at 'nonsense'"), cluster("nonsense"):
        pass
