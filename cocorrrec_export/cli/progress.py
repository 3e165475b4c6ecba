"""Progress on stderr."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from cocorrrec_export.data.statistics import Statistics
from cocorrrec_export.training.loop import Listener


class TrainingProgress(Listener):
    """One bar an epoch with the loss, and one line with the validation metrics when it is done."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("preparing", total=None, loss=float("nan"))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_data(self, statistics: Statistics, examples: int) -> None:
        """Print the data set's figures."""
        table = Table("users", "items", "interactions", "per user", "training examples")
        counts = (statistics.users, statistics.items, statistics.interactions)
        table.add_row(*map("{:,}".format, counts), f"{statistics.interactions_per_user:.1f}", f"{examples:,}")
        self._progress.console.print(table)

    def on_epoch_start(self, epoch: int, steps: int, done: int) -> None:
        """Start the epoch's bar."""
        self._progress.reset(self._task, total=steps, completed=done, description=f"epoch {epoch}/{self._epochs}")

    def on_step(self, loss: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, advance=1, loss=loss)

    def on_epoch_end(self, record: dict[str, float], *, best: bool) -> None:
        """Print the epoch's line."""
        shown = "  ".join(f"{name} {record[name]:.4f}" for name in ("loss", "uauc", "ndcg@10", "hr@10"))
        self._progress.console.print(f"epoch {record['epoch']:.0f}  {shown}{'  best' if best else ''}")
