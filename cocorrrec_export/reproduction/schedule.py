"""Runs in processes of their own, several at a time, each going on where it was stopped."""

import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import connection
from pathlib import Path
from typing import Any

from cocorrrec_export.data.prepared import is_cut
from cocorrrec_export.data.sources import make_cut
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import sha256_file
from cocorrrec_export.isolation import process_context
from cocorrrec_export.reproduction.plan import MINI_BATCH_ROW, Plan, Run
from cocorrrec_export.reproduction.run import Result, perform, read_result, settings_of, with_run
from cocorrrec_export.training.loop import Listener
from cocorrrec_export.training.run import RunConfig


class Watcher:
    """Receives how the runs go; the command line's progress bars are one."""

    def on_read(self, done: int, size: int) -> None:
        """``done`` of the ``size`` bytes of the data are read."""

    def on_planned(self, runs: int) -> None:
        """``runs`` more are to be done."""

    def on_start(self, run: Run, steps: int) -> None:
        """A run starts; it has ``steps`` steps, unless it stops early."""

    def on_progress(self, run: Run, done: int) -> None:
        """``done`` of its steps are done."""

    def on_result(self, result: Result) -> None:
        """A run is done, now or in an earlier session."""


@dataclass(frozen=True)
class Results:
    """What all runs found."""

    chosen: dict[str, float]
    """Learning rate by row."""
    choice: dict[str, dict[float, float]]
    """Validation metric by row and learning rate."""
    rows: dict[str, list[Result]]
    """By row, in the order of the seeds."""
    mini_batches: dict[int, Result]


def train_all(
    plan: Plan, data_file: Path, out: Path, *, jobs: int, keep_models: bool = False, watcher: Watcher | None = None
) -> Results:
    """Train everything that ``plan`` asks for, or read what is done already.

    Args:
        plan: what.
        data_file: interactions.
        out: folder; each run has one below ``out / "runs"``.
        jobs: runs at a time, each on one thread.
        keep_models: leave the weights of each run next to its result.
        watcher: receives progress.

    Raises:
        UsageError: ``out`` holds runs of other settings or data.
        CocorrrecError: the data cannot be used, or a run failed, with its name; the others' results are kept.
    """
    pool = _Pool(plan.config, data_file, out / "runs", jobs, keep_models, watcher or Watcher())
    choice: dict[str, dict[float, float]] = {}
    chosen: dict[str, float] = {}
    rows: dict[str, list[Result]] = {}
    try:
        for row in plan.rows:
            pool.submit(plan.choice_runs(row))
        for row in plan.rows:  # the first row's other seeds run while the last rows' learning rates are tried
            choice[row] = {run.learning_rate: pool.wait_for(run).validation for run in plan.choice_runs(row)}
            chosen[row] = max(choice[row], key=choice[row].__getitem__)
            pool.submit(plan.seed_runs(row, chosen[row]), first=True)
        for row in plan.rows:
            rows[row] = [pool.wait_for(run) for run in plan.seed_runs(row, chosen[row])]
        mini_batches = {}
        if MINI_BATCH_ROW in chosen:
            runs = plan.mini_batch_runs(chosen[MINI_BATCH_ROW])
            pool.submit(runs)
            mini_batches = {run.mini_batch: pool.wait_for(run) for run in runs if run.mini_batch is not None}
        return Results(chosen, choice, rows, mini_batches)
    finally:
        pool.stop()


