"""Ctrl-C, kill and full disks, in real processes: exit code 1, one message, and nothing left behind."""

import signal
import subprocess
from pathlib import Path

import pytest

from cocorrrec_export.modeling.store import ModelFolder
from tests.commands import start

GCN = ("gcn", "--target", "onnx")
SCN = ("scn", "--target", "executorch")
SECONDS = 300
"""After which a command hangs; an export on a busy machine takes minutes."""


def wait_for(process: "subprocess.Popen[str]", step: str) -> list[str]:
    """Lines of stderr until the line of a step that is done."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if step in line:
            return lines
    raise AssertionError(f"ended before '{step}':\n{''.join(lines)}")


def left_behind(out: Path) -> list[str]:
    return [str(path) for path in out.rglob("*")] if out.exists() else []


def assert_interrupted(process: "subprocess.Popen[str]", out: Path) -> None:
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, stderr
    assert "interrupted: nothing half-written was left behind" in stderr
    assert "Traceback" not in stderr and not stdout
    assert left_behind(out) == []


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGINT, "loading the model"),
        (signal.SIGTERM, "importing ONNX"),
        (signal.SIGINT, "tracing correct"),
    ],
)
@pytest.mark.slow
def test_interrupted_gcn(tiny: ModelFolder, tmp_path: Path, number: signal.Signals, step: str) -> None:
    process = start(*GCN, "--model", tiny.path, "--out", tmp_path / "dist", "--json", cwd=tmp_path)
    wait_for(process, step)
    process.send_signal(number)
    assert_interrupted(process, tmp_path / "dist")


@pytest.mark.parametrize("step", ["importing ExecuTorch", "tracing score"])
@pytest.mark.slow
def test_interrupted_scn(tiny: ModelFolder, tmp_path: Path, step: str) -> None:
    process = start(*SCN, "--model", tiny.path, "--out", tmp_path / "dist", cwd=tmp_path)
    wait_for(process, step)
    process.send_signal(signal.SIGINT)
    assert_interrupted(process, tmp_path / "dist")


@pytest.mark.parametrize("allowed", [20_000, 400_000])
@pytest.mark.slow
def test_a_file_that_cannot_grow(tiny: ModelFolder, tmp_path: Path, allowed: int) -> None:
    """What a full disk looks like to a program: a write that fails half-way, here after ``allowed`` bytes."""
    prelude = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({allowed}, {allowed})); "
    process = start(*GCN, "--model", tiny.path, "--out", tmp_path / "dist", cwd=tmp_path, prelude=prelude)
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, stderr
    assert "File too large" in stderr
    assert "Traceback" not in stderr and not stdout
    assert left_behind(tmp_path / "dist") == []
