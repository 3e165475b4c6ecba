"""``cocorr-export parity``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options

EPILOG = """
Examples:

  cocorr-export parity dist/scn-executorch-int8

  cocorr-export parity dist/gcn-onnx-fp32 --model models/mine --json
"""


def parity(
    artifact: Annotated[Path, typer.Argument(help="Folder of an export.")],
    model: Annotated[
        str | None, typer.Option(help="The model it was made from. Default: the shipped one of the manifest's name.")
    ] = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Check an export again: its hashes, its tensors, and how it ranks, through its own runtime."""
    from cocorrrec_export.export import pipeline

    with console.steps() as progress:
        verdict = pipeline.check(artifact, model=model, data=data, progress=progress)
    if json:
        console.print_json({"path": str(artifact), "parity": verdict.as_dict()})
    else:
        console.print_parity(str(artifact), verdict.as_dict())
