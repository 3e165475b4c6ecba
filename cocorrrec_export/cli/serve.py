"""``cocorr-serve``: the cloud's half behind HTTP."""

from cocorrrec_export.cli import console, unfinished


def main() -> None:
    """Entry point of the console script."""
    console.run(unfinished.app("cocorr-serve", "Serve an exported GCN over HTTP."))
