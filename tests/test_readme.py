"""What the README and the guide say is what is there."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT
from tests.readme import is_part, shape, shown

README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
MAX_LINES = 110
PAGES = [
    *(name for name in ("README.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md") if (ROOT / name).exists()),
    *("docs/guide.md", "docs/install.md", "docs/citing.md", "docs/serving.md", "models/README.md"),
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))),
]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_the_example_is_the_file_that_the_demo_runs() -> None:
    (example,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", GUIDE, re.S)
    assert example == (ROOT / "examples" / "rank.py").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert link.startswith("https://") or (path.parent / link).exists(), link


def test_every_command_is_mentioned() -> None:
    for command in ("train", "evaluate", "scn", "gcn", "parity", "inspect", "doctor", "models", "recipes", "bundle"):
        assert f"cocorr-export {command}" in README + GUIDE
    for command in ("cocorr-serve gcn", "cocorr-profile link"):
        assert command in README + GUIDE


def test_acronyms_are_spelled_out() -> None:
    for acronym, words in (("SCN", "self-correction network"), ("GCN", "global correction network")):
        assert README.index(words) < README.index(f"{acronym})") + 200
        assert words in README and f"({words}, {acronym})" in README
    assert "not a graph convolutional network" in README


@pytest.fixture(scope="module")
def results() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", ROOT / "benchmarks" / "results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_results_is_that_of_the_measurements(results: ModuleType) -> None:
    rows = results.read()
    assert len(rows) >= 6
    assert results.rendered(README, rows) == README


def test_snippets_name_what_the_demos_have() -> None:
    for language, folder, suffix in (("kotlin", "android_demo", "kt"), ("swift", "ios_demo", "swift")):
        (snippet,) = re.findall(rf"```{language}\n(.*?)```", README, re.S)
        sources = "\n".join(
            path.read_text() for path in (ROOT / folder).rglob(f"*.{suffix}") if ".build" not in path.parts
        )
        code = re.sub(r"//[^\n]*", "", snippet)
        for name in set(re.findall(r"\b([A-Z]\w+)\(", code)):
            assert re.search(rf"\b(class|struct)\s+{name}\b", sources), f"{language}: {name}"
        for name in set(re.findall(r"\.(\w+)\(", code)) - {"milliseconds"}:
            assert re.search(rf"\b(fun|func)\s+{name}\b", sources), f"{language}: {name}"


def test_shapes_ignore_figures_and_borders() -> None:
    printed = "   a title 12\n┏━━┳━━┓\n┃ x ┃ p50 ┃\n┡━━╇━━┩\n│ rank │ 1.5 │\n│      │ more │\n└──┴──┘\nend\n"
    assert [found for line in printed.splitlines() if (found := shape(line))] == [
        "a title N",
        "x|pN",
        "rank of 2 cells",
        "end",
    ]
    assert is_part(("a title 7", "...", "│ rank │ 99 │"), printed) is None
    assert is_part(("│ rank │ 99 │", "a title 7"), printed) == "a title 7"
    assert is_part(("│ step │ 99 │",), printed) == "│ step │ 99 │"


@pytest.mark.slow
def test_the_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    commands = shown(README)
    assert len(commands) >= 3
    for each in commands:
        assert each.lines, f"{each.command} is shown without its output"
        ended = subprocess.run(
            each.command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
        )
        assert ended.returncode == 0, ended.stderr
        missing = is_part(each.lines, ended.stdout)
        assert missing is None, f"{each.command} does not print a line like: {missing}"


def test_the_page_on_serving_names_every_option_and_metric() -> None:
    from typer.main import get_command

    from cocorrrec_export.cli.serve.app import app as serve
    from cocorrrec_export.serving.metrics import Metrics

    page = (ROOT / "docs" / "serving.md").read_text()
    explained = set(re.findall(r"`(--[a-z-]+)", page))
    for parameter in get_command(serve).commands["gcn"].params:  # type: ignore[attr-defined]
        option = parameter.opts[0]
        if option.startswith("--max") or option in ("--timeout", "--threads", "--drain-seconds", "--token-file"):
            assert option in explained, option
    for family in Metrics().registry.collect():
        assert f"`{family.name}" in page, family.name
