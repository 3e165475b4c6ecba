"""Options that more than one command has, each defined once."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.resources import DEFAULT_MODEL

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of a table.")]
Model = Annotated[
    str | None,
    typer.Option("--model", help="A shipped model's name, or the folder of your own.", show_default=DEFAULT_MODEL),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        "--architecture",
        help="cocorrrec, or a baseline: din, gru4rec, sasrec, bert4rec, mamba4rec. Picks what ships, or was exported.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder that the result goes into.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Interactions: CSV or RecBole .inter, plain or gzipped. Default: the model's own."),
]
RequiredData = Annotated[Path, typer.Option("--data", help="Interactions: CSV or RecBole .inter, plain or gzipped.")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="Picks a shipped recipe: fp32, fp16, int8 or int4. Default: fp32.")
]
Recipe = Annotated[Path | None, typer.Option("--recipe", help="A recipe file of your own, instead of --precision.")]
