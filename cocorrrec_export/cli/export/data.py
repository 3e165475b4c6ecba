"""``cocorr-export data``: make a cut of a file of interactions, and count what is in it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.cli.root import App
from cocorrrec_export.errors import UsageError

if TYPE_CHECKING:
    from cocorrrec_export.data.interactions import Interactions
    from cocorrrec_export.data.sources import DataSource

EPILOG = """
Examples:

  cocorr-export data statistics ratings_Beauty.csv --min-item 3 --min-user 13

  cocorr-export data prepare ratings_Beauty.csv --min-item 3 --min-user 13 --out beauty.cut
"""
PREPARE_EPILOG = """
Examples:

  cocorr-export data prepare ratings_Beauty.csv --min-item 3 --min-user 13 --out beauty.cut

  cocorr-export data prepare yelp_academic_dataset_review.json --min-item 10 --min-user 10 --out yelp.cut

  cocorr-export data prepare reviews_Electronics_5.json.gz --min-rating 4 --out electronics.cut --json

  cocorr-export train --data beauty.cut --out models/beauty
"""
STATISTICS_EPILOG = """
Examples:

  cocorr-export data statistics beauty.cut

  cocorr-export data statistics Beauty_and_Personal_Care.csv.gz --min-item 5 --min-user 5 --json
"""

app = App(no_args_is_help=True, help="Prepare files of interactions, and count what is in them.", epilog=EPILOG)

File = Annotated[
    Path, typer.Argument(help="Interactions: CSV, RecBole .inter, Amazon or Yelp, plain or gzipped, or a cut.")
]


@app.command(epilog=PREPARE_EPILOG)
def prepare(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="The cut: one file.")],
    format: options.DataFormat = None,
    user_column: options.UserColumn = None,
    item_column: options.ItemColumn = None,
    time_column: options.TimeColumn = None,
    rating_column: options.RatingColumn = None,
    min_rating: options.MinRating = None,
    min_item: options.MinItem = None,
    min_user: options.MinUser = None,
    user_ids: Annotated[
        bool, typer.Option("--user-ids/--no-user-ids", help="Keep the users' ids in the cut, or number them.")
    ] = True,
    json: options.Json = False,
) -> None:
    """Filter, number and order a file of interactions once, and keep the result as one compact file.

    A model trained from the cut is bit for bit the one trained from the original file with the same filters.
    """
    from cocorrrec_export.data.sources import make_cut
    from cocorrrec_export.files import require_writable

    if out.is_dir():
        raise UsageError(f"{out}: is a folder; give the file of the cut with --out")
    if out.resolve() == file.resolve():
        raise UsageError(f"{out}: --out is the file itself; give another name")
    require_writable(out)
    source = _source(format, user_column, item_column, time_column, rating_column, min_rating, min_item, min_user)
    with console.reading() as progress:
        interactions = make_cut(file, source, out, user_ids=user_ids, progress=progress)
    facts = {"path": str(out), "bytes": out.stat().st_size, "filters": source.as_table()["filters"]}
    _print(f"cut of {file}", facts, interactions, as_json=json)


@app.command(epilog=STATISTICS_EPILOG)
def statistics(
    file: File,
    format: options.DataFormat = None,
    user_column: options.UserColumn = None,
    item_column: options.ItemColumn = None,
    time_column: options.TimeColumn = None,
    rating_column: options.RatingColumn = None,
    min_rating: options.MinRating = None,
    min_item: options.MinItem = None,
    min_user: options.MinUser = None,
    json: options.Json = False,
) -> None:
    """Count users, items and interactions after the filters: the figures of the paper's Table 2."""
    from cocorrrec_export.data.sources import load_source, resolve_source

    source = _source(format, user_column, item_column, time_column, rating_column, min_rating, min_item, min_user)
    with console.reading() as progress:
        interactions = load_source(file, source, progress=progress)
    facts = {"path": str(file), "filters": resolve_source(file, source).as_table()["filters"]}
    _print(str(file), facts, interactions, as_json=json)


def _source(*data_options: Any) -> "DataSource":
    from cocorrrec_export.data.sources import DataSource
    from cocorrrec_export.toml import override

    tables: dict[str, Any] = {"data": {}}
    override(tables, options.data_settings(*data_options), where="options")
    return DataSource.from_dict(tables["data"], where="options")


def _print(title: str, facts: dict[str, Any], interactions: "Interactions", *, as_json: bool) -> None:
    from dataclasses import asdict

    from cocorrrec_export.data.statistics import statistics as count

    counts = asdict(count(interactions))
    if as_json:
        digest = interactions.vocabulary_sha256
        console.print_json(facts | {"vocabulary_sha256": digest, "statistics": counts})
        return
    rows = [
        [key.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:.4g}"]
        for key, value in counts.items()
    ]
    if "bytes" in facts:
        rows += [["file", facts["path"]], ["bytes", f"{facts['bytes']:,}"]]
    console.print_table(title, ("", ""), rows)