class _Pool:
    def __init__(
        self, config: RunConfig, data_file: Path, root: Path, jobs: int, keep_models: bool, watcher: Watcher
    ) -> None:
        self._config, self._data_file, self._root = config, data_file, root
        self._jobs, self._keep_models, self._watcher = jobs, keep_models, watcher
        self._digest = sha256_file(data_file)
        self._scratch = tempfile.TemporaryDirectory()
        self._context = process_context()
        self._context.set_forkserver_preload([__name__])  # torch is imported once, not by every process
        self._waiting: deque[Run] = deque()
        self._working: dict[connection.Connection, tuple[Run, Any]] = {}
        self._results: dict[Run, Result] = {}
        self._known: set[Run] = set()

    def submit(self, runs: Iterable[Run], *, first: bool = False) -> None:
        new = [run for run in runs if run not in self._known]
        self._known.update(new)
        self._watcher.on_planned(len(new))
        ahead = []
        for run in new:
            result = self._read(run)
            if result is None:
                ahead.append(run)
            else:
                self._keep(result)
        if first:
            self._waiting.extendleft(reversed(ahead))
        else:
            self._waiting.extend(ahead)
        self._start()

    def wait_for(self, run: Run) -> Result:
        while run not in self._results:
            for receiver in connection.wait(list(self._working)):
                assert isinstance(receiver, connection.Connection)
                self._hear(receiver)
            self._start()
        return self._results[run]

    def stop(self) -> None:
        for receiver, (_, process) in self._working.items():
            process.terminate()
            process.join()
            receiver.close()
        self._working.clear()
        self._scratch.cleanup()

    @cached_property
    def _cut(self) -> Path:
        """What the runs read, of which each needs the data twice: the file's cut."""
        if is_cut(self._data_file):
            return self._data_file
        path = Path(self._scratch.name) / "data.cut"
        make_cut(self._data_file, self._config.data, path, user_ids=False, progress=self._watcher.on_read)
        return path

    def _settings(self, run: Run) -> RunConfig:
        return with_run(self._config, run)

    def _read(self, run: Run) -> Result | None:
        return read_result(run, self._root / run.name, settings_of(self._settings(run)), self._digest)

    def _keep(self, result: Result) -> None:
        self._results[result.run] = result
        self._watcher.on_result(result)

    def _start(self) -> None:
        while self._waiting and len(self._working) < self._jobs:
            run = self._waiting.popleft()
            receiver, sender = self._context.Pipe(duplex=False)
            arguments = (sender, run, self._root / run.name, self._settings(run), self._cut)
            facts = {"data": self._digest, "keep_model": self._keep_models}
            process = self._context.Process(target=_work, args=arguments, kwargs=facts, daemon=True)
            process.start()
            sender.close()
            self._working[receiver] = (run, process)

    def _hear(self, receiver: connection.Connection) -> None:
        run, process = self._working[receiver]
        try:
            kind, *values = receiver.recv()
        except EOFError:
            kind, values = "died", []
        if kind == "start":
            self._watcher.on_start(run, values[0])
        elif kind == "progress":
            self._watcher.on_progress(run, values[0])
        else:
            process.join()
            receiver.close()
            del self._working[receiver]
            result = self._read(run) if kind == "done" else None
            if result is None:
                reason = values[0] if values else f"the process ended with exit code {process.exitcode}"
                raise CocorrrecError(f"{run.name}: {reason}")
            self._keep(result)


class _Messages(Listener):
    """Tells the parent of each epoch, and of steps a few times a second."""

    def __init__(self, send: Callable[[tuple[Any, ...]], None], epochs: int) -> None:
        self._send, self._epochs = send, epochs
        self._done = 0

    def on_epoch_start(self, epoch: int, steps: int, done: int) -> None:
        """Say how long the run is, and how far it is."""
        self._done = (epoch - 1) * steps + done
        self._send(("start", self._epochs * steps))
        self._send(("progress", self._done))

    def on_step(self, loss: float) -> None:  # noqa: ARG002
        """Say how far the run is."""
        self._done += 1
        if self._done % 20 == 0:
            self._send(("progress", self._done))


def _work(
    sender: connection.Connection,
    run: Run,
    folder: Path,
    config: RunConfig,
    data_file: Path,
    *,
    data: str,
    keep_model: bool,
) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends this process
    torch.set_num_threads(1)
    try:
        listener = _Messages(sender.send, config.training.epochs)
        perform(run, folder, config, data_file, data=data, keep_model=keep_model, listener=listener)
        sender.send(("done",))
    except CocorrrecError as error:
        sender.send(("failed", str(error)))
    except BrokenPipeError:  # the parent is gone; the checkpoint stays
        pass
