"""Run commands as a shell would: in this process where that is the same, in one of their own where it is not."""

import functools
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cocorrrec_export.cli import console


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


Cli = Callable[..., Ended]


@pytest.fixture
def any_cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """A program of ours with arguments, in this process; everything on both file descriptors is kept."""

    def run(program: str, *arguments: object) -> Ended:
        app = importlib.import_module(f"cocorrrec_export.cli.{program.removeprefix('cocorr-')}.app").app
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as end:
                console.run(app)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        code = end.value.code
        assert isinstance(code, int)
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def cli(any_cli: Cli) -> Cli:
    """``cocorr-export`` with these arguments; see :func:`any_cli`."""
    return functools.partial(any_cli, "cocorr-export")


def start(*arguments: object, cwd: Path, prelude: str = "") -> "subprocess.Popen[str]":
    """``cocorr-export`` in a process of its own, after the Python statements ``prelude``."""
    program = f"{prelude}from cocorrrec_export.cli.export.app import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
