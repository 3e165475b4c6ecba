"""``cocorr-export scn``."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.targets import find_target

if TYPE_CHECKING:
    from cocorrrec_export.artifact.recipe import Recipe
    from cocorrrec_export.export.pipeline import Source

EPILOG = """
Examples:

  cocorr-export scn --target executorch

  cocorr-export scn --target tflite --precision int8 --out build --json

  cocorr-export scn --target all --precision int8

  cocorr-export scn --target coreml --model models/mine --candidates 500

  cocorr-export scn --target tflite --precision int8 --recommend 20

  cocorr-export scn --target tflite --precision pq16 --model models/mine --calibrate clicks.csv

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
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Interactions to fit the codes of pq16 and pq8 to, as the model's own are read. Default: no data.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Export the on-device model, or a baseline, and prove that the file still ranks the same.

    Writes OUT/scn-TARGET-PRECISION with the file, its manifest and test vectors; nothing, if parity fails. A baseline's
    folder starts with its architecture. With '--target all' a target that fails does not stop the others; the command
    then ends with 1.

    With --calibrate the codes of product quantization are fitted to what the model's users look for, by training
    clicks alone: the last two clicks of each user, which models are measured on, are not read.
    """
    from cocorrrec_export.artifact.recipe import choose_recipes, require_codes
    from cocorrrec_export.extras import require

    chosen = choose_recipes("scn", target, precision, recipe)
    recipes = [x.with_candidates(candidates).with_recommend(recommend) for x in chosen]
    if calibrate is not None:
        for each in recipes:
            require_codes(each)
        require("pq")
    require("train" if target == "all" else find_target(target).extra)
    from cocorrrec_export.export import pipeline

    with console.steps() as progress:
        progress("loading the model")
        source = pipeline.open_source(model, data, architecture=architecture, notice=console.log)
    if calibrate is not None:
        source = _calibrated(source, calibrate, recipes[0])
    with console.steps() as progress:
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


def _calibrated(source: "Source", data: Path, recipe: "Recipe") -> "Source":
    """The model with codes that are fitted to ``data``, with a progress bar."""
    from cocorrrec_export.cli.progress import TrainingProgress
    from cocorrrec_export.training.calibration import Settings, calibrate

    settings = Settings()
    with TrainingProgress(settings.epochs) as progress:
        found = calibrate(source.folder, source.model, data, recipe.embedding, settings=settings, listener=progress)
    return dataclasses.replace(source, calibrated=found)
