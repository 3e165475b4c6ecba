"""``cocorr-profile doctor-device``."""

from typing import Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.errors import CocorrrecError

EPILOG = """
Examples:

  cocorr-profile doctor-device

  cocorr-profile doctor-device --device R5CT1234 --json
"""


def doctor_device(
    device: Annotated[
        str | None, typer.Option("--device", help="Serial of the phone. Default: the one that is connected.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Check on the connected phone everything that a profile rests on; exit with 1 where something is missing."""
    from cocorrrec_export.profiling.doctor import check_device

    with console.steps() as progress:
        result = check_device(device, progress)
    if json:
        console.print_json(result)
    else:
        rows = ([x["name"], "ok" if x["ok"] else "FAILED", x["detail"], x["hint"] or ""] for x in result["checks"])
        console.print_table(result["platform"], ("check", "", "what was found", "what to do"), rows)
    if not result["ok"]:
        failed = ", ".join(check["name"] for check in result["checks"] if not check["ok"])
        raise CocorrrecError(f"not ready for a profile: {failed}")
