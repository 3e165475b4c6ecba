"""``cocorr-serve``: the cloud model behind HTTP."""

from cocorrrec_export.cli import console
from cocorrrec_export.cli.root import make_app
from cocorrrec_export.cli.serve import gcn

app = make_app("cocorr-serve", "Serve the cloud model of the CoCorrRec recommender over HTTP.")

app.command(epilog=gcn.EPILOG)(gcn.gcn)


def main() -> None:
    """Entry point of the console script."""
    console.run(app)
