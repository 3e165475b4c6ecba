"""The rooms import what the table in docs/architecture.md says: the page is the table, there is no second one."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "cocorrrec_export"
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def allowed() -> dict[str, set[str]]:
    """Which rooms a room may import from, besides itself and the modules at the bottom."""
    rows = re.findall(r"^\| `(\w+)/` \|.*\| ([^|]+) \|$", PAGE, flags=re.MULTILINE)
    return {room: set() if cell == "-" else set(cell.split(", ")) for room, cell in rows}


ALLOWED = allowed()
BOTTOM = {path.stem for path in PACKAGE.glob("*.py")}


def imported_parts(path: Path) -> set[str]:
    """First part, below the package, of everything that a file imports from the package, at any depth."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            rest = node.module.split(".")[1:]
            parts |= {rest[0]} if rest else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            parts |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith(f"{PACKAGE.name}.")}
    return parts - BOTTOM - {"__version__"}


def test_every_room_is_in_the_table() -> None:
    assert {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))} == ALLOWED.keys()
    assert all(f"`{name}.py`" in PAGE for name in BOTTOM - {"__init__"})


def test_the_table_has_no_circle_and_no_upward_import() -> None:
    order = list(ALLOWED)
    for index, room in enumerate(order):
        assert ALLOWED[room] <= set(order[:index]), f"{room} imports a room that is not above it in the table"


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_import_what_the_table_says(room: str) -> None:
    imported = {path: imported_parts(path) - {room} for path in (PACKAGE / room).rglob("*.py")}
    for path, parts in imported.items():
        wrong = parts - ALLOWED[room]
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"
    unused = ALLOWED[room] - set().union(*imported.values())
    assert not unused, f"the table allows {room} what it does not import: {', '.join(sorted(unused))}"


def test_the_bottom_imports_nothing_above_it() -> None:
    for path in PACKAGE.glob("*.py"):
        # The package names the Python face for type checkers; tests/api holds it to importing nothing when it runs.
        assert imported_parts(path) <= ({"api"} if path.name == "__init__.py" else set()), path.name
