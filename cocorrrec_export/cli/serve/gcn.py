"""``cocorr-serve gcn``: the cloud model behind HTTP."""

import re
from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console
from cocorrrec_export.errors import UsageError

EPILOG = """
Examples:

  cocorr-serve gcn

  cocorr-serve gcn dist/gcn-onnx-fp32 --host 0.0.0.0 --port 8080 --token-file token.txt

  cocorr-serve gcn --port 0 --json --max-batch 128 --max-queue 1024

  cocorr-serve gcn --tls-cert server.pem --tls-key server.key

  cocorr-serve gcn --unix-socket /run/cocorr/gcn.sock --path-prefix /recommend --cors-origin https://app.example
"""


def gcn(
    artifact: Annotated[
        Path | None, typer.Argument(help="Folder that 'cocorr-export gcn' wrote. Default: the newest under dist.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    unix_socket: Annotated[
        Path | None, typer.Option(help="Listen on this Unix socket instead of host and port.")
    ] = None,
    path_prefix: Annotated[
        str, typer.Option(help="What every path begins with, such as /recommend: for a proxy that leaves it there.")
    ] = "",
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="An origin whose pages may ask, such as https://app.example, or *; may be given again."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    max_batch: Annotated[int, typer.Option(min=1, help="Users of one batch, and of one request.")] = 64,
    max_delay_us: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Microseconds that a batch that is not full waits for more.")
    ] = 0,
    max_queue: Annotated[int, typer.Option(min=1, help="Users that may wait; beyond them the answer is 503.")] = 512,
    max_body: Annotated[int, typer.Option(min=4096, help="Bytes of one request's body.")] = 1 << 20,
    max_connections: Annotated[int, typer.Option(min=1, help="Connections that may be open.")] = 4096,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a client may take to send a request.")] = 10.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads that compute one batch.")] = 1,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM): serve HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key (PEM) of the certificate.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token that clients must send; health needs none.")
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="After SIGTERM: seconds of service with readiness off, for load balancers.")
    ] = 3.0,
    server_timing: Annotated[
        bool, typer.Option("--server-timing", help="Answer with a Server-Timing header: queue, compute, clock.")
    ] = False,
    log_requests: Annotated[bool, typer.Option("--log-requests", help="Log a line for each request.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with the address on stdout when ready.")
    ] = False,
) -> None:
    """Serve an exported GCN by the Open Inference Protocol v2: health, metadata, infer, and Prometheus metrics.

    SIGTERM drains: readiness goes off, requests that were taken are answered, then the process ends with 0.
    """
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key belong together: give both")
    if path_prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path_prefix):
        raise UsageError(f"--path-prefix is '{path_prefix}': give one that starts with / and does not end with it")
    from cocorrrec_export.artifact.manifest import newest_artifact
    from cocorrrec_export.extras import require

    require("serve")
    from cocorrrec_export.serving import listening, logs, server
    from cocorrrec_export.serving.app import ServingLimits, Surroundings, create_app
    from cocorrrec_export.serving.http import Origins
    from cocorrrec_export.serving.model import open_served

    token = listening.read_token(token_file) if token_file else None
    opened, served = open_served(artifact or newest_artifact(Path("dist"), kind="gcn"), threads=threads)
    limits = ServingLimits(
        max_batch=max_batch,
        max_queue=max_queue,
        max_delay_s=max_delay_us / 1e6,
        max_body_bytes=max_body,
    )
    made = create_app(
        served,
        limits,
        token=token,
        timing=server_timing,
        log_requests=log_requests,
        surroundings=Surroundings(path_prefix=path_prefix, origins=Origins(cors_origin or ())),
    )
    facts = {"model": served.name, "version": served.version, "artifact": str(opened.path)}

    def on_start(address: str) -> None:
        if json:
            console.print_json_line({"address": address, **facts})
        server.log_start({"address": address, **facts})

    logs.log_to_stderr().on_drop = made.metrics.log_dropped.inc
    if token_file and listening.readable_by_others(token_file):
        logs.warn(f"{token_file} may be read by other users of this machine: chmod 600 {token_file}")
    server.serve(
        made,
        server.ServerOptions(
            host=host,
            port=port,
            unix_socket=unix_socket,
            tls_cert=tls_cert,
            tls_key=tls_key,
            max_connections=max_connections,
            stall_timeout_s=timeout,
            drain_s=drain_seconds,
        ),
        max_body_bytes=max_body,
        on_start=on_start,
    )
