"""The wheels: what is in them and under which terms, what an install weighs, and that its commands run in it."""

import email
import json
import os
import site
import subprocess
import sys
import urllib.request
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from cocorrrec_export.artifact.manifest import Artifact
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

EMPTY_MB = 30
"""What pip itself takes in an empty environment, with room to spare."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The code's wheel and the models' wheel, by distribution."""
    out = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, ROOT / "models"):
        subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", out, source], check=True, timeout=300)
    return {path.name.split("-")[0].replace("_", "-"): path for path in out.glob("*.whl")}


def environment(folder: Path, *requirements: str) -> Path:
    """An environment with nothing but these; returns its ``bin``."""
    venv.create(folder, with_pip=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *requirements], check=True, timeout=600)
    return folder / "bin"


def megabytes(folder: Path) -> int:
    return int(subprocess.check_output(["du", "-sm", folder], text=True).split()[0])


def run(*command: str | Path, cwd: Path) -> str:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def contents(wheel: Path) -> tuple[list[str], Message]:
    """Names of the files, and the metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        return names, email.message_from_bytes(archive.read(metadata))


def test_each_wheel_has_what_its_license_covers(wheels: dict[str, Path]) -> None:
    names, metadata = contents(wheels["cocorrrec-export"])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("License-File", [])) == {"LICENSE", "NOTICE"}
    assert not [name for name in names if name.endswith((".safetensors", ".csv.gz"))]
    assert any(name.endswith("shipped/export_recipes/executorch-xnnpack-int8.toml") for name in names)

    names, metadata = contents(wheels["cocorrrec-models"])
    texts = {
        name.rsplit("/", 1)[-1].removeprefix("LICENSE-").removesuffix(".txt") for name in names if "LICENSE" in name
    }
    claimed = {part.removeprefix("LicenseRef-") for part in metadata["License-Expression"].split(" AND ")}
    assert texts == claimed
    shipped = {path.parent.name for path in (ROOT / "models").glob("*/model.toml")}
    packed = {name.split("/")[1] for name in names if name.endswith("/model.toml")}
    assert packed == shipped
    assert not [name for name in names if name.endswith(".py") and name != "cocorrrec_models/__init__.py"]


def test_the_installed_wheels_export_a_ready_model(wheels: dict[str, Path], tmp_path: Path) -> None:
    bin_ = environment(tmp_path / "env", "--no-deps", *map(str, wheels.values()))
    # The dependencies of this environment, but not its editable install: path files are not read through a path file.
    own = run(bin_ / "python", "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path).strip()
    (Path(own) / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    where = run(bin_ / "python", "-c", "import cocorrrec_export as c; print(c.__file__)", cwd=tmp_path)
    assert where.startswith(own)  # not the checkout's own folder
    command = ("scn", "--target", "executorch", "--precision", "int8", "--json")
    printed = json.loads(run(bin_ / "cocorr-export", *command, cwd=tmp_path))
    assert printed["manifest"]["parity"]["verdict"] == "pass"
    assert (tmp_path / printed["path"] / "scn.pte").is_file()


def test_a_server(wheels: dict[str, Path], gcn_fp32: Artifact, tmp_path: Path) -> None:
    bin_ = environment(tmp_path / "env", f"{wheels['cocorrrec-export']}[serve]")
    assert EMPTY_MB < megabytes(tmp_path / "env") < 300
    assert not installed(bin_, "torch") and not installed(bin_, "onnxscript")
    checked = json.loads(run(bin_ / "cocorr-export", "parity", gcn_fp32.path, "--vectors", "--json", cwd=tmp_path))
    assert checked["parity"]["verdict"] == "pass" and checked["parity"]["tensors"]["top10_overlap"] == 1.0
    command = [bin_ / "cocorr-serve", "gcn", gcn_fp32.path, "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["address"]
        with urllib.request.urlopen(f"{address}/v2/health/ready", timeout=30) as answer:
            assert answer.status == 200
        server.terminate()
        assert server.wait(60) == 0


def test_a_profile_of_an_export(wheels: dict[str, Path], onnx_int8: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "env"
    bin_ = environment(folder, f"{wheels['cocorrrec-export']}[profile]")
    assert EMPTY_MB < megabytes(folder) < 300
    facts = json.loads(run(bin_ / "cocorr-export", "inspect", onnx_int8.path, "--json", cwd=tmp_path))
    assert facts["checked_by"].startswith("manifest; the file was not opened: onnxruntime is not installed")
    environment(folder, f"{wheels['cocorrrec-export']}[run-onnx]")
    assert not installed(bin_, "torch") and not installed(bin_, "polars")
    facts = json.loads(run(bin_ / "cocorr-export", "inspect", onnx_int8.path, "--json", cwd=tmp_path))
    assert facts["checked_by"] == "manifest" and facts["parts"]
    run(bin_ / "cocorr-export", "parity", onnx_int8.path, "--vectors", cwd=tmp_path)
    profile = ("--host", "--iterations", "5", "--output", "profile", "--json")
    document = json.loads(run(bin_ / "cocorr-profile", onnx_int8.path, *profile, cwd=tmp_path))
    assert document["parity"]["verdict"] == "pass" and (tmp_path / "profile" / "report.html").is_file()
    run(bin_ / "cocorr-profile", "compare", "profile", "profile", cwd=tmp_path)


def installed(bin_: Path, module: str) -> bool:
    code = f"import importlib.util; print(importlib.util.find_spec({module!r}) is not None)"
    return run(bin_ / "python", "-c", code, cwd=Path(os.sep)).strip() == "True"
