"""A folder from a stranger is stood in: nothing in it may run, here or in any process that we start."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.modeling.store import ModelFolder

NAMES = (
    "socket", "json", "struct", "random", "selectors", "signal", "tempfile", "threading", "pickle", "logging", "ast",
    "inspect", "pathlib", "shutil", "ctypes", "queue", "asyncio", "resource", "numpy", "torch", "onnxruntime",
    "uvicorn", "polars", "safetensors", "rich", "typer", "executorch", "sitecustomize", "usercustomize",
    "cocorrrec_export", "multiprocessing", "ziglang", "pip",
)  # fmt: skip
POISON = "import os\nopen(os.environ['RUN_BY'], 'a').write(__file__ + '\\n')\n"


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """A folder whose every file says so when it is run."""
    folder = tmp_path / "received"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(POISON)
    return folder


def run(folder: Path, program: str, *arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A console script as a user starts it, in ``folder``; fails the test if anything there was run."""
    script = shutil.which(program, path=str(Path(sys.executable).parent))
    assert script, f"{program} is not installed next to {sys.executable}"
    ran = folder.parent / "ran"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [script, *map(str, arguments)],
        cwd=folder,
        env=clean | {"RUN_BY": str(ran), "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert not ran.exists(), f"{program} {arguments[0]} ran {ran.read_text()}"
    return done


def test_the_poison_works(poisoned: Path) -> None:
    """Where Python is started carelessly, it runs: the tests below can fail."""
    ran = poisoned.parent / "careless"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-c", "import selectors"]
    subprocess.run(command, cwd=poisoned, env=environment | {"RUN_BY": str(ran)}, check=False, timeout=60)
    assert ran.read_text().count("selectors.py") == 1


def test_inspect(poisoned: Path, scn_int8: Artifact) -> None:
    shutil.copytree(scn_int8.path, poisoned / "export")
    done = run(poisoned, "cocorr-export", "inspect", "export/scn.pte")
    assert done.returncode == 0, done.stderr


def test_parity(poisoned: Path, scn_int8: Artifact, tiny: ModelFolder) -> None:
    done = run(poisoned, "cocorr-export", "parity", scn_int8.path, "--model", tiny.path)
    assert done.returncode == 0, done.stderr


def test_a_profile_by_a_worker_in_python(poisoned: Path, gcn_fp32: Artifact) -> None:
    done = run(poisoned, "cocorr-profile", gcn_fp32.path, "--host", "--iterations", 2, "--output", "report")
    assert done.returncode == 0, done.stderr
    assert (poisoned / "report" / "profile.json").is_file()


def test_the_link_with_its_server_and_proxy(poisoned: Path, scn_fp32: Artifact, gcn_fp32: Artifact) -> None:
    grid = ("--bandwidth", 50, "--rtt", 0, "--loss", 0, "--requests", 2, "--shaping", "proxy", "--deadline-ms", 50)
    done = run(
        poisoned, "cocorr-profile", "link", "--scn", scn_fp32.path, "--gcn", gcn_fp32.path, *grid, "--out", "link"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_doctor_and_its_tiny_exports(poisoned: Path) -> None:
    run(poisoned, "cocorr-export", "doctor", "--json")


def test_processes_are_started_in_one_place() -> None:
    """What starts a Python of its own says that it stays out of the current folder."""
    package = Path(__file__).parents[2] / "cocorrrec_export"
    for path in package.rglob("*.py"):
        if path.name != "isolation.py":
            text = path.read_text(encoding="utf-8")
            assert "sys.executable" not in text, path
            assert "multiprocessing.get_context" not in text and "multiprocessing.Process" not in text, path
