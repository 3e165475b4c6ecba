"""Which runtime runs which target, and what it can be asked of a program."""

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from cocorrrec_export.contract import CANDIDATES, CLICK, EntryPoint
from cocorrrec_export.extras import quiet
from cocorrrec_export.files import total_bytes
from cocorrrec_export.isolation import program_memory
from cocorrrec_export.runtime.base import ProgramFacts, Runtime
from cocorrrec_export.runtime.seal import check_seal
from cocorrrec_export.targets import find_target


class RuntimeModule(Protocol):
    """What every ``runtime/<target>.py`` has."""

    LIBRARIES: tuple[str, ...]
    """Modules that loading and describing import, where they are installed."""

    def load(self, program: Path, entry_points: Sequence[EntryPoint]) -> Runtime:
        """Load an exported file, whose digest must have been checked.

        Raises:
            CocorrrecError: the runtime is not installed, or cannot load the file.
        """
        ...

    def describe(self, program: Path) -> ProgramFacts:
        """What a program reports about itself.

        Raises:
            CocorrrecError: the runtime is not installed, or the program is damaged.
        """
        ...


def _module(target: str) -> RuntimeModule:
    module: RuntimeModule = find_target(target).module("runtime")
    return module


@contextmanager
def _bounded(target: str, program: Path) -> Iterator[None]:
    """Memory by the size of the program, to which what the libraries take is added."""
    with quiet():
        for name in _module(target).LIBRARIES:
            with contextlib.suppress(ImportError):  # who needs it says so
                importlib.import_module(name)
    with program_memory(total_bytes(program)):
        yield


def open_runtime(target: str, program: Path, entry_points: Sequence[EntryPoint]) -> Runtime:
    """Load an exported file in its own runtime.

    Args:
        target: as in the manifest.
        program: the exported file; its digest must have been checked.
        entry_points: its contract.

    Raises:
        UsageError: no such target.
        CocorrrecError: the runtime is not installed, or cannot load the file.
    """
    return _module(target).load(program, entry_points)


def describe(target: str, program: Path) -> ProgramFacts:
    """What a program reports about itself. Native readers may crash on what a stranger sent: see :mod:`isolation`.

    Raises:
        CocorrrecError: the runtime is not installed, or the program is damaged, or takes far more memory than a program
            of its size needs.
    """
    with _bounded(target, program):
        facts = _module(target).describe(program)
    check_seal(program, facts.metadata)
    return facts


def rehearse(target: str, program: Path, entry_points: Sequence[EntryPoint]) -> None:
    """Load a program and run each entry point once, on zeros: for a process that may crash, before ours does.

    Raises:
        CocorrrecError: it cannot be loaded or run, or takes far more memory than a program of its size needs.
    """
    with _bounded(target, program):
        _run_each_once(open_runtime(target, program, entry_points), entry_points)


def _run_each_once(runtime: Runtime, entry_points: Sequence[EntryPoint]) -> None:
    for entry in entry_points:
        shapes = {spec: [size if isinstance(size, int) else 1 for size in spec.shape] for spec in entry.inputs}
        # 0 is not an item, where one is asked for.
        values = {spec.name: int(spec.name in (CANDIDATES, CLICK)) for spec in entry.inputs}
        runtime.run(entry.name, {x.name: np.full(shape, values[x.name], x.dtype) for x, shape in shapes.items()})
