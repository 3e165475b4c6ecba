"""``cocorr-export doctor``."""

import typer

from cocorrrec_export.cli import console, options

EPILOG = """
Examples:

  cocorr-export doctor

  cocorr-export doctor --json
"""


def doctor(json: options.Json = False) -> None:
    """Check this machine: versions, whether each backend exports and runs a tiny graph, adb and connected phones.

    Ends with 1 when a check fails, and says what mends it.
    """
    import dataclasses
    import platform

    from cocorrrec_export.export.doctor import checks

    with console.steps() as progress:
        found = list(checks(progress))
    ok = all(check.ok for check in found)
    if json:
        rows = [dataclasses.asdict(check) for check in found]
        console.print_json({"ok": ok, "platform": platform.platform(), "checks": rows})
    else:
        lines = ([check.name, "ok" if check.ok else "FAILED", check.detail, check.hint] for check in found)
        console.print_table(platform.platform(), ("check", "", "detail", "what to do"), lines)
    if not ok:
        raise typer.Exit(1)
