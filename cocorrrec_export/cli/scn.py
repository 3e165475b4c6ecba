"""``cocorr-export scn``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.resources import DEFAULT_MODEL

EPILOG = """
Examples:

  cocorr-export scn --target executorch

  cocorr-export scn --target executorch --precision int8 --out build --json

  cocorr-export scn --target executorch --model models/mine --candidates 500

  cocorr-export scn --target executorch --model cocorrrec-beauty --data beauty.csv.gz

  cocorr-export scn --target executorch --recipe my-recipe.toml
"""


def scn(
    target: Annotated[str, typer.Option("--target", help="Where it is to run: executorch.")],
    precision: options.Precision = None,
    recipe: options.Recipe = None,
    model: options.Model = DEFAULT_MODEL,
    out: options.Out = Path("dist"),
    data: options.Data = None,
    candidates: Annotated[
        int | None, typer.Option(help="Candidates of one call. Default: what the recipe says.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Export the phone's half, and prove that the file still ranks the same.

    Writes OUT/scn-TARGET-PRECISION with the file, its manifest and test vectors; nothing, if parity fails.
    """
    from cocorrrec_export.export import pipeline
    from cocorrrec_export.export.recipes import choose_recipe

    chosen = choose_recipe("scn", target, precision=precision, recipe_file=recipe).with_candidates(candidates)
    with console.steps() as progress:
        progress("loading the model")
        artifact = pipeline.export(pipeline.open_source(model, data), chosen, out, progress=progress)
    console.print_artifact(artifact, as_json=json)
