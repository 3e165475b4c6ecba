"""A server in a process of its own, as a shell would start it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.runtime.onnx import OnnxRuntime
from cocorrrec_export.serving.app import Served
from cocorrrec_export.serving.model import open_served
from cocorrrec_export.serving.protocol import Array
from tests.conftest import ROOT

START_SECONDS = 60
STOP_SECONDS = 60
FLAGS = ("--port", 0, "--json", "--drain-seconds", 0)


@dataclass
class Running:
    """A server that is ready."""

    process: "subprocess.Popen[str]"
    facts: dict[str, str]

    @property
    def address(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return self.facts["address"]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rsplit(":", 1)[1])

    @property
    def resident_bytes(self) -> int:
        """Memory of the process."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> tuple[int, list[dict[str, object]]]:
        """SIGTERM; the exit code, and the log."""
        self.process.send_signal(signal.SIGTERM)
        _, stderr = self.process.communicate(timeout=STOP_SECONDS)
        return self.process.returncode, [json.loads(line) for line in stderr.splitlines()]


@contextmanager
def running(artifact: Path, *arguments: object) -> Iterator[Running]:
    """``cocorr-serve gcn`` on a free port, with no drain delay unless the arguments say so."""
    program = "from cocorrrec_export.cli.serve.app import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, ("gcn", artifact, *FLAGS, *arguments))],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"the server did not start: {process.communicate(timeout=START_SECONDS)[1]}")
        yield Running(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def server(gcn_fp32: Artifact) -> Iterator[Running]:
    """A server that several tests share; none of them may stop it."""
    with running(gcn_fp32.path) as started:
        yield started
        assert started.process.poll() is None, "a test has stopped the server"


@pytest.fixture(scope="session")
def served(gcn_fp32: Artifact) -> Served:
    """The same model, for an application in this process."""
    return open_served(gcn_fp32.path)[1]


@pytest.fixture(scope="session")
def gcn(gcn_fp32: Artifact) -> OnnxRuntime:
    """The same file, called directly: what every answer is compared with."""
    return OnnxRuntime(gcn_fp32.program, gcn_fp32.entry_points)


def uploads(users: int, *, seed: int = 0) -> Array:
    """``H [users, 10, 64]`` with histories of several lengths."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((users, 10, 64), dtype=np.float32)
    H *= (np.arange(10) < 1 + np.arange(users)[:, None] % 10)[..., None]
    return H
