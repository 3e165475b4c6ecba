"""A folder from a stranger is stood in: nothing in it may run, here or in any process that we start."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.modeling.store import ModelFolder
from cocorrrec_export.serving.client import SyncGcnClient
from tests.reproduction.test_reproduce import small_config
from tests.serving.conftest import uploads
from tests.training.test_training import csv_file

NAMES = sorted(
    {*sys.stdlib_module_names, *packages_distributions(), "sitecustomize", "usercustomize", "ziglang", "evil"}
)
"""All of Python's own modules, and all that are installed."""
SETTINGS = "text.usetex: True\nbackend: module://evil\naxes.facecolor: red\nsavefig.dpi: 7\nlines.linewidth: 30\n"
"""Of matplotlib: TeX would draw the words."""
POISON = "import os\nopen(os.environ['RUN_BY'], 'a').write(__file__ + '\\n')\n"


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """A folder whose every file says so when it is run."""
    folder = tmp_path / "received"
    folder.mkdir()
    for name in NAMES:
        if name.isidentifier():
            (folder / f"{name}.py").write_text(POISON)
    (folder / "matplotlibrc").write_text(SETTINGS)
    return folder


def ran(folder: Path) -> Path:
    """Where the poison of a folder says that it was run."""
    return folder.parent / "ran"


def clean_environment(folder: Path) -> dict[str, str]:
    """Of a user, without what would keep the current folder out by itself."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return clean | {"RUN_BY": str(ran(folder)), "COLUMNS": "200"}


def program(name: str) -> str:
    """A console script of this installation."""
    script = shutil.which(name, path=str(Path(sys.executable).parent))
    assert script, f"{name} is not installed next to {sys.executable}"
    return script


def start(folder: Path, name: str, *arguments: object) -> "subprocess.Popen[str]":
    """A console script as a user starts it, in ``folder``."""
    return subprocess.Popen(
        [program(name), *map(str, arguments)],
        cwd=folder,
        env=clean_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """The same to its end; fails the test if anything in ``folder`` was run."""
    process = start(folder, program, *arguments)
    try:
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert not ran(folder).exists(), f"{program} {arguments[0]} ran {ran(folder).read_text()}"
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


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


def test_the_link_with_its_server_and_proxy(poisoned: Path, scn_int8: Artifact, gcn_fp32: Artifact) -> None:
    grid = ("--bandwidth", 50, "--rtt", 0, "--loss", 0, "--requests", 2, "--shaping", "proxy", "--deadline-ms", 50)
    done = run(
        poisoned, "cocorr-profile", "link", "--scn", scn_int8.path, "--gcn", gcn_fp32.path, *grid, "--out", "link"
    )
    assert done.returncode == 0, done.stderr


def test_pictures_are_drawn_without_settings_of_the_folder(poisoned: Path, tmp_path: Path) -> None:
    csv_file(poisoned / "clicks.csv")
    clean = tmp_path / "clean"
    clean.mkdir()
    csv_file(clean / "clicks.csv")
    for folder in (poisoned, clean):
        done = run(folder, "cocorr-export", "data", "statistics", "clicks.csv", "--plot", "clicks.png")
        assert done.returncode == 0, done.stderr
    assert (poisoned / "clicks.png").read_bytes() == (clean / "clicks.png").read_bytes()
    package = Path(__file__).parents[2] / "cocorrrec_export"
    drawing = [path for path in package.rglob("*.py") if "Figure(figsize" in path.read_text(encoding="utf-8")]
    assert len(drawing) > 3
    for path in drawing:
        assert "@plain_style()" in path.read_text(encoding="utf-8"), path


@pytest.mark.slow
def test_doctor_and_its_tiny_exports(poisoned: Path) -> None:
    run(poisoned, "cocorr-export", "doctor", "--json")


def test_the_server(poisoned: Path, gcn_fp32: Artifact) -> None:
    """It starts processes before it is ready, and imports more with the first request."""
    process = start(poisoned, "cocorr-serve", "gcn", gcn_fp32.path, "--port", 0, "--json", "--drain-seconds", 0)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        with SyncGcnClient(address, deadline_s=30) as client:
            client.correct(uploads(1))
    finally:
        process.terminate()
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 0, said
    assert not ran(poisoned).exists(), ran(poisoned).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["executorch", "tflite"])
def test_building_a_runner(poisoned: Path, target: str) -> None:
    done = run(poisoned, "cocorr-profile", "build-runner", "--target", target, "--abi", "x86_64", "--out", "runners")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_reproduction_with_its_workers(poisoned: Path, tmp_path: Path) -> None:
    """Two runs at once, each in processes of its own."""
    config = small_config(tmp_path, "epochs = 1")
    data = csv_file(tmp_path / "clicks.csv")
    few = ("--models", "GRU4Rec", "--seeds", "1,2", "--learning-rates", "0.002", "--mini-batches", "none")
    options = ("--data", data, "--config", config, *few, "--jobs", 2, "--out", "results")
    done = run(poisoned, "cocorr-export", "reproduce", *options)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_replicas_of_ray(poisoned: Path, gcn_fp32: Artifact) -> None:
    """Ray puts the driver's folder in front of every module of its processes; what a replica of ours imports is not
    from there. What Ray itself imports is, so SECURITY.md says where to start it."""
    for file in poisoned.iterdir():
        if file.stem not in ("onnxruntime", "safetensors"):
            file.unlink()
    program = (
        "import sys, ray; from pathlib import Path; from ray import serve; "
        "from cocorrrec_export.serving.ray import build; "
        "ray.init(address='local', num_cpus=2, include_dashboard=False, log_to_driver=False, "
        "object_store_memory=100 << 20); serve.start(http_options={'host': '127.0.0.1', 'port': 0}); "
        "serve.run(build(Path(sys.argv[1]), min_replicas=1, max_replicas=1, num_cpus=0.5), name='gcn'); "
        "serve.shutdown(); ray.shutdown()"
    )
    command = [sys.executable, "-P", "-c", program, str(gcn_fp32.path)]
    environment = clean_environment(poisoned) | {"PYTHONSAFEPATH": "1", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    done = subprocess.run(
        command, cwd=poisoned, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert not ran(poisoned).exists(), ran(poisoned).read_text()


def test_a_script_is_not_run_again_by_a_process(tmp_path: Path) -> None:
    """A user's few lines without a guard, whose every line would be run by each process that we start."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom cocorrrec_export.isolation import in_child\nprint('here', flush=True)\n"
        "print(in_child('asking', os.path.basename, '/a/b'), in_child('asking', os.path.basename, __file__))\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "here\nb script.py\n"), done.stderr


def test_processes_are_started_in_one_place() -> None:
    """What starts a Python of its own says that it stays out of the current folder."""
    package = Path(__file__).parents[2] / "cocorrrec_export"
    for path in package.rglob("*.py"):
        if path.name != "isolation.py":
            text = path.read_text(encoding="utf-8")
            assert "sys.executable" not in text, path
            assert "process.start()" not in text, path
            assert "multiprocessing.get_context" not in text and "multiprocessing.Process" not in text, path
