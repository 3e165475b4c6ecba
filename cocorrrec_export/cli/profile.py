"""``cocorr-profile``: peak memory, latency and FLOPs per token."""

import typer

from cocorrrec_export.cli import console, link

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.callback()
def root() -> None:
    """Measure what an export costs, and whether the cloud's answer comes in time."""


app.command(epilog=link.EPILOG)(link.link)


def main() -> None:
    """Entry point of the console script."""
    console.run(app)
