"""``cocorr-profile``: peak memory, latency and FLOPs per token, here and on a phone."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cocorrrec_export import __version__
from cocorrrec_export.cli import build_runner, compare, console, doctor_device, link, options
from cocorrrec_export.errors import CocorrrecError, UsageError

if TYPE_CHECKING:
    from cocorrrec_export.profiling.open import OpenedMachine

DEFAULT = "run"
EPILOG = """
Examples:

  cocorr-profile                                   the newest export, on the connected phone

  cocorr-profile dist/scn-executorch-int8 --host --threads 1,2 --per-operator

  cocorr-profile --architecture mamba4rec --host   the newest export of that baseline

  cocorr-profile dist/scn-executorch-int8 --device R5CT1234 --iterations 1000

  cocorr-profile --host --lengths 10,15,20,25 --candidates 10,100,500

  cocorr-profile --host --json > profile.json

  cocorr-profile --clean                           remove what is kept on the phone
"""
ROOT_EPILOG = f"""
Without a command, 'cocorr-profile [ARTIFACT] [OPTIONS]' profiles: 'cocorr-profile {DEFAULT} --help' has the options.
{EPILOG}
"""


class DefaultGroup(TyperGroup):
    """A group whose command :data:`DEFAULT` is meant where none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front of what does not start with a command or an option of the group."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h", "--version")):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=DefaultGroup,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"cocorr-profile {__version__}")
        raise typer.Exit


@app.callback(epilog=ROOT_EPILOG)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure what an export costs: peak memory, latency and FLOPs per token, on this host or on a phone."""


@app.command(name=DEFAULT, epilog=EPILOG)
def run(
    artifact: Annotated[
        Path | None, typer.Argument(help="Folder of an export. Default: the newest under dist/.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Serial of the phone. Default: the one that is connected.")
    ] = None,
    host: Annotated[bool, typer.Option("--host", help="Profile on this machine instead of a phone.")] = False,
    entry_point: Annotated[
        list[str] | None, typer.Option("--entry-point", help="Only this one; may be given several times.")
    ] = None,
    threads: Annotated[str, typer.Option("--threads", help="Numbers of threads to try.")] = "1",
    iterations: Annotated[
        int, typer.Option("--iterations", help="Timed calls of each entry point.", min=1, max=100_000)
    ] = 200,
    candidates: Annotated[
        str | None, typer.Option("--candidates", help="Export anew for these numbers of candidates, and measure.")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option("--lengths", help="Export anew for these sequence lengths: memory per token.")
    ] = None,
    per_operator: Annotated[
        bool, typer.Option("--per-operator", help="Trace each operator, in runs of their own (ExecuTorch, LiteRT).")
    ] = False,
    architecture: options.Architecture = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model it was made from. Default: the shipped one of that name.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder of the report. Default: profiles/EXPORT-MACHINE.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that one run may take.", min=1)] = 120,
    cool_down: Annotated[
        float, typer.Option("--cool-down", help="Seconds to wait for a hot phone to cool.", min=0)
    ] = 300,
    clean: Annotated[bool, typer.Option("--clean", help="Remove everything of ours from the phone, and exit.")] = False,
    json: options.Json = False,
) -> None:
    """Profile an export: parity, latency, cold load and memory of each entry point, FLOPs per token."""
    if host and (device or clean):
        raise UsageError("--host profiles on this machine: leave --device and --clean out")
    from cocorrrec_export.export.profile import Request, choose_artifact, output_folder, profile
    from cocorrrec_export.profiling.measure import Settings
    from cocorrrec_export.profiling.open import open_on_device, open_on_host

    if clean:
        from cocorrrec_export.profiling.device import clean_device

        console.log(clean_device(device))
        return
    settings = Settings(
        iterations=iterations,
        threads=options.numbers(threads, "--threads", int, low=1, high=64),
        entry_points=tuple(entry_point or ()),
        per_operator=per_operator,
    )
    request = Request(
        settings=settings,
        lengths=options.numbers(lengths, "--lengths", int, low=1, high=1000) if lengths else (),
        candidates=options.numbers(candidates, "--candidates", int, low=1, high=10_000) if candidates else (),
        model=model,
    )
    chosen = choose_artifact(artifact, Path("dist"), architecture)

    def open_machine(target: str, progress: "Callable[[str], None]") -> "AbstractContextManager[OpenedMachine]":
        if host:
            return open_on_host(target, timeout_s=timeout, progress=progress)
        return open_on_device(target, device, timeout_s=timeout, cool_down_s=cool_down, progress=progress)

    place = output_folder(output, chosen, "host" if host else device or "device")
    with console.steps() as progress:
        document = profile(chosen, open_machine, request, place, progress=progress)
    print_profile(document, place, as_json=json)
    if document["parity"]["verdict"] != "pass":
        raise CocorrrecError(f"parity failed on this machine: {'; '.join(document['parity']['problems'])}")


def print_profile(document: dict[str, Any], place: Path, *, as_json: bool) -> None:
    """The tables of a profile, or all of it."""
    if as_json:
        console.print_json(document)
        return
    from cocorrrec_export.profiling.report import (
        FLOP_COLUMNS,
        LATENCY_COLUMNS,
        MEMORY_COLUMNS,
        PART_COLUMNS,
        SLOPE_COLUMNS,
        flop_rows,
        latency_rows,
        machine_rows,
        memory_rows,
        parity_line,
        part_rows,
        slope_rows,
    )

    machine = document["machine"]
    console.print_table(document["artifact"]["name"], ("", ""), machine_rows(document))
    console.print_table(parity_line(document), LATENCY_COLUMNS, latency_rows(document))
    console.print_table("", MEMORY_COLUMNS, memory_rows(document))
    console.print_table("", PART_COLUMNS, part_rows(document))
    if machine["throttled"]:
        console.log("warning: taken on a hot or throttling device: do not compare its times")
    if machine["emulated"]:
        console.log("warning: the processor was emulated: its times say nothing about a phone")
    if document["shapes"]:
        console.print_table("memory over the sequence length", SLOPE_COLUMNS, slope_rows(document))
    if document["flops"]:
        console.print_table("FLOPs, counted on the plain model", FLOP_COLUMNS, flop_rows(document))
    console.log(f"report: {place / 'report.html'}")


app.command(name="compare", epilog=compare.EPILOG)(compare.compare)
app.command(name="build-runner", epilog=build_runner.EPILOG)(build_runner.build_runner)
app.command(name="doctor-device", epilog=doctor_device.EPILOG)(doctor_device.doctor_device)
app.command(name="link", epilog=link.EPILOG)(link.link)


def main() -> None:
    """Entry point of the console script."""
    console.run(app)
