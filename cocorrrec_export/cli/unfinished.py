"""Commands whose name is taken and whose work is still to come. They say so, and fail."""

import typer

from cocorrrec_export.errors import CocorrrecError


def app(name: str, purpose: str) -> typer.Typer:
    """A command that ends with one clear error."""
    made = typer.Typer(pretty_exceptions_enable=False)

    @made.command(help=f"{purpose} Not part of this version yet.")
    def command() -> None:
        raise CocorrrecError(f"{name} is not part of this version yet")

    return made
