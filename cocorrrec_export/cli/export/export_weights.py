"""``cocorr-export export-weights``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options

EPILOG = """
Examples:

  cocorr-export export-weights models/mine --layout recbole --out weights.pt

  cocorr-export export-weights models/mine --layout plain --out weights.safetensors
"""


def export_weights(
    model: Annotated[str, typer.Argument(help="A shipped model's name, or the folder of your own.")],
    out: Annotated[Path, typer.Option("--out", help="New file that ends with .safetensors, .pt, .pth or .bin.")],
    layout: Annotated[
        str, typer.Option(help="Whose names the tensors have: recbole, release, pmixer, mamba4rec or plain.")
    ] = "plain",
    json: options.Json = False,
) -> None:
    """Write a model's weights for another library, bit for bit as they were imported or trained."""
    from cocorrrec_export.importing.importer import export_weights as write
    from cocorrrec_export.modeling.store import find_model, open_model

    folder = open_model(find_model(model))
    write(folder, layout, out)
    if json:
        console.print_json({"path": str(out), "layout": layout, "architecture": folder.config.architecture})
    else:
        console.log(f"weights of {folder.name} in the layout {layout}: {out}")
