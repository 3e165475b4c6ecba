"""Optional backends: is one installed, and keep its chatter off stdout."""

import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.targets import TARGETS

EXTRAS: dict[str, tuple[str, ...]] = {row.extra: row.modules for row in TARGETS.values()} | {
    "serve": ("aiohttp", "httptools", "prometheus_client", "uvicorn"),
    "ray": ("ray",),
}
"""Each extra of the package, and the modules that it brings."""


def require(extra: str) -> None:
    """Check that the modules of an extra are installed, without importing them.

    Raises:
        CocorrrecError: one is not; the message has the line that installs it.
    """
    _check(EXTRAS[extra], extra)


def require_runtime(target: str) -> None:
    """Check that what running a target's files needs is installed: less than what exporting them needs.

    Raises:
        CocorrrecError: it is not; the message has the line that installs it.
    """
    row = TARGETS[target]
    _check(row.runs_with, row.extra)


def _check(modules: Sequence[str], extra: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise CocorrrecError(f"{', '.join(missing)} is not installed: pip install 'cocorrrec-export[{extra}]'")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters print, log and warn off stdout and stderr, native code's too."""
    sys.stdout.flush()
    sys.stderr.flush()
    disabled = logging.root.manager.disable
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Path(os.devnull).open("w"))
        for descriptor in (1, 2):
            saved = os.dup(descriptor)
            os.dup2(sink.fileno(), descriptor)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, descriptor)
        stack.enter_context(contextlib.redirect_stdout(sink))
        stack.enter_context(contextlib.redirect_stderr(sink))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        stack.callback(logging.disable, disabled)
        yield
