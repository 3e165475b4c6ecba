"""The wheel works outside the checkout: models and recipes travel inside it."""

import json
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_installed_wheel_exports_the_shipped_model(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, timeout=120)
    # The dependencies of this environment, but not its editable install: path files are not read through a path file.
    own = subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True).strip()
    (Path(own) / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    show = [python, "-c", "import cocorrrec_export as c; print(c.__file__)"]
    where = subprocess.check_output(show, text=True, cwd=tmp_path)  # not the checkout's own folder
    assert where.startswith(own)
    command = [tmp_path / "env" / "bin" / "cocorr-export", "scn", "--target", "executorch", "--precision", "int8"]
    result = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["manifest"]["parity"]["verdict"] == "pass"
    assert (tmp_path / printed["path"] / "scn.pte").is_file()
