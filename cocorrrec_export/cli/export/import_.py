"""``cocorr-export import``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocorrrec_export.cli import console, options

if TYPE_CHECKING:
    from cocorrrec_export.importing.importer import Imported

EPILOG = """
Examples:

  cocorr-export import sasrec-weights.pt --out models/mine

  cocorr-export import sasrec-weights.pt --num-heads 4 --hidden-act relu --layer-norm-eps 1e-5 --out models/mine

  cocorr-export import weights.safetensors --items items.csv --data clicks.csv --out models/mine

  cocorr-export import gru4rec.pt --sequence-length 20 --out models/mine --json
"""


@options.with_data_options
def import_(
    file: Annotated[Path, typer.Argument(help="A .safetensors file, or a state_dict that torch.save wrote.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new model; it must be new or empty.")],
    layout: Annotated[
        str | None,
        typer.Option(help="recbole, release, pmixer, mamba4rec or plain. Default: told by the names of the tensors."),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="What the weights are of, where two architectures have the same names.")
    ] = None,
    num_heads: Annotated[
        int | None, typer.Option("--num-heads", "--n-heads", help="Heads of the attention. Default: the library's.")
    ] = None,
    hidden_act: Annotated[
        str | None, typer.Option(help="relu, gelu, gelu_new, swish, tanh or sigmoid. Default: the library's.")
    ] = None,
    layer_norm_eps: Annotated[float | None, typer.Option(help="Epsilon of the norms. Default: the library's.")] = None,
    norm_position: Annotated[
        str | None, typer.Option(help="Of pmixer's SASRec: post, pre or query. Default: by its version.")
    ] = None,
    sequence_length: Annotated[
        int | None,
        typer.Option(
            "--sequence-length",
            "--max-item-list-length",
            help="Clicks that the model reads, where no table of positions tells. Default: the library's.",
        ),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(help="CSV file of the item ids, in the order of the model's rows, or with these as column 'id'."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With --items: interactions to hold users out of, for the parity of rankings.")
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="Instead of --data: safetensors file with histories [U, L] and candidates [U, C], int32."),
    ] = None,
    data_settings: options.DataSettings = None,
    name: Annotated[str | None, typer.Option(help="Name of the model. Default: the name of --out.")] = None,
    json: options.Json = False,
) -> None:
    """Make a model folder of weights that RecBole, another library or the paper's authors trained.

    The layout is told by the names of the tensors, and sizes by their shapes. What neither says is the library's
    default, and the report lists it. Files with pickled objects are refused: no code in a file is ever run.
    """
    from cocorrrec_export.importing.importer import import_model

    known = {
        "num_heads": num_heads,
        "hidden_act": hidden_act,
        "layer_norm_eps": layer_norm_eps,
        "norm_position": norm_position,
        "sequence_length": sequence_length,
    }
    imported = import_model(
        file,
        out,
        options.given(known),
        layout=layout,
        architecture=architecture,
        name=name,
        items=options.items_of(items, data, data_settings or {}),
        evaluation=evaluation,
    )
    _print(imported, as_json=json)


def _print(imported: "Imported", *, as_json: bool) -> None:
    if as_json:
        facts = {name: getattr(imported, name) for name in ("layout", "architecture", "assumed", "parameters", "users")}
        console.print_json({"path": str(imported.path)} | facts)
        return
    rows = [
        ["recognized", imported.title],
        ["parameters", f"{imported.parameters:,}"],
        ["held-out users", str(imported.users) if imported.users else "none: give --items and --data, or --evaluation"],
        *([f"assumed {key}", str(value)] for key, value in imported.assumed.items()),
    ]
    console.print_table(f"model: {imported.path}", ("", ""), rows)
