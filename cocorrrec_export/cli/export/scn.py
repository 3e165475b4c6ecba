"""``cocorr-export scn``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.targets import find_target

EPILOG = """
Examples:

  cocorr-export scn --target executorch

  cocorr-export scn --target tflite --precision int8 --out build --json

  cocorr-export scn --target all --precision int8

  cocorr-export scn --target coreml --model models/mine --candidates 500

  cocorr-export scn --target tflite --precision int8 --recommend 20

  cocorr-export scn --target executorch --architecture sasrec

  cocorr-export scn --target onnx --model cocorrrec-beauty --data beauty.csv.gz

  cocorr-export scn --target executorch --recipe my-recipe.toml
"""


def scn(
    target: options.ScnTarget,
    precision: options.Precision = None,
    recipe: options.Recipe = None,
    model: options.Model = None,
    architecture: options.Architecture = None,
    out: options.Out = Path("dist"),
    data: options.Data = None,
    candidates: Annotated[
        int | None, typer.Option(help="Candidates of one call. Default: what the recipe says.")
    ] = None,
    recommend: Annotated[
        int | None,
        typer.Option(metavar="K", help="Add the entry point recommend: the K best of the whole catalog."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Export the on-device model, or a baseline, and prove that the file still ranks the same.

    Writes OUT/scn-TARGET-PRECISION with the file, its manifest and test vectors; nothing, if parity fails. A baseline's
    folder starts with its architecture. With '--target all' a target that fails does not stop the others; the command
    then ends with 1.
    """
    from cocorrrec_export.artifact.recipe import choose_recipes
    from cocorrrec_export.extras import require

    chosen = choose_recipes("scn", target, precision, recipe)
    recipes = [x.with_candidates(candidates).with_recommend(recommend) for x in chosen]
    require("train" if target == "all" else find_target(target).extra)
    from cocorrrec_export.export import pipeline

    with console.steps() as progress:
        progress("loading the model")
        source = pipeline.open_source(model, data, architecture=architecture, notice=console.log)
        if target != "all":
            artifact = pipeline.export(source, recipes[0], out, progress=progress)
        else:
            made, failed = pipeline.export_each(source, recipes, out, progress=progress)
    if target != "all":
        console.print_artifact(artifact, as_json=json)
    else:
        console.print_artifacts(made, failed, as_json=json)
        if failed:
            raise typer.Exit(1)
