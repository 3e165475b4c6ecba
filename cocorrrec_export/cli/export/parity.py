"""``cocorr-export parity``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.errors import UsageError
from cocorrrec_export.extras import require

EPILOG = """
Examples:

  cocorr-export parity dist/scn-executorch-int8

  cocorr-export parity dist/scn-executorch-int8 --catalog-users 671

  cocorr-export parity --architecture din

  cocorr-export parity dist/gcn-onnx-fp32 --vectors

  cocorr-export parity dist/gcn-onnx-fp32 --model models/mine --json

  cocorr-export parity dist/scn-tflite-int8 --recipe my-recipe.toml
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
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", help="Your own recipe: its limits count instead of the shipped one's."),
    ] = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Compare the test vectors alone: needs neither the model nor torch.")
    ] = False,
    catalog_users: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Held-out users to rank in the whole catalog, which takes a phone's file V / C calls for each. "
            "Default: as many as 10,000 calls allow.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Check an export again: its hashes, its tensors, and how it ranks, through its own runtime."""
    if vectors and (model or data or catalog_users):
        raise UsageError("--vectors compares the test vectors alone: leave --model, --data and --catalog-users out")
    from cocorrrec_export.artifact.manifest import newest_artifact, open_artifact
    from cocorrrec_export.artifact.recipe import load_recipe

    limits = load_recipe(recipe).limits if recipe else None
    path = artifact or newest_artifact(Path("dist"), architecture=architecture)
    with console.steps() as progress:
        if vectors:
            from cocorrrec_export.artifact.copies import checked_copy
            from cocorrrec_export.export.vectors import check_vectors

            progress("checking hashes")
            opened = open_artifact(path, architecture=architecture)
            with checked_copy(opened) as program:
                _, verdict = check_vectors(opened, program, progress, limits=limits)
        else:
            require("train", "or compare the test vectors alone with --vectors")
            from cocorrrec_export.export import pipeline

            verdict = pipeline.check(
                path,
                model=model,
                data=data,
                architecture=architecture,
                limits=limits,
                catalog_users=catalog_users,
                progress=progress,
                notice=console.log,
            )
    if json:
        console.print_json({"path": str(path), "parity": verdict.as_dict()})
    else:
        console.print_parity(str(path), verdict.as_dict())
