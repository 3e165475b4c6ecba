"""``cocorr-profile doctor-device``."""

from typing import Annotated

import typer

from cocorrrec_export.cli import console, options

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
    from cocorrrec_export.doctor.phone import check_device

    with console.steps() as progress:
        platform, found = check_device(device, progress)
    console.print_checks(platform, found, as_json=json)
