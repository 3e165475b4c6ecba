"""Progress on stderr."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from cocorrrec_export.cli.console import literal
from cocorrrec_export.data.statistics import Statistics
from cocorrrec_export.metrics import EXPECTED, EXPECTED_METRICS
from cocorrrec_export.reproduction.plan import Run
from cocorrrec_export.reproduction.run import Result
from cocorrrec_export.reproduction.schedule import Watcher
from cocorrrec_export.text import printable
from cocorrrec_export.training.loop import Listener

_SHOWN = ("loss", "uauc", "ndcg@10", "hr@10", *(EXPECTED + x for x in EXPECTED_METRICS), "full:ndcg@10", "weight")
"""Values of an epoch that its line has, where there are such."""


class _Bars:
    """Bars on stderr while the block runs."""

    def __init__(self, *columns: ProgressColumn) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


class TrainingProgress(_Bars, Listener):
    """One bar an epoch with the loss, and one line with the validation metrics when it is done."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        super().__init__(TextColumn("loss {task.fields[loss]:.4f}"))
        self._task = self._progress.add_task("preparing", total=None, loss=float("nan"))

    def on_read(self, done: int, size: int) -> None:
        """Move the bar over the megabytes of the data."""
        self._progress.update(self._task, total=max(1, size >> 20), completed=done >> 20)

    def on_work(self, text: str) -> None:
        """Say what is being done."""
        self._progress.reset(self._task, total=None, completed=0, description=printable(text))

    def on_data(self, statistics: Statistics, examples: int) -> None:
        """Print the data set's figures."""
        table = Table("users", "items", "interactions", "per user", "training examples")
        counts = (statistics.users, statistics.items, statistics.interactions)
        table.add_row(*map("{:,}".format, counts), f"{statistics.interactions_per_user:.1f}", f"{examples:,}")
        self._progress.console.print(table)

    def on_note(self, text: str) -> None:
        """Print the sentence."""
        self._progress.console.print(literal(text))

    def on_stage(self, name: str, epochs: int) -> None:
        """Print what is trained now."""
        self._epochs = epochs
        self._progress.console.print(literal(name))

    def on_epoch_start(self, epoch: int, steps: int, done: int) -> None:
        """Start the epoch's bar."""
        self._progress.reset(self._task, total=steps, completed=done, description=f"epoch {epoch}/{self._epochs}")

    def on_step(self, loss: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, advance=1, loss=loss)

    def on_epoch_end(self, record: dict[str, float], *, best: bool) -> None:
        """Print the epoch's line."""
        shown = "  ".join(f"{name} {record[name]:.4f}" for name in _SHOWN if name in record)
        self._progress.console.print(f"epoch {record['epoch']:.0f}  {shown}{'  best' if best else ''}")


class RunBars(_Bars, Watcher):
    """A bar over all runs, one for each that is going on, and a line for each that is done."""

    def __init__(self) -> None:
        super().__init__()
        self._all = self._progress.add_task("runs", total=0)
        self._reading = self._progress.add_task("reading, MB", visible=False)
        self._tasks: dict[Run, TaskID] = {}

    def say(self, message: str) -> None:
        """Print what is being done when all runs are done."""
        self._progress.console.print(literal(message))

    def on_read(self, done: int, size: int) -> None:
        """Move the bar over the megabytes of the data; it goes when all are read."""
        self._progress.update(self._reading, total=size >> 20, completed=done >> 20, visible=done < size)

    def on_planned(self, runs: int) -> None:
        """Lengthen the bar over all runs."""
        self._progress.update(self._all, total=(self._progress.tasks[0].total or 0) + runs)

    def on_start(self, run: Run, steps: int) -> None:
        """Start the run's bar."""
        if run not in self._tasks:
            self._tasks[run] = self._progress.add_task(printable(run.name), total=steps)

    def on_progress(self, run: Run, done: int) -> None:
        """Move the run's bar."""
        self._progress.update(self._tasks[run], completed=done)

    def on_result(self, result: Result) -> None:
        """Print the run's line."""
        if result.run in self._tasks:
            self._progress.remove_task(self._tasks.pop(result.run))
        self._progress.advance(self._all)
        facts = result.facts
        self._progress.console.print(
            literal(
                f"{result.run.name}  validation {result.validation:.4f} at epoch {facts['best_epoch']}  "
                f"{facts['seconds']:.0f} s"
            )
        )
