"""``cocorr-profile link``."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.errors import CocorrrecError, UsageError

if TYPE_CHECKING:
    from cocorrrec_export.profiling.link import Tolerance
    from cocorrrec_export.profiling.shaping import Link, Shaping
    from cocorrrec_export.runtime.base import Arrays

EPILOG = """
Examples:

  cocorr-profile link

  cocorr-profile link --profile profiles/scn-executorch-int8-phone --json > link.json

  cocorr-profile link --bandwidth 5,100 --rtt 0,50 --loss 0 --requests 500 --deadline-ms 16
"""
CLIENT_DEADLINE_S = 10.0


def link(
    scn: Annotated[Path | None, typer.Option(help="The phone's half. Default: the newest under dist.")] = None,
    gcn: Annotated[Path | None, typer.Option(help="The cloud's half. Default: the newest under dist.")] = None,
    bandwidth: Annotated[str, typer.Option(help="Megabytes a second, several with commas.")] = "5,15,50,100",
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
    output: Annotated[Path, typer.Option(help="Folder for link.json and link.html.")] = Path("profiles/link"),
    json: options.Json = False,
) -> None:
    """Measure the whole exchange over real sockets of limited bandwidth: upload, cloud, download, and the tolerance.

    Starts the server, and asks it over each link as the phone does, one request after another.
    """
    if profile is not None and deadline_ms is not None:
        raise UsageError("--profile and --deadline-ms both set the tolerance: give one of them")
    from cocorrrec_export.extras import require
    from cocorrrec_export.profiling.shaping import Link, choose_shaping

    require("serve")
    grid = itertools.product(
        options.numbers(loss, "--loss", float, low=0, high=50),
        options.numbers(rtt, "--rtt", float, low=0, high=10_000),
        options.numbers(bandwidth, "--bandwidth", float, low=0.01, high=100_000),
    )
    links = [Link(mb_s, rtt_ms, percent / 100) for percent, rtt_ms, mb_s in grid]
    with console.steps() as progress:
        progress("loading the phone's half")
        H, tolerance = _phone(scn, candidates, profile, deadline_ms)
        way = choose_shaping(shaping)
        document = {"shaping": way, "upload_bytes": H["H"].nbytes, "tolerance": _facts(tolerance)}
        document |= _measure(gcn, links, way, H, tolerance, requests, progress)
    _write(document, output)
    if json:
        console.print_json(document)
        return
    from cocorrrec_export.profiling.link import COLUMNS, facts_of, table_rows

    console.print_table("the exchange over the link, milliseconds", COLUMNS, table_rows(document))
    for line in (*facts_of(document), f"all samples: {output / 'link.json'}; timeline: {output / 'link.html'}"):
        typer.echo(line)


def _facts(tolerance: "Tolerance") -> dict[str, Any]:
    return {"ms": tolerance.seconds * 1e3, "source": tolerance.source}


def _phone(
    scn: Path | None, candidates: int, profile: Path | None, deadline_ms: float | None
) -> "tuple[Arrays, Tolerance]":
    """H of a history in the test vectors of the SCN, and how long the phone can do without the correction."""
    import numpy as np

    from cocorrrec_export.export.artifact import newest_artifact, open_artifact
    from cocorrrec_export.profiling.link import Tolerance, measured_tolerance, profiled_tolerance
    from cocorrrec_export.runtime.open import open_runtime

    artifact = open_artifact(scn or newest_artifact(Path("dist"), kind="scn"))
    if artifact.kind != "scn":
        raise UsageError(f"--scn {artifact.path} holds a {artifact.kind}")
    runtime = open_runtime(artifact.target, artifact.program, artifact.entry_points)
    if not {"encode", "rank"} <= runtime.entry_points.keys():
        raise UsageError(f"{artifact.path} lacks the entry points encode and rank")
    (spec,) = runtime.entry_points["encode"].inputs
    ids = np.arange(1, 1 + int(spec.shape[1]), dtype=np.int32)[None]  # which clicks they are changes no time
    H = runtime.run("encode", {"ids": ids})
    if deadline_ms is not None:
        return H, Tolerance(deadline_ms / 1e3, "the app's own deadline, given by --deadline-ms")
    if profile is not None:
        return H, profiled_tolerance(profile)
    items = 1 + np.arange(candidates, dtype=np.int32) % 20
    return H, measured_tolerance(runtime, ids, items)


def _measure(
    gcn: Path | None,
    links: "Sequence[Link]",
    way: "Shaping",
    H: "Arrays",
    tolerance: "Tolerance",
    requests: int,
    progress: Any,
) -> dict[str, Any]:
    """Start the server, and measure every link."""
    from cocorrrec_export.export.artifact import newest_artifact
    from cocorrrec_export.profiling.link import row
    from cocorrrec_export.profiling.shaping import namespace, proxy

    artifact = gcn or newest_artifact(Path("dist"), kind="gcn")
    rows = []
    with ExitStack() as stack:
        made = stack.enter_context(namespace()) if way == "namespace" else None
        progress("starting the server")
        host = made.host if made else "127.0.0.1"
        port = stack.enter_context(_server(artifact, made.command_prefix if made else [], host))
        for each in links:
            progress(f"{each.bandwidth_mb_s:g} MB/s, RTT {each.rtt_ms:g} ms, loss {each.loss:.0%}")
            if made:
                made.shape(each.bandwidth_mb_s)
            with ExitStack() as inner:
                address = f"http://{host}:{port}"
                if not made or each.rtt_ms or each.loss:
                    address = f"http://127.0.0.1:{inner.enter_context(proxy((host, port), each, shaped=not made))}"
                samples, failed, download_bytes = asyncio.run(_ask(address, H, requests))
            rows.append(row(each, samples, failed, tolerance))
    return {"download_bytes": download_bytes, "links": rows}


async def _ask(address: str, H: "Arrays", requests: int) -> Any:
    from cocorrrec_export.profiling.link import Stamps, measure
    from cocorrrec_export.serving.client import GcnClient

    size = 0
    async with GcnClient(address, deadline_s=CLIENT_DEADLINE_S, retries=0) as client:

        async def ask(upload: Any) -> Stamps:
            nonlocal size
            answer = await client.correct(upload)
            size = sum(array.nbytes for array in answer.tensors.values())
            assert answer.timing is not None, "the server runs with --server-timing"
            return Stamps(answer.timing.received, answer.timing.answered)

        samples, failed = await measure(ask, H["H"].astype("float32", copy=False), requests)
    return samples, failed, size


@contextmanager
def _server(artifact: Path, prefix: list[str], host: str) -> Iterator[int]:
    """``cocorr-serve gcn`` in a process of its own; gives its port."""
    import json
    import subprocess
    import sys

    program = "from cocorrrec_export.cli.serve import main; main()"
    arguments = [
        "gcn",
        str(artifact),
        "--host",
        host,
        "--port",
        "0",
        "--json",
        "--server-timing",
        "--drain-seconds",
        "0",
    ]
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise CocorrrecError(f"the server did not start: {process.communicate()[1].strip()}")
        yield int(json.loads(line)["address"].rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.communicate()


def _write(document: dict[str, Any], output: Path) -> None:
    """Both reports, each complete or not at all."""
    import json

    from cocorrrec_export.files import publish_file
    from cocorrrec_export.profiling.link import html_report

    for name, text in (("link.json", json.dumps(document, allow_nan=False)), ("link.html", html_report(document))):
        with publish_file(output / name) as staging:
            staging.write_text(text, encoding="utf-8")
