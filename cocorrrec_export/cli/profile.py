"""``cocorr-profile``: peak memory, latency and FLOPs per token."""

from cocorrrec_export.cli import console, link
from cocorrrec_export.cli.root import make_app

app = make_app("cocorr-profile", "Measure what an export costs, and whether the cloud's answer comes in time.")
app.command(epilog=link.EPILOG)(link.link)


def main() -> None:
    """Entry point of the console script."""
    console.run(app)
