"""Runs in processes of their own, several at a time, each going on where it was stopped."""

import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

from cocorrrec_export.data.prepared import is_cut
from cocorrrec_export.data.sources import make_cut
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import sha256_file
from cocorrrec_export.isolation import process_context, start_process
from cocorrrec_export.reproduction.plan import MINI_BATCH_ROW, Plan, Run
from cocorrrec_export.reproduction.run import Result, perform, read_result, settings_of
from cocorrrec_export.training.loop import Listener
from cocorrrec_export.training.run import RunConfig

RUNS = "runs"
"""The folder of the runs, each in one of its own, in that of the results."""


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


class Ended(NamedTuple):
    """A run that is no longer going on."""

    run: Run
    failure: str | None
    """Why there is no result."""


class Workers:
    """Where runs are done."""

    def __len__(self) -> int:
        """Runs that were started and have not ended."""
        raise NotImplementedError

    def start(self, run: Run, folder: Path, config: RunConfig, cut: Path, *, data: str, keep_model: bool) -> None:
        """Start a run that is to leave its files in ``folder``; the rest is as in :func:`perform`."""
        raise NotImplementedError

    def wait(self) -> list[Ended]:
        """Wait until there is something to say, and what has ended by then."""
        raise NotImplementedError

    def stop(self) -> None:
        """End what is going on."""
        raise NotImplementedError


def train_all(
    plan: Plan,
    data_file: Path,
    out: Path,
    *,
    jobs: int,
    keep_models: bool = False,
    watcher: Watcher | None = None,
    workers: Workers | None = None,
) -> Results:
    """Train everything that ``plan`` asks for, or read what is done already.

    Args:
        plan: what.
        data_file: interactions.
        out: folder; each run has one below ``out / RUNS``.
        jobs: runs at a time, each on one thread.
        keep_models: leave the weights of each run next to its result.
        watcher: receives progress.
        workers: where the runs are done; by default in processes of this machine.

    Raises:
        UsageError: ``out`` holds runs of other settings or data.
        CocorrrecError: the data cannot be used, or a run failed, with its name; the others' results are kept.
    """
    watcher = watcher or Watcher()
    workers = _Processes(watcher) if workers is None else workers  # a cluster without runs yet is as false as none
    pool = _Pool(plan, data_file, out / RUNS, jobs, keep_models, watcher, workers)
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
        self,
        plan: Plan,
        data_file: Path,
        root: Path,
        jobs: int,
        keep_models: bool,
        watcher: Watcher,
        workers: Workers,
    ) -> None:
        self._plan, self._data_file, self._root = plan, data_file, root
        self._jobs, self._keep_models, self._watcher, self._workers = jobs, keep_models, watcher, workers
        self._digest = sha256_file(data_file)
        self._scratch = tempfile.TemporaryDirectory()
        self._waiting: deque[Run] = deque()
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
            for ended in self._workers.wait():
                result = self._read(ended.run) if ended.failure is None else None
                if result is None:
                    raise CocorrrecError(f"{ended.run.name}: {ended.failure or 'it left no result'}")
                self._keep(result)
            self._start()
        return self._results[run]

    def stop(self) -> None:
        self._workers.stop()
        self._scratch.cleanup()

    @cached_property
    def _cut(self) -> Path:
        """What the runs read, of which each needs the data twice: the file's cut."""
        if is_cut(self._data_file):
            return self._data_file
        path = Path(self._scratch.name) / "data.cut"
        make_cut(self._data_file, self._plan.config.data, path, user_ids=False, progress=self._watcher.on_read)
        return path

    def _read(self, run: Run) -> Result | None:
        return read_result(run, self._root / run.name, settings_of(self._plan.settings(run)), self._digest)

    def _keep(self, result: Result) -> None:
        self._results[result.run] = result
        self._watcher.on_result(result)

    def _start(self) -> None:
        while self._waiting and len(self._workers) < self._jobs:
            run = self._waiting.popleft()
            folder, config = self._root / run.name, self._plan.settings(run)
            self._workers.start(run, folder, config, self._cut, data=self._digest, keep_model=self._keep_models)


class _Processes(Workers):
    """Each run in a process of its own on this machine, going on where an earlier one was stopped."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._context = process_context()
        self._context.set_forkserver_preload([__name__])  # torch is imported once, not by every process
        self._working: dict[connection.Connection, tuple[Run, Any]] = {}

    def __len__(self) -> int:
        return len(self._working)

    def start(self, run: Run, folder: Path, config: RunConfig, cut: Path, *, data: str, keep_model: bool) -> None:
        receiver, sender = self._context.Pipe(duplex=False)
        facts = {"data": data, "keep_model": keep_model}
        process = self._context.Process(
            target=_work, args=(sender, run, folder, config, cut), kwargs=facts, daemon=True
        )
        start_process(process)
        sender.close()
        self._working[receiver] = (run, process)

    def wait(self) -> list[Ended]:
        ended = []
        for receiver in connection.wait(list(self._working)):
            assert isinstance(receiver, connection.Connection)
            ended += self._hear(receiver)
        return ended

    def stop(self) -> None:
        for receiver, (_, process) in self._working.items():
            process.terminate()
            process.join()
            receiver.close()
        self._working.clear()

    def _hear(self, receiver: connection.Connection) -> list[Ended]:
        run, process = self._working[receiver]
        try:
            kind, *values = receiver.recv()
        except EOFError:
            kind, values = "died", []
        if kind == "start":
            self._watcher.on_start(run, values[0])
            return []
        if kind == "progress":
            self._watcher.on_progress(run, values[0])
            return []
        process.join()
        receiver.close()
        del self._working[receiver]
        died = f"the process ended with exit code {process.exitcode}"
        return [Ended(run, None if kind == "done" else (values or [died])[0])]


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
