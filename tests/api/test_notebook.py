"""The notebook runs from its first cell to its last, and is kept without what a run leaves in it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "examples" / "your_clicks.ipynb"
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        print(output.get("text", ""), end="")
"""


def test_it_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 6
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


@pytest.mark.slow
def test_it_does_the_whole_job(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(NOTEBOOK)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stderr
    for line in ("alone", "corrected", "scn.pte", "gcn.onnx", "with the cloud", "executorch", "rank_corrected"):
        assert line in ended.stdout, ended.stdout
    made = tmp_path / "your_clicks"
    assert (made / "profile" / "report.html").is_file() and (made / "dist" / "gcn-onnx-fp32" / "gcn.onnx").is_file()
