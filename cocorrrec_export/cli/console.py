"""What every command shares: where output goes, and how errors end the program."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.extras import extra_of, not_installed
from cocorrrec_export.isolation import keep_current_folder_out
from cocorrrec_export.text import printable, shortened

if TYPE_CHECKING:
    from rich.text import Text

    from cocorrrec_export.artifact.manifest import Artifact
    from cocorrrec_export.doctor.check import Check
    from cocorrrec_export.modeling.store import ModelFolder

INTERRUPTED = 130  # what typer exits with on Ctrl-C
_MAX_TABLE = 10_000
_MAX_MESSAGE = 10_000


def log(message: str) -> None:
    """A line for people, on stderr: stdout belongs to results; a stranger's file cannot make it endless."""
    print(printable(shortened(message, _MAX_MESSAGE)), file=sys.stderr, flush=True)


def literal(text: str) -> "Text":
    """Text for rich as it is: no markup, no control characters."""
    from rich.text import Text

    return Text(printable(text))


def warn_unverified(folder: "ModelFolder") -> None:
    """Say that a model's folder has no digest of what it says: anything but the weights may have been changed."""
    if not folder.verified:
        log(f"warning: {folder.path / 'model.toml'} has no digest of itself, so only the weights could be checked")


def print_json(value: Any) -> None:
    """The one object that ``--json`` puts on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False), flush=True)


def print_json_line(value: Any) -> None:
    """One object on one line of stdout, for a command that continues: its reader need not guess where it ends."""
    print(json.dumps(value, allow_nan=False), flush=True)


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """A table for people, on stdout; it is wider than the terminal rather than that a number or a path is cut."""
    from rich.console import Console
    from rich.table import Table

    table, cells = Table(title=literal(title) if title else None), [[literal(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        names = max((len(row[0]) for row in cells), default=0) if index == 0 else None
        table.add_column(literal(column), no_wrap=index == 0, min_width=names)
    for row in cells:
        table.add_row(*row)
    console = Console()
    least = console.measure(table, options=console.options.update(max_width=_MAX_TABLE)).minimum
    console.width = max(console.width, least)
    console.print(table)


def print_metrics(title: str, ways: dict[str, dict[str, float]], *, full: bool = False) -> None:
    """A table of ranking metrics, one row a way of ranking; ``full`` where the whole catalog was ranked."""
    from cocorrrec_export.metrics import FULL_METRICS, METRICS

    names = FULL_METRICS if full else METRICS
    known = [name for name in names if all(name in metrics for metrics in ways.values())]
    rows = ([way, *(f"{metrics[name]:.4f}" for name in known)] for way, metrics in ways.items())
    print_table(title, ("", *known), rows)
    say_left_out(known, names)


def say_left_out(known: Sequence[str], names: Sequence[str]) -> None:
    """Which metrics are not in a table, and why."""
    if left := [name for name in names if name not in known]:
        log(f"left out: {', '.join(left)}: there are no more candidates than that, so every order would earn it")


def print_controls(paired: dict[str, dict[str, Any]]) -> None:
    """What the cloud's answer changes, and what another one in its place does: differences and standard errors."""
    names = ("sampled:ndcg@10", "sampled:hr@10", "sampled:uauc", "full:ndcg@10", "full:hr@10")
    labels = {
        "own": "the user's own",
        "other": "another user's",
        "mean": "the mean of all",
        "short": "its own, of the phone's clicks alone",
    }
    known = [name for name in names if name in paired["own"]]
    rows = (
        [labels[way], *(f"{found[name][0]:+.4f} ± {found[name][1]:.4f}" for name in known)]
        for way, found in paired.items()
    )
    print_table("the cloud's answer, compared with none", ("answer", *known), rows)


def print_artifact(artifact: "Artifact", *, as_json: bool) -> None:
    """What an export made: how large, and how well it matches."""
    from cocorrrec_export.artifact.manifest import FLOP_COLUMNS, flop_rows

    manifest = artifact.manifest
    if as_json:
        print_json({"path": str(artifact.path), "manifest": manifest})
        return
    rows = [
        ["file", str(artifact.program)],
        ["size", f"{artifact.bytes:,} bytes"],
        ["model", f"{manifest['model']['name']} ({manifest['model']['sha256'][:16]})"],
        ["entry points", ", ".join(entry.name for entry in artifact.entry_points)],
        ["FLOPs per token, as the paper counts", f"{manifest['flops_per_token']['paper'] / 1e6:.2f} M"],
    ]
    planned = manifest["memory"]["planned_bytes"]
    if planned:
        rows.append(["planned memory", ", ".join(f"{name} {size:,}" for name, size in planned.items())])
    print_table(f"{manifest['kind']} for {manifest['target']}, {manifest['precision']}", ("", ""), rows)
    print_table("FLOPs for one user, of the file's graph", FLOP_COLUMNS, flop_rows(manifest["flops"]))
    print_parity(str(artifact.path), manifest["parity"])


