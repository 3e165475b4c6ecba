"""Measure the exchange of an exported SCN with a real server, over links of limited bandwidth, delay and loss."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.artifact.copies import checked_copy
from cocorrrec_export.artifact.manifest import Artifact, newest_artifact, open_artifact
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.isolation import child_environment, in_child, python_command
from cocorrrec_export.link.document import (
    Sample,
    Stamps,
    Tolerance,
    measure,
    measured_tolerance,
    profiled_tolerance,
    row,
)
from cocorrrec_export.link.shaping import Link, Namespace, choose_shaping, namespace, proxy
from cocorrrec_export.runtime.base import Runtime
from cocorrrec_export.runtime.open import open_runtime, rehearse
from cocorrrec_export.serving.client import GcnClient
from cocorrrec_export.serving.phone import VECTOR

CLIENT_DEADLINE_S = 10.0
"""Longer than any tolerance: what is late is decided by the tolerance, not by the client."""
_SERVER = "from cocorrrec_export.cli.serve.app import main; main()"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure."""

    scn: Path | None
    """Folder of the on-device model; None takes the newest under ``dist``."""
    gcn: Path | None
    """Folder of the cloud model; None takes the newest under ``dist``."""
    links: tuple[Link, ...]
    shaping: str
    """``auto``, ``namespace`` or ``proxy``."""
    requests: int
    """Exchanges on each link."""
    candidates: int
    """How many the phone ranks meanwhile."""
    profile: Path | None = None
    """A ``profile.json``: take the tolerance from that machine."""
    deadline_ms: float | None = None
    """The app's own deadline as the tolerance; without it and a profile, the tolerance is measured on this host."""


def measure_links(request: Request, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """Start the server, and ask it over each link as the phone does, one request after another.

    Returns:
        The document that :mod:`cocorrrec_export.link.document` shows: times in milliseconds, sizes in bytes.

    Raises:
        UsageError: an artifact is of the wrong kind or absent, or the shaping is unknown.
        CocorrrecError: the server does not start, or the profile holds no time of ``rank``.
    """
    progress("loading the on-device model")
    artifact = request.gcn or newest_artifact(Path("dist"), kind="gcn")
    upload, tolerance = _phone(request, artifact)
    way = choose_shaping(request.shaping)
    document = {
        "shaping": way,
        "upload_bytes": upload.nbytes,
        "tolerance": {"ms": tolerance.seconds * 1e3, "source": tolerance.source},
    }
    with ExitStack() as stack:
        made = stack.enter_context(namespace()) if way == "namespace" else None
        progress("starting the server")
        host = made.host if made else "127.0.0.1"
        port = stack.enter_context(serve(artifact, made.command_prefix if made else [], host))
        rows, download_bytes = [], 0
        for link in request.links:
            progress(f"{link.bandwidth_mb_s:g} MB/s, RTT {link.rtt_ms:g} ms, loss {link.loss:.0%}")
            with _shaped(link, made, (host, port)) as address:
                samples, failed, download_bytes = asyncio.run(_ask(address, upload, request.requests))
            rows.append(row(link, samples, failed, tolerance))
    return document | {"download_bytes": download_bytes, "links": rows}


def _phone(request: Request, gcn: Path) -> tuple[NDArray[np.generic], Tolerance]:
    """The upload of a history, and how long the phone can do without the correction."""
    artifact = open_artifact(request.scn or newest_artifact(Path("dist"), kind="scn"))
    if artifact.kind != "scn":
        raise UsageError(f"--scn {artifact.path} holds a {artifact.kind}")
    cloud_artifact = open_artifact(gcn)
    mine, theirs = (each.manifest["model"] for each in (artifact, cloud_artifact))
    if mine["sha256"] != theirs["sha256"]:
        raise UsageError(
            f"{artifact.path} was made from {mine['name']} ({mine['sha256'][:16]}), {gcn} from {theirs['name']} "
            f"({theirs['sha256'][:16]}): export both halves of one model"
        )
    with checked_copy(artifact) as program:
        in_child(f"running {artifact.program}", rehearse, artifact.target, program, artifact.entry_points)
        runtime = open_runtime(artifact.target, program, artifact.entry_points)
        return _upload_and_tolerance(request, artifact, cloud_artifact, runtime)


def _upload_and_tolerance(
    request: Request, artifact: Artifact, gcn: Artifact, runtime: Runtime
) -> tuple[NDArray[np.generic], Tolerance]:
    if not {"rank", "rank_corrected"} <= runtime.entry_points.keys():
        raise UsageError(f"{artifact.path} lacks the entry points rank and rank_corrected")
    (cloud,) = gcn.entry_points
    takes = [spec.name for spec in runtime.entry_points["rank_corrected"].inputs[2:]]
    gives = [spec.name for spec in cloud.outputs]
    if takes != gives:
        raise UsageError(
            f"{artifact.path} takes {' and '.join(takes)} from the cloud, {gcn.path} answers with "
            f"{' and '.join(gives)}: export both halves of one model"
        )
    length = int(runtime.entry_points["rank"].inputs[0].shape[1])
    ids = _clicks(length)
    upload = _clicks(int(cloud.inputs[0].shape[1])) if takes == [VECTOR] else runtime.run("encode", {"ids": ids})["H"]
    if request.deadline_ms is not None:
        return upload, Tolerance(request.deadline_ms / 1e3, "the app's own deadline, given by --deadline-ms")
    if request.profile is not None:
        return upload, profiled_tolerance(request.profile)
    items = 1 + np.arange(request.candidates, dtype=np.int32) % 20
    return upload, measured_tolerance(runtime, ids, items)


def _clicks(count: int) -> NDArray[np.int32]:
    """A history ``[1, count]``; which clicks they are changes no time."""
    return 1 + np.arange(count, dtype=np.int32)[None] % 20


@contextmanager
def _shaped(link: Link, made: Namespace | None, server: tuple[str, int]) -> Iterator[str]:
    """The server's address behind ``link``: the namespace limits bandwidth, the proxy everything else."""
    if made:
        made.shape(link.bandwidth_mb_s)
    if made and not (link.rtt_ms or link.loss):
        yield f"http://{server[0]}:{server[1]}"
        return
    with proxy(server, link, shaped=not made) as port:
        yield f"http://127.0.0.1:{port}"


async def _ask(address: str, upload: NDArray[np.generic], requests: int) -> tuple[list[Sample], int, int]:
    """Samples, failures, and the bytes of an answer's tensors."""
    size = 0
    async with GcnClient(address, deadline_s=CLIENT_DEADLINE_S, retries=0) as client:

        async def ask(sent: Any) -> Stamps:
            nonlocal size
            answer = await client.correct(sent)
            size = sum(array.nbytes for array in answer.tensors.values())
            assert answer.timing is not None, "the server runs with --server-timing"
            return Stamps(answer.timing.received, answer.timing.answered)

        samples, failed = await measure(ask, upload, requests)
    return samples, failed, size


@contextmanager
def serve(artifact: Path, prefix: Sequence[str], host: str) -> Iterator[int]:
    """``cocorr-serve gcn`` in a process of its own; gives its port.

    Args:
        artifact: folder of the cloud model.
        prefix: of the command, such as one that enters a network namespace.
        host: address to listen on.

    Raises:
        CocorrrecError: the server ended before it was ready; the message has its words.
    """
    options = ["--host", host, "--port", "0", "--json", "--server-timing", "--drain-seconds", "0"]
    command = [*prefix, *python_command("-c", _SERVER), "gcn", str(artifact), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment()
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
