"""``cocorr-export``: train, evaluate, export and check."""

from typing import Annotated

import typer

from cocorrrec_export import __version__
from cocorrrec_export.cli import console, doctor, evaluate, gcn, inspect, models, parity, recipes, scn, train

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"cocorr-export {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the CoCorrRec recommender from training to phones and cloud, and prove that it still ranks the same."""


app.command(epilog=train.EPILOG)(train.train)
app.command(epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(epilog=scn.EPILOG)(scn.scn)
app.command(epilog=gcn.EPILOG)(gcn.gcn)
app.command(epilog=parity.EPILOG)(parity.parity)
app.command(epilog=inspect.EPILOG)(inspect.inspect)
app.command(epilog=doctor.EPILOG)(doctor.doctor)
app.command(epilog=models.EPILOG)(models.models)
app.add_typer(recipes.app, name="recipes")


def main() -> None:
    """Entry point of the console script."""
    console.run(app)
