"""Options that more than one command has, each defined once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cocorrrec_export.errors import UsageError
from cocorrrec_export.resources import DEFAULT_MODEL
from cocorrrec_export.targets import ALL_TARGETS, Kind, targets_of

_Number = TypeVar("_Number", int, float)
_FILES = "CSV, RecBole .inter, Amazon or Yelp, plain or gzipped, or a cut"
_COLUMN = "Header or JSON key of the {0}; its place from 1 in a file without header. Default: {0}, or the format's."


def choice(option: str, choices: Sequence[str], help: str, *, show_default: bool | str = True) -> Any:
    """An option that lists and completes its choices; what takes the value checks it, and names the nearest."""
    return typer.Option(
        option,
        metavar=f"[{'|'.join(choices)}]",
        autocompletion=lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)],
        help=help,
        show_default=show_default,
    )


def _names(kind: Kind) -> list[str]:
    return [row.name for row in targets_of(kind)]


_PRECISIONS = tuple(dict.fromkeys(x for row in targets_of("scn") for x in row.programs["scn"].precisions))
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
    typer.Option("--data", help=f"Interactions: {_FILES}. Default: the model's own."),
]
RequiredData = Annotated[Path, typer.Option("--data", help=f"Interactions: {_FILES}.")]
DataFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the file: csv (any with a header, or .inter), amazon-ratings, amazon-reviews or yelp-reviews. "
        "Default: auto, told by its name and first line.",
    ),
]
UserColumn = Annotated[str | None, typer.Option(help=_COLUMN.format("user"))]
ItemColumn = Annotated[str | None, typer.Option(help=_COLUMN.format("item"))]
TimeColumn = Annotated[
    str | None,
    typer.Option(
        help="Header of the column to order by. Default: timestamp, time or order, if there, or the format's."
    ),
]
RatingColumn = Annotated[
    str | None, typer.Option(help="Header of the rating column. Default: rating, or the format's.")
]
MinRating = Annotated[
    float | None, typer.Option(help="Keep interactions with at least this rating. Default: ratings are not looked at.")
]
MinItem = Annotated[int | None, typer.Option(help="Then items with at least this many interactions.")]
MinUser = Annotated[int | None, typer.Option(help="Then users with at least this many.")]
ScnTarget = Annotated[str, choice("--target", (*_names("scn"), ALL_TARGETS), "Where the file is to run.")]
GcnTarget = Annotated[
    str,
    choice("--target", _names("gcn"), "Where the file is to run: the cloud model is served by ONNX Runtime alone."),
]
Precision = Annotated[
    str | None, choice("--precision", _PRECISIONS, "Precision of a shipped recipe.", show_default="fp32")
]
Recipe = Annotated[Path | None, typer.Option("--recipe", help="A recipe file of your own, instead of --precision.")]


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of ``settings`` that are not None."""
    return {key: value for key, value in settings.items() if value is not None}


def data_settings(
    format: str | None,
    user_column: str | None,
    item_column: str | None,
    time_column: str | None,
    rating_column: str | None,
    min_rating: float | None,
    min_item: int | None,
    min_user: int | None,
) -> dict[str, Any]:
    """What the options of the data ask for, by dotted key of a config."""
    return given(
        {
            "data.format": format,
            "data.columns.user": user_column,
            "data.columns.item": item_column,
            "data.columns.time": time_column,
            "data.columns.rating": rating_column,
            "data.filters.min_rating": min_rating,
            "data.filters.min_item_interactions": min_item,
            "data.filters.min_user_interactions": min_user,
        }
    )


def numbers(text: str, option: str, kind: type[_Number], *, low: float, high: float) -> tuple[_Number, ...]:
    """The numbers of ``"1,2,4"``.

    Raises:
        UsageError: it is something else, or a number is out of range or given twice.
    """
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(low <= number <= high for number in found):
        raise UsageError(f"{option} takes numbers from {low} to {high} with commas between them, got '{text}'")
    if len(set(found)) < len(found):
        raise UsageError(f"{option} takes each number once, got '{text}'")
    return found
