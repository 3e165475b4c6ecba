"""``cocorr-profile``: peak memory, latency and FLOPs per token, here and on a phone."""

from typing import Any

from cocorrrec_export.cli import console
from cocorrrec_export.cli.profile import build_runner, compare, doctor_device, link, run
from cocorrrec_export.cli.root import Group, make_app

DEFAULT = "run"
EPILOG = f"""
Without a command, 'cocorr-profile [ARTIFACT] [OPTIONS]' profiles: 'cocorr-profile {DEFAULT} --help' has the options.
{run.EPILOG}
"""


class DefaultGroup(Group):
    """A group whose command :data:`DEFAULT` is meant where none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front of what does not start with a command or an option of the group."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h", "--version")):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = make_app(
    "cocorr-profile",
    "Measure what an export costs: peak memory, latency and FLOPs per token, on this host or on a phone.",
    cls=DefaultGroup,
    epilog=EPILOG,
)

app.command(name=DEFAULT, epilog=run.EPILOG)(run.run)
app.command(name="compare", epilog=compare.EPILOG)(compare.compare)
app.command(name="build-runner", epilog=build_runner.EPILOG)(build_runner.build_runner)
app.command(name="doctor-device", epilog=doctor_device.EPILOG)(doctor_device.doctor_device)
app.command(name="link", epilog=link.EPILOG)(link.link)


def main() -> None:
    """Entry point of the console script."""
    console.run(app)
