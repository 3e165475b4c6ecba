"""What every command shares: where output goes, and how errors end the program."""

import json
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from cocorrrec_export.errors import CocorrrecError

INTERRUPTED = 130  # what typer exits with on Ctrl-C


def log(message: str) -> None:
    """A line for people, on stderr: stdout belongs to results."""
    print(message, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """The one object that ``--json`` puts on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False), flush=True)


def print_metrics(title: str, ways: dict[str, dict[str, float]]) -> None:
    """A table of ranking metrics, one row a way of ranking."""
    from rich.console import Console
    from rich.table import Table

    from cocorrrec_export.metrics import METRICS

    table = Table("", *METRICS, title=title)
    for way, metrics in ways.items():
        table.add_row(way, *(f"{metrics[name]:.4f}" for name in METRICS))
    Console().print(table)


def _on_sigterm(_signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def run(app: Callable[[], Any]) -> NoReturn:
    """Run a typer app: one clear message for every error that a user can act on, and the exit codes 0, 1 and 2."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
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
    except OSError as error:
        # A full or read-only disk, a missing permission: the operating system's words and the path say it all.
        log(f"error: {error.filename or 'input or output'}: {error.strerror or error}")
        sys.exit(1)
    sys.exit(0)
