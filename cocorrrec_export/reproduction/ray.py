"""Runs on the machines of a Ray cluster.

A run gets the data as bytes and gives back its files, so that the machines need nothing in common but this package in
the same version. What a worker took with it when it was killed is done again, on another one.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.extras import require
from cocorrrec_export.files import contained_path, publish_file
from cocorrrec_export.isolation import keep_current_folder_out
from cocorrrec_export.reproduction.plan import Run
from cocorrrec_export.reproduction.run import MODEL, RESULT, perform
from cocorrrec_export.reproduction.schedule import Ended, Workers
from cocorrrec_export.training.loop import Listener
from cocorrrec_export.training.run import RunConfig

TRIES = 4
"""Of a run whose workers are killed."""


@contextmanager
def cluster(address: str) -> Iterator["Cluster"]:
    """The Ray cluster at ``address``, as long as the block runs.

    Args:
        address: ``HOST:PORT``, ``auto`` for the one of this machine, or ``local`` to start one here.

    Raises:
        UsageError: there is no such cluster.
        CocorrrecError: Ray is not installed, or does not start.
    """
    require("ray")
    keep_current_folder_out()
    # Ray's own switches: no reports to its makers, and no environment made for each worker.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray

    options = {"include_dashboard": False} if address == "local" else {}
    with tempfile.TemporaryDirectory() as empty:
        try:
            # The folder that a driver stands in comes first in the search path of every worker.
            with contextlib.chdir(empty):
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, ValueError) as error:
            raise UsageError(f"no Ray cluster can be used at '{address}': {_said(error)}") from None
        except Exception as error:  # that is what Ray raises when a machine is too slow to start it
            raise CocorrrecError(f"Ray did not start: {_said(error)}") from None
        try:
            with contextlib.redirect_stdout(sys.stderr):  # where Ray says that a worker has died
                yield Cluster()
        finally:
            ray.shutdown()


class Cluster(Workers):
    """Runs as tasks of Ray, each on one CPU."""

    def __init__(self) -> None:
        import ray

        self._ray, self._data = ray, None
        self._task = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_work)
        self._working: dict[Any, tuple[Run, Path, bool]] = {}

    def __len__(self) -> int:
        """Runs that were started and have not ended."""
        return len(self._working)

    def start(self, run: Run, folder: Path, config: RunConfig, cut: Path, *, data: str, keep_model: bool) -> None:
        """Start a run; it waits for a free CPU of the cluster."""
        if self._data is None:
            self._data = self._ray.put(cut.read_bytes())
        task = self._task.options(name=run.name).remote(self._data, run, config, data, keep_model)
        self._working[task] = (run, folder, keep_model)

    def wait(self) -> list[Ended]:
        """Wait until some runs have ended, and write what they made."""
        done, _ = self._ray.wait(list(self._working))
        return [self._end(task) for task in done]

    def _end(self, task: Any) -> Ended:
        run, folder, keep_model = self._working.pop(task)
        try:
            answer = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return Ended(run, f"{TRIES} tries, and none came to its end: {_said(error)}")
        if isinstance(answer, str):
            return Ended(run, answer)
        if not keep_model:  # of an earlier try on this machine
            shutil.rmtree(folder / MODEL, ignore_errors=True)
        for name in sorted(answer, key=lambda name: name == RESULT):  # the result is the last: with it the run is done
            path = contained_path(folder, name, where=run.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with publish_file(path) as staging:
                staging.write_bytes(answer[name])
        return Ended(run, None)

    def stop(self) -> None:
        """End what is going on."""
        for task in self._working:
            self._ray.cancel(task, force=True)
        self._working.clear()


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _work(content: bytes, run: Run, config: RunConfig, data: str, keep_model: bool) -> dict[str, bytes] | str:
    """The files of a run by their names in its folder, or why it failed."""
    keep_current_folder_out()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        cut, folder = Path(name) / "data.cut", Path(name) / "run"
        cut.write_bytes(content)
        folder.mkdir()
        try:
            perform(run, folder, config, cut, data=data, keep_model=keep_model, listener=Listener())
        except CocorrrecError as error:
            return str(error)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
