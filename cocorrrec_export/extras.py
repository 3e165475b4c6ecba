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

DISTRIBUTION = "cocorrrec-export"

EXTRAS: dict[str, tuple[str, ...]] = (
    {
        "data": ("polars", "msgspec", "zstandard"),
        "profile": ("matplotlib",),
        "train": ("torch", "polars", "msgspec", "matplotlib"),
        "serve": ("onnxruntime", "aiohttp", "httptools", "msgspec", "prometheus_client", "uvicorn"),
    }
    | {row.extra: row.modules for row in TARGETS.values()}
    | {row.runtime_extra: row.runs_with for row in TARGETS.values()}
    | {"ray": ("ray",), "pq": ("faiss",)}
)
"""Each extra of the package, and the modules that it brings; of two that bring a module, the smaller one is first."""


def installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def require(extra: str, remark: str = "") -> None:
    """Check that the modules of an extra are installed, without importing them.

    Raises:
        CocorrrecError: one is not; the message has the line that installs it, then the remark.
    """
    require_modules(EXTRAS[extra], extra, remark)


def require_runtime(target: str) -> None:
    """Check that what running a target's files needs is installed: less than what exporting them needs.

    Raises:
        CocorrrecError: it is not; the message has the line that installs it.
    """
    row = TARGETS[target]
    require_modules(row.runs_with, row.runtime_extra)


def require_modules(modules: Sequence[str], extra: str, remark: str = "") -> None:
    """Check that some modules of an extra are installed, without importing them.

    Raises:
        CocorrrecError: one is not; the message has the line that installs it, then the remark.
    """
    missing = [name for name in modules if not installed(name)]
    if missing:
        raise not_installed(missing, extra, remark)


def not_installed(modules: Sequence[str], extra: str, remark: str = "") -> CocorrrecError:
    """The error for modules that are missing."""
    are = "are" if len(modules) > 1 else "is"
    remark = f" ({remark})" if remark else ""
    return CocorrrecError(f"{', '.join(modules)} {are} not installed: pip install '{DISTRIBUTION}[{extra}]'{remark}")


def extra_of(module: str) -> str | None:
    """The smallest extra that brings a module; None: none does."""
    return next((extra for extra, modules in EXTRAS.items() if module in modules), None)


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
