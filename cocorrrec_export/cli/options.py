"""Options that more than one command has, each defined once."""

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

from cocorrrec_export.errors import UsageError
from cocorrrec_export.resources import DEFAULT_MODEL
from cocorrrec_export.targets import ALL_TARGETS, Kind, targets_of

if TYPE_CHECKING:
    from cocorrrec_export.importing.importer import Items

_Number = TypeVar("_Number", int, float)
FILES = (
    "CSV of any separator, RecBole .inter, Parquet, Arrow, JSON, Amazon, Yelp or MIND, compressed or not, a folder or "
    "pattern of such files, or a prepared data set"
)
_COLUMN = "Header or JSON key of the {0}, or its place from 1. Default: a usual name such as {1}, or the format's."


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
    typer.Option("--data", help=f"Interactions: {FILES}. Default: the model's own."),
]
RequiredData = Annotated[Path, typer.Option("--data", help=f"Interactions: {FILES}.")]
DataSettings = dict[str, Any] | None
"""Of :func:`with_data_options`."""


class _DataOption(NamedTuple):
    key: str
    """Dotted key of a config."""
    annotation: Any
    values: dict[Any, Any] | None = None
    """What the option's values are in a config, where they are not the same."""


def _data_option(key: str, kind: Any, option: str, help: str, values: dict[Any, Any] | None = None) -> _DataOption:
    return _DataOption(key, Annotated[kind | None, typer.Option(option, help=help, show_default=False)], values)


_DATA_OPTIONS = {
    "format": _data_option(
        "data.format",
        str,
        "--format",
        "csv, parquet, arrow, json, mind, amazon-ratings, amazon-reviews or yelp-reviews. Default: auto, by content.",
    ),
    "user_column": _data_option("data.columns.user", str, "--user-column", _COLUMN.format("user", "user_id")),
    "item_column": _data_option("data.columns.item", str, "--item-column", _COLUMN.format("item", "item_id")),
    "time_column": _data_option(
        "data.columns.time", str, "--time-column", _COLUMN.format("time that orders the clicks", "timestamp")
    ),
    "rating_column": _data_option("data.columns.rating", str, "--rating-column", _COLUMN.format("rating", "stars")),
    "file_order": _data_option(
        "data.reading.order",
        bool,
        "--file-order/--time-order",
        "Rows count in the order of the file, or by time. Default: by time, if there is one.",
        {True: "file", False: "time"},
    ),
    "time_format": _data_option(
        "data.reading.time_format",
        str,
        "--time-format",
        "seconds, milliseconds, microseconds, nanoseconds, number, or a strptime pattern. Default: by the values.",
    ),
    "unknown_times": _data_option(
        "data.reading.unknown_times",
        str,
        "--unknown-times",
        "Rows whose time is empty, 0 or -1: refuse the file, drop the rows, or sort them first. Default: refuse.",
    ),
    "ties": _data_option(
        "data.reading.ties",
        str,
        "--ties",
        "Clicks of one user at one time: shuffle them, or keep the order of the file. Default: shuffle.",
    ),
    "separator": _data_option(
        "data.reading.separator",
        str,
        "--separator",
        "comma, tab, semicolon, pipe, space or colons. Default: by content.",
    ),
    "header": _data_option(
        "data.reading.header",
        bool,
        "--header/--no-header",
        "Whether line 1 names the columns. Default: by content.",
        {True: "yes", False: "no"},
    ),
    "encoding": _data_option(
        "data.reading.encoding", str, "--encoding", "Such as latin-1. Default: by the byte order mark, else UTF-8."
    ),
    "keep": _data_option(
        "data.filters.keep", str, "--keep", "Keep events, as event=view,addtocart: a column and its values."
    ),
    "min_rating": _data_option(
        "data.filters.min_rating",
        float,
        "--min-rating",
        "Keep interactions with at least this rating. Default: ratings are not looked at.",
    ),
    "drop_repeats": _data_option(
        "data.filters.drop_repeats",
        str,
        "--drop-repeats",
        "Drop clicks on the item before (consecutive), on any item that the user had before (all), or none. "
        "Default: none.",
    ),
    "max_user": _data_option(
        "data.filters.max_user_interactions", int, "--max-user", "Drop users with more interactions, such as bots."
    ),
    "max_item": _data_option(
        "data.filters.max_item_interactions", int, "--max-item", "Drop items with more interactions."
    ),
    "min_item": _data_option(
        "data.filters.min_item_interactions", int, "--min-item", "Then drop items with fewer interactions."
    ),
    "min_user": _data_option(
        "data.filters.min_user_interactions", int, "--min-user", "Then drop users with fewer interactions."
    ),
    "k_core": _data_option(
        "data.filters.k_core",
        int,
        "--k-core",
        "Then drop items and users with fewer interactions, again and again until none has fewer.",
    ),
    "last": _data_option("data.filters.last", int, "--last", "Then keep the last clicks of each user, this many."),
}


def with_data_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the options of the data in place of its parameter ``data_settings``.

    It is called with what they ask for, by dotted key of a config.
    """
    signature = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name != "data_settings":
            parameters.append(parameter)
            continue
        parameters += [
            inspect.Parameter(name, parameter.kind, default=None, annotation=option.annotation)
            for name, option in _DATA_OPTIONS.items()
        ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        found = {name: values.pop(name) for name in _DATA_OPTIONS}
        settings = {
            option.key: option.values[found[name]] if option.values else found[name]
            for name, option in _DATA_OPTIONS.items()
            if found[name] is not None
        }
        command(data_settings=settings, **values)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return run


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


def items_of(items: Path | None, data: Path | None, settings: dict[str, Any]) -> "Items | None":
    """The external ids of an imported model, from --items, --data and what :func:`data_settings` gives.

    Raises:
        UsageError: options of the data without the file that they are about.
    """
    from cocorrrec_export.data.sources import DataSource
    from cocorrrec_export.importing.importer import Items
    from cocorrrec_export.toml import override

    if items is None:
        if data is not None or settings:
            raise UsageError("--data and its columns need the model's own order of items: give --items FILE too")
        return None
    tables: dict[str, Any] = {}
    override(tables, settings, where="options")
    return Items(items, DataSource.from_dict(tables.get("data", {}), where="options"), data)


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
