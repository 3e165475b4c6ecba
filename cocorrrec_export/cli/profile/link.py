"""``cocorr-profile link``."""

import itertools
from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.errors import UsageError

EPILOG = """
Examples:

  cocorr-profile link

  cocorr-profile link --profile profiles/scn-executorch-int8-phone --json > link.json

  cocorr-profile link --bandwidth 5,100 --rtt 0,50 --loss 0 --requests 500 --deadline-ms 16
"""


def link(
    scn: Annotated[Path | None, typer.Option(help="The on-device model. Default: the newest under dist.")] = None,
    gcn: Annotated[Path | None, typer.Option(help="The cloud model. Default: the newest under dist.")] = None,
    bandwidth: Annotated[str, typer.Option(help="Megabytes per second, several with commas.")] = "5,15,50,100",
    rtt: Annotated[str, typer.Option(help="Added round-trip times in milliseconds.")] = "0,20,50,100",
    loss: Annotated[str, typer.Option(help="Shares of lost segments, in percent.")] = "0,1",
    requests: Annotated[int, typer.Option(min=1, help="Exchanges on each link.")] = 100,
    candidates: Annotated[int, typer.Option(min=1, help="Candidates that the phone ranks meanwhile.")] = 100,
    profile: Annotated[
        Path | None, typer.Option(help="A profile.json of cocorr-profile: take the tolerance from that machine.")
    ] = None,
    deadline_ms: Annotated[
        float | None, typer.Option(min=0, help="Take this tolerance, the app's own deadline, instead of measuring.")
    ] = None,
    shaping: Annotated[str, typer.Option(help="How bandwidth is limited: auto, namespace (root) or proxy.")] = "auto",
    out: Annotated[Path, typer.Option("--out", "--output", help="Folder for link.json and link.html.")] = Path(
        "profiles/link"
    ),
    json: options.Json = False,
) -> None:
    """Measure the whole exchange over real sockets of limited bandwidth: upload, cloud, download, and the tolerance.

    Starts the server, and asks it over each link as the phone does, one request after another.
    """
    if profile is not None and deadline_ms is not None:
        raise UsageError("--profile and --deadline-ms both set the tolerance: give one of them")
    from cocorrrec_export.extras import require
    from cocorrrec_export.link.document import COLUMNS, check_folder, facts_of, table_rows, write_report
    from cocorrrec_export.link.exchange import Request, measure_links
    from cocorrrec_export.link.shaping import Link

    require("serve")
    require("profile")
    grid = itertools.product(
        options.numbers(loss, "--loss", float, low=0, high=50),
        options.numbers(rtt, "--rtt", float, low=0, high=10_000),
        options.numbers(bandwidth, "--bandwidth", float, low=0.01, high=100_000),
    )
    links = [Link(mb_s, rtt_ms, percent / 100) for percent, rtt_ms, mb_s in grid]
    request = Request(
        scn=scn,
        gcn=gcn,
        links=tuple(links),
        shaping=shaping,
        requests=requests,
        candidates=candidates,
        profile=profile,
        deadline_ms=deadline_ms,
    )
    check_folder(out)
    with console.steps() as progress:
        document = measure_links(request, progress=progress)
    write_report(out, document)
    if json:
        console.print_json(document)
        return
    console.print_table("the exchange over the link, milliseconds", COLUMNS, table_rows(document))
    for line in (*facts_of(document), f"all samples: {out / 'link.json'}; timeline: {out / 'link.html'}"):
        typer.echo(line)
