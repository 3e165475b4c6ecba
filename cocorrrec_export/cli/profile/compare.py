"""``cocorr-profile compare``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.errors import CocorrrecError, UsageError

EPILOG = """
Examples:

  cocorr-profile compare profiles/before profiles/after

  cocorr-profile compare before.json after.json --fail-over 10% --json
"""


def compare(
    first: Annotated[Path, typer.Argument(help="A profile.json, or its folder.")],
    second: Annotated[Path, typer.Argument(help="The one to judge.")],
    fail_over: Annotated[
        str | None, typer.Option("--fail-over", help="Exit with 1 where something became worse by more, such as 10%.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Say what became better or worse, and whether it is beyond the noise (bootstrap interval of the median)."""
    from cocorrrec_export.profiling.report.compare import compare_profiles, regressions, warnings
    from cocorrrec_export.profiling.report.document import read_profile

    limit = _share(fail_over) if fail_over is not None else None
    profiles = read_profile(first), read_profile(second)
    changes, said = compare_profiles(*profiles), warnings(*profiles)
    failed = [] if limit is None else regressions(changes, limit)
    for warning in said:
        console.log(f"warning: {warning}")
    if json:
        regressed = [change.what for change in failed]
        rows = [change.as_dict() for change in changes]
        console.print_json({"changes": rows, "warnings": said, "regressions": regressed})
    else:
        table = []
        for change in changes:
            low, high = change.interval or (change.ratio, change.ratio)
            interval = f"{low - 1:+.1%} to {high - 1:+.1%}" if change.interval else ""
            numbers = (f"{change.first:,.1f}", f"{change.second:,.1f}", f"{change.ratio - 1:+.1%}", interval)
            table.append([f"{change.what}, {change.unit}", *numbers, change.verdict])
        columns = ("", "first", "second", "change", "95% interval", "verdict")
        console.print_table(f"{first} and {second}", columns, table)
    if failed:
        raise CocorrrecError(f"worse by more than {fail_over}: {'; '.join(change.what for change in failed)}")


def _share(text: str) -> float:
    number = text.removesuffix("%")
    try:
        share = float(number) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 100:
        raise UsageError(f"--fail-over takes a share such as 10% or 0.1, got '{text}'")
    return share
