"""Help is complete, and instant: no heavy library is imported for it."""

import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

from cocorrrec_export.cli.export.app import app as export
from cocorrrec_export.cli.profile.app import app as profile
from cocorrrec_export.cli.serve.app import app as serve
from tests.commands import Cli

HEAVY = (
    "torch",
    "numpy",
    "polars",
    "safetensors",
    "executorch",
    "onnx",
    "onnxruntime",
    "rich.progress",
    "uvicorn",
    "msgspec",
    "ray",
)
COMMANDS = sorted(get_command(export).commands)  # type: ignore[attr-defined]


def test_no_help_page_imports_a_heavy_library() -> None:
    nested = [["recipes", "show"], ["data", "prepare"], ["data", "statistics"]]
    program = f"""
import sys
from cocorrrec_export.cli.export.app import app as export
from cocorrrec_export.cli.serve.app import app as serve
pages = [(export, page) for page in ([], *([name] for name in {COMMANDS}), *{nested})]
for app, page in pages + [(serve, []), (serve, ["gcn"])]:
    try:
        app([*page, "--help"])
    except SystemExit as end:
        assert end.code == 0, page
    heavy = [name for name in {HEAVY} if name in sys.modules]
    assert not heavy, (page, heavy)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [*COMMANDS, "data prepare", "data statistics"])
def test_every_help_page_has_examples_that_start_with_the_command(cli: Cli, command: str) -> None:
    ended = cli(*command.split(), "--help")
    assert ended.code == 0
    assert "Examples:" in ended.stdout
    assert f"cocorr-export {command}" in ended.stdout


PROGRAMS = {"cocorr-export": export, "cocorr-profile": profile, "cocorr-serve": serve}


def pages() -> list[tuple[str, Any]]:
    """Every command of every program, with its words."""
    found = []

    def walk(words: str, command: Any) -> None:
        found.append((words, command))
        for name, inner in getattr(command, "commands", {}).items():
            walk(f"{words} {name}", inner)

    for program, app in PROGRAMS.items():
        walk(program, get_command(app))
    return found


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(("words", "command"), pages(), ids=[words for words, _ in pages()])
def test_paragraphs_wrap_as_prose_and_examples_do_not(
    words: str, command: Any, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    program, *rest = words.split()
    with pytest.raises(SystemExit):
        PROGRAMS[program]([*rest, "--help"])
    shown = capsys.readouterr().out
    lines = [line.rstrip() for line in shown.split("╭─")[0].splitlines()]
    text = "\n".join(line[1:] for line in lines)
    for paragraph in (command.help or "").replace("\\[", "[").split("\n\n"):
        (block,) = [part for part in text.split("\n\n") if " ".join(part.split()) == paragraph]
        *wrapped, _ = block.splitlines()
        following = [line.split()[0] for line in block.splitlines()[1:]]
        for line, word in zip(wrapped, following, strict=True):
            assert len(line) + 1 + len(word) > width - 3, f"{line!r} ends before {word!r} has to"
    for example in (command.examples or "").split("\n"):
        assert example.rstrip() in shown.splitlines() or not example.strip()


def test_every_option_has_a_sentence() -> None:
    commands = get_command(export).commands  # type: ignore[attr-defined]
    for name, command in [*commands.items(), *commands["data"].commands.items()]:
        for parameter in command.params:
            text = getattr(parameter, "help", None)
            assert text and text.endswith((".", ".]")), f"{name}: {parameter.name}: {text!r}"


def test_version_and_no_arguments(cli: Cli) -> None:
    assert cli("--version").stdout.startswith("cocorr-export 0.")
    assert cli().code == 2
    assert cli("scan").code == 2
    assert "scn" in cli("--help").stdout


def test_the_server_s_help_is_as_good(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        serve(["gcn", "--help"])
    text = capsys.readouterr().out
    assert "Examples:" in text and "cocorr-serve gcn --port 0 --json" in text
    command = get_command(serve).commands["gcn"]  # type: ignore[attr-defined]
    for parameter in command.params:
        assert parameter.help and parameter.help.endswith((".", ".]")), parameter.name
