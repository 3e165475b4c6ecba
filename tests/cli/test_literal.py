"""Text that is not ours is shown as it is, wherever it comes out."""

import re

import pytest
import typer
from typer.main import get_command

from cocorrrec_export.cli import console
from cocorrrec_export.cli.export.app import app as export_app
from cocorrrec_export.cli.profile.app import app as profile_app
from cocorrrec_export.cli.root import make_app
from cocorrrec_export.cli.serve.app import app as serve_app
from cocorrrec_export.doctor.check import Check
from cocorrrec_export.text import html_text, printable

ODD = ("a[/b]c", "v[red]1", "pip install 'x[executorch]'", "[link=https://e.org]x[/link]", "[/]", ":boom:", "\\[x]")
CONTROLS = ("a\x1b[2Jb", "a\rb", "a\x00b", "a\x9bb", "a\u202eb", "a\u200bb", "a\udc80b")


@pytest.mark.parametrize("text", ODD)
def test_a_table_shows_markup_literally_in_every_place(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(f"title {text}", (f"column {text}", "other"), [[f"first {text}", f"second {text}"]])
    said = capsys.readouterr().out
    for place in ("title", "column", "first", "second"):
        assert f"{place} {text}" in said


@pytest.mark.parametrize("text", ODD)
def test_steps_and_checks_show_markup_literally(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with console.steps() as step:
        step(f"reading {text}")
    console.log(f"logged {text}")
    console.print_checks("here", [Check("runtime", ok=True, detail=f"found {text}", hint=f"do {text}")], as_json=False)
    ended = capsys.readouterr()
    assert f"reading {text}" in ended.err and f"logged {text}" in ended.err
    assert f"found {text}" in ended.out and f"do {text}" in ended.out


@pytest.mark.parametrize("text", CONTROLS)
def test_nothing_that_a_terminal_obeys_gets_through(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.log(text)
    console.print_table("", ("a",), [[text]])
    with console.steps() as step:
        step(text)
    ended = capsys.readouterr()
    bad = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e\ud800-\udfff]")
    for said in (ended.out, ended.err, html_text(text), printable(text)):
        # The spinner's own sequences begin with ESC [; a terminal is not attached here, so there are none.
        assert not bad.search(said), said


def test_plain_text_is_left_alone() -> None:
    for text in ("Ünïcode – ok 漢字", "two\nlines\tand a tab", ""):
        assert printable(text) == text
    assert html_text('<b x="1">&') == "&lt;b x=&quot;1&quot;&gt;&amp;"


def test_help_that_looks_like_markup_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    app = make_app("tool", "Needs tool[serve] to run.")

    @app.command(epilog="Examples: tool [fast] run")
    def run(path: str = typer.Option("x", help="A path such as a[/b]c.")) -> None:
        """Run with tool[ray]."""

    for page, wanted in (([], ["tool[serve]"]), (["run"], ["tool[ray]", "a[/b]c", "tool [fast] run"])):
        with pytest.raises(SystemExit):
            app([*page, "--help"])
        said = capsys.readouterr().out
        assert all(text in said for text in wanted), said


@pytest.mark.parametrize("app", [export_app, profile_app, serve_app])
def test_every_command_of_ours_takes_its_help_literally(app: typer.Typer) -> None:
    def walk(command: object) -> list[object]:
        return [command, *(x for child in getattr(command, "commands", {}).values() for x in walk(child))]

    for command in walk(get_command(app)):
        assert "_take_literally" in type(command).__init__.__code__.co_names, command