def print_artifacts(made: "list[Artifact]", failed: dict[str, str], *, as_json: bool) -> None:
    """What a command with several exports made, and what failed."""
    if as_json:
        done = [{"path": str(artifact.path), "manifest": artifact.manifest} for artifact in made]
        errors = [{"target": target, "error": error} for target, error in failed.items()]
        print_json({"artifacts": done, "failed": errors})
        return
    rows = []
    for artifact in made:
        tensors, ranking = artifact.manifest["parity"]["tensors"], artifact.manifest["parity"]["ranking"]
        ndcg = (ranking["metrics"] or {}).get("ndcg@10")
        ranks = f"{ndcg['eager']:.4f} / {ndcg['artifact']:.4f}" if ndcg else ranking["reason"]
        size, difference, overlap = (
            f"{artifact.bytes:,}",
            f"{tensors['max_abs']:.3g}",
            f"{tensors['top10_overlap']:.4f}",
        )
        rows.append([str(artifact.path), size, difference, overlap, ranks, artifact.manifest["parity"]["executed_by"]])
    if rows:
        columns = ("export", "bytes", "largest difference", "top-10", "NDCG@10 model / file", "executed by")
        print_table("all of them match the float32 model", columns, rows)
    for target, error in failed.items():
        log(f"error: {target}: {error}")


def print_parity(title: str, parity: dict[str, Any]) -> None:
    """Both levels of a verdict."""
    tensors, ranking = parity["tensors"], parity["ranking"]
    rows = [
        ["largest difference", "", f"{tensors['max_abs']:.3g} ({tensors['max_rel']:.3g} relative)"],
        ["top-10 overlap", "1.0000", f"{tensors['top10_overlap']:.4f}"],
    ]
    rows += _metric_rows(ranking, "")
    users = f"{ranking['users']} users" if ranking["users"] else f"ranking not checked: {ranking['reason']}"
    if full := ranking.get("full"):
        rows += _metric_rows(full, "full:")
        users += f", {full['users']} of them in the whole catalog (full)"
    title = f"parity: {parity['verdict']} ({parity['executed_by']}; {users})"
    print_table(title, ("", "float32 model", "file"), rows)


def _metric_rows(metrics: dict[str, Any], prefix: str) -> list[list[str]]:
    return [
        [f"{prefix}{name} {label}", f"{pair['eager']:.4f}", f"{pair['artifact']:.4f}"]
        for way, label in (("metrics", "alone"), ("metrics_corrected", "corrected"))
        for name, pair in (metrics[way] or {}).items()
    ]


def _mark(check: "Check") -> str:
    """A check that found something missing, but nothing that is wrong without it, has a hint."""
    if not check.ok:
        return "FAILED"
    return "absent" if check.hint else "ok"


def print_checks(platform: str, checks: "list[Check]", *, as_json: bool) -> None:
    """What a doctor found.

    Raises:
        CocorrrecError: a check failed.
    """
    from cocorrrec_export.doctor.check import document

    if as_json:
        print_json(document(platform, checks))
    else:
        rows = ([check.name, _mark(check), check.detail, check.hint] for check in checks)
        print_table(platform, ("check", "", "what was found", "what to do"), rows)
    failed = [check.name for check in checks if not check.ok]
    if failed:
        raise CocorrrecError(f"not ready: {', '.join(failed)}")


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """A spinner on stderr with what is being done, and a line with its seconds for each step done.

    An interruption that a library swallowed takes effect at the next step.
    """
    from rich.console import Console

    stderr = Console(stderr=True)
    start, current, interrupted = time.monotonic(), "", False

    def finish() -> None:
        if current:
            stderr.print(literal(f"{time.monotonic() - start:6.1f} s  {current}"))

    def interrupt(_signum: int, _frame: object) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with stderr.status("") as status:

            def step(name: str) -> None:
                nonlocal start, current
                if interrupted:
                    raise KeyboardInterrupt
                finish()
                start, current = time.monotonic(), name
                status.update(literal(name))

            try:
                yield step
            except Exception:
                if interrupted:  # a library made an error of its own of Ctrl-C
                    raise KeyboardInterrupt from None
                raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    finish()


@contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr of the bytes read of a file; what it yields is called with those, and with all of them."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    stderr = Console(stderr=True)
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda done, size: progress.update(task, completed=done, total=size)


def _on_sigterm(_signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _open_closed_streams() -> None:
    """Put nothing in the place of standard streams that whoever started this closed.

    A file that we open would get their number otherwise, and what native code prints would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number, this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _require_current_folder() -> None:
    """Relative names, and processes that are started, need one; it may have been removed meanwhile."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        raise UsageError("the current folder does not exist any more: change to another one") from None


def run(app: Callable[[], Any]) -> NoReturn:
    """Run a typer app: one clear message for every error that a user can act on, and the exit codes 0, 1 and 2."""
    _open_closed_streams()
    keep_current_folder_out()
    signal.signal(signal.SIGTERM, _on_sigterm)
    if getattr(signal, "SIGHUP", None) and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, _on_sigterm)
    try:
        _require_current_folder()
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            log("interrupted: nothing half-written was left behind")
            sys.exit(1)
        raise
    except KeyboardInterrupt:
        log("interrupted: nothing half-written was left behind")
        sys.exit(1)
    except CocorrrecError as error:
        log(f"error: {error}")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        extra = extra_of(error.name.split(".")[0]) if error.name else None
        if extra is None:
            raise
        missing = not_installed([str(error.name)], extra)
        log(f"error: {missing}")
        sys.exit(missing.exit_code)
    except OSError as error:
        # A full or read-only disk, a missing permission: the operating system's words and the path say it all.
        # Of two paths, as where a file is copied, the second is the one that is written.
        log(f"error: {error.filename2 or error.filename or 'input or output'}: {error.strerror or error}")
        sys.exit(1)
    sys.exit(0)
