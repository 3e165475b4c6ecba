"""The folders import what docs/architecture.md says, and the help pages import nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "cocorrrec_export"
BASE = {"contract", "errors", "extras", "files", "metrics", "resources", "tables", "__init__"}
ALLOWED = {
    "modeling": set(),
    "data": {"modeling"},
    "runtime": set(),
    "training": {"modeling", "data"},
    "profiling": {"modeling", "runtime"},
    "parity": {"modeling", "data", "runtime"},
    "export": {"modeling", "data", "runtime", "parity", "profiling"},
    "cli": {"modeling", "data", "runtime", "parity", "profiling", "export", "training"},
}
"""Which folders a folder may import from, beside itself and the modules at the bottom."""


def imported_parts(path: Path) -> set[str]:
    """First part, below the package, of everything that a file imports from the package, at any depth."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            rest = node.module.split(".")[1:]
            parts |= {rest[0]} if rest else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            parts |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith(f"{PACKAGE.name}.")}
    return parts - BASE - {"__version__"}


def test_every_folder_is_in_the_table() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))}
    assert folders == ALLOWED.keys()
    described = (ROOT / "docs" / "architecture.md").read_text()
    assert all(f"`{folder}/`" in described for folder in folders)


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_dependencies_point_downward(folder: str) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        wrong = imported_parts(path) - ALLOWED[folder] - {folder}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_the_bottom_imports_nothing_above_it() -> None:
    for path in PACKAGE.glob("*.py"):
        assert not imported_parts(path), path.name


COMMANDS = ("", "train", "evaluate", "scn", "gcn", "parity", "models", "recipes", "recipes show")
HEAVY = ("torch", "numpy", "polars", "executorch", "onnx", "onnxruntime", "matplotlib", "safetensors")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    program = (
        "import sys\n"
        "from cocorrrec_export.cli.export import app\n"
        f"sys.argv = ['cocorr-export', *{command.split()!r}, '--help']\n"
        "try:\n    app()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "heavy: []"
    if command not in ("", "recipes show"):
        assert "Examples" in result.stdout
