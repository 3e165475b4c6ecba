"""``cocorr-export doctor``."""

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
    import platform

    from cocorrrec_export.doctor.computer import checks

    with console.steps() as progress:
        found = list(checks(progress))
    console.print_checks(platform.platform(), found, as_json=json)
