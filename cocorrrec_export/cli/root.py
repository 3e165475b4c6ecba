"""What the three programs have in common: help pages, version, and plain errors."""

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from cocorrrec_export import __version__

_Function = TypeVar("_Function", bound=Callable[..., Any])


def prose(text: str | None) -> str | None:
    """The paragraphs of a docstring, each on one line: how wide a terminal is decides where they wrap."""
    if text is None:
        return None
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _take_literally(command: Any) -> None:
    """Show help as it is written: typer reads it as rich markup, where ``[executorch]`` would be a style."""
    command.help = escape(command.help) if command.help else command.help
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = escape(parameter.help)


def print_examples(epilog: str | None) -> None:
    """The examples below a help page, as they are written: they are there to be copied."""
    if epilog:
        typer.echo(re.sub(r"\n\n+(?=  )", "\n", inspect.cleandoc(epilog)) + "\n")


class _Page:
    """A help page that is shown as it is written: it wraps as prose, with examples that do not."""

    def __init__(self, *args: Any, help: str | None = None, epilog: str | None = None, **options: Any) -> None:
        super().__init__(*args, help=prose(help), **options)  # type: ignore[call-arg]  # typer's class comes next
        _take_literally(self)
        self.examples = epilog

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the page."""
        super().format_help(ctx, formatter)  # type: ignore[misc]
        print_examples(self.examples)


class Command(_Page, TyperCommand):
    """A command with such a page."""


class Group(_Page, TyperGroup):
    """The same for commands of commands."""


class App(typer.Typer):
    """A Typer app with these pages, ``-h``, and errors that end as :func:`console.run` says."""

    def __init__(self, *, cls: type[TyperGroup] = Group, **options: Any) -> None:
        super().__init__(
            cls=cls,
            rich_markup_mode="rich",
            context_settings={"help_option_names": ["-h", "--help"]},
            pretty_exceptions_enable=False,
            **options,
        )

    def command(self, name: str | None = None, **options: Any) -> Callable[[_Function], _Function]:
        """Register a command: :meth:`typer.Typer.command` with :class:`Command`."""
        return super().command(name, cls=Command, **options)


def make_app(program: str, purpose: str, *, cls: type[TyperGroup] = Group, epilog: str | None = None) -> App:
    """A program with commands: ``program --version``, ``-h``, help where no command is named.

    Args:
        program: its name.
        purpose: one sentence for its help page.
        cls: of the group, where it has rules of its own.
        epilog: below the help page.
    """
    app = App(cls=cls, no_args_is_help=cls is Group)

    def show_version(value: bool) -> None:
        if value:
            typer.echo(f"{program} {__version__}")
            raise typer.Exit

    @app.callback(help=purpose, epilog=epilog)
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
        ] = False,
    ) -> None: ...

    return app
