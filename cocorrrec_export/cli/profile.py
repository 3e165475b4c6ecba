"""``cocorr-profile``: peak memory, latency and FLOPs per token."""

from cocorrrec_export.cli import console, unfinished


def main() -> None:
    """Entry point of the console script."""
    console.run(unfinished.app("cocorr-profile", "Measure peak memory, latency and FLOPs per token of an export."))
