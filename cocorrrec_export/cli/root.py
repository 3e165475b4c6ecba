"""What the three programs have in common: help, version, and plain errors."""

from typing import Annotated

import typer

from cocorrrec_export import __version__


def make_app(program: str, purpose: str) -> typer.Typer:
    """A program with commands: ``program --version``, ``-h``, help where no command is named.

    Args:
        program: its name.
        purpose: one sentence for its help page.
    """
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )

    def show_version(value: bool) -> None:
        if value:
            typer.echo(f"{program} {__version__}")
            raise typer.Exit

    @app.callback(help=purpose)
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
        ] = False,
    ) -> None: ...

    return app
