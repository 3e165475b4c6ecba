"""``cocorr-export parity``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options

EPILOG = """
Examples:

  cocorr-export parity dist/scn-executorch-int8

  cocorr-export parity --architecture din

  cocorr-export parity dist/gcn-onnx-fp32 --model models/mine --json
"""


def parity(
    artifact: Annotated[
        Path | None, typer.Argument(help="Folder of an export. Default: the newest under dist/.")
    ] = None,
    architecture: options.Architecture = None,
    model: Annotated[
        str | None, typer.Option(help="The model it was made from. Default: the shipped one of the manifest's name.")
    ] = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Check an export again: its hashes, its tensors, and how it ranks, through its own runtime."""
    from cocorrrec_export.artifact.manifest import newest_artifact
    from cocorrrec_export.export import pipeline

    path = artifact or newest_artifact(Path("dist"), architecture=architecture)
    with console.steps() as progress:
        verdict = pipeline.check(path, model=model, data=data, architecture=architecture, progress=progress)
    if json:
        console.print_json({"path": str(path), "parity": verdict.as_dict()})
    else:
        console.print_parity(str(path), verdict.as_dict())
