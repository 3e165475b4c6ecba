"""``cocorr-profile [run]``: profile an export, here or on a phone."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.extras import require

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


def run(
    artifact: Annotated[
        Path | None, typer.Argument(help="Folder of an export. Default: the newest under dist/ that can be profiled.")
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
        str | None, typer.Option("--candidates", help="Export again for these numbers of candidates, and measure.")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option("--lengths", help="Export again for these sequence lengths: memory per token.")
    ] = None,
    per_operator: Annotated[
        bool, typer.Option("--per-operator", help="Trace each operator, in runs of their own (ExecuTorch, LiteRT).")
    ] = False,
    architecture: options.Architecture = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model it was made from. Default: the shipped one of that name.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--output", help="Folder of the report. Default: profiles/EXPORT-MACHINE.")
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
    from cocorrrec_export.profiling.machines.open import machine_opener
    from cocorrrec_export.profiling.measure import Settings
    from cocorrrec_export.profiling.profile import Request, choose_artifact, output_folder, profile

    if clean:
        from cocorrrec_export.profiling.machines.device import clean_device

        console.log(clean_device(device))
        return
    require("profile")
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
    chosen = choose_artifact(artifact, Path("dist"), architecture, host=host)
    if artifact is None:
        console.log(f"profiling {chosen.path}, the newest export that {'this machine' if host else 'a phone'} runs")

    open_machine = machine_opener(host=host, serial=device, timeout_s=timeout, cool_down_s=cool_down)
    place = output_folder(out, chosen, "host" if host else device or "device")
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
    from cocorrrec_export.artifact.manifest import FLOP_COLUMNS, flop_rows
    from cocorrrec_export.profiling.report.page import (
        CURVE_COLUMNS,
        LATENCY_COLUMNS,
        MEMORY_COLUMNS,
        PART_COLUMNS,
        SLOPE_COLUMNS,
        curve_rows,
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
    console.print_table("FLOPs for one user, of the file's graph", FLOP_COLUMNS, flop_rows(document["entry_flops"]))
    if document["flops"]:
        console.print_table("", CURVE_COLUMNS, curve_rows(document))
    console.log(f"report: {place / 'report.html'}")
