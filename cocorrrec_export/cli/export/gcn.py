"""``cocorr-export gcn``."""

from pathlib import Path

from cocorrrec_export.cli import console, options
from cocorrrec_export.targets import find_target

EPILOG = """
Examples:

  cocorr-export gcn --target onnx

  cocorr-export gcn --target onnx --model models/mine --out build --json
"""


def gcn(
    target: options.GcnTarget = "onnx",
    precision: options.Precision = None,
    recipe: options.Recipe = None,
    model: options.Model = None,
    out: options.Out = Path("dist"),
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Export the cloud model for ONNX Runtime, with a dynamic batch.

    Writes OUT/gcn-onnx-PRECISION with the file, its manifest and test vectors; nothing, if parity fails.
    """
    from cocorrrec_export.artifact.recipe import choose_recipe
    from cocorrrec_export.extras import require

    chosen = choose_recipe("gcn", target, precision=precision, recipe_file=recipe)
    require(find_target(target).extra)
    from cocorrrec_export.export import pipeline

    with console.steps() as progress:
        progress("loading the model")
        source = pipeline.open_source(model, data, notice=console.log)
        artifact = pipeline.export(source, chosen, out, progress=progress)
    console.print_artifact(artifact, as_json=json)
