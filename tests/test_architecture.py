"""The folders import what docs/architecture.md says."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "cocorrrec_export"
BASE = {"contract", "errors", "extras", "files", "isolation", "metrics", "resources", "schema", "tables", "__init__"}
ALLOWED = {
    "modeling": set(),
    "data": {"modeling"},
    "runtime": set(),
    "training": {"modeling", "data"},
    "profiling": {"modeling", "data", "runtime", "parity"},
    "parity": {"modeling", "data", "runtime"},
    "export": {"modeling", "data", "runtime", "parity", "profiling"},
    "serving": {"runtime", "export"},
    "reproduction": {"modeling", "data", "training", "profiling"},
    "cli": {"modeling", "data", "runtime", "parity", "profiling", "export", "training", "serving", "reproduction"},
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
