"""``cocorr-export data``: prepare a file of interactions, count what is in it, and show one user."""

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

  cocorr-export data statistics events.csv --keep event=view --plot events.png
"""
SHOW_EPILOG = """
Examples:

  cocorr-export data show beauty.cut --user A2EM03F99X3RJZ

  cocorr-export data show ratings.csv --user 17 --json
"""

app = App(no_args_is_help=True, help="Prepare files of interactions, and count what is in them.", epilog=EPILOG)

File = Annotated[Path, typer.Argument(help=f"Interactions: {options.FILES}.")]


@app.command(epilog=PREPARE_EPILOG)
@options.with_data_options
def prepare(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="The prepared data set: one file.")],
    data_settings: options.DataSettings = None,
    user_ids: Annotated[
        bool, typer.Option("--user-ids/--no-user-ids", help="Keep the users' ids, or number them.")
    ] = True,
    json: options.Json = False,
) -> None:
    """Filter, number and order a file of interactions once, and keep the result as one compact file.

    A model trained from it is bit for bit the one trained from the original file with the same filters.
    """
    from cocorrrec_export.data.prepared import begins_as_cut
    from cocorrrec_export.data.sources import make_cut
    from cocorrrec_export.files import require_writable

    if out.is_dir():
        raise UsageError(f"{out}: is a folder; give the file of the prepared data set with --out")
    if out.exists() and file.exists() and out.samefile(file):
        raise UsageError(f"{out}: --out is the file itself; give another name")
    require_writable(out, begins_as_cut)
    source = _source(data_settings)
    with console.reading() as progress:
        interactions = make_cut(file, source, out, user_ids=user_ids, progress=progress)
    facts = {"path": str(out), "bytes": out.stat().st_size, "filters": source.as_table()["filters"]}
    _print(f"cut of {file}", facts, interactions, as_json=json)


@app.command(epilog=STATISTICS_EPILOG)
@options.with_data_options
def statistics(
    file: File,
    data_settings: options.DataSettings = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file: clicks per user, per item and over time.")] = None,
    json: options.Json = False,
) -> None:
    """Count users, items and interactions after the filters, and what flatters or spoils the metrics.

    Ties in time, repeats, test targets that nobody's training clicks have, and the share of the heaviest user.
    """
    from cocorrrec_export.data.sources import read_source
    from cocorrrec_export.files import publish_file, require_writable
    from cocorrrec_export.pictures import is_own_png

    if plot:
        require_writable(plot, is_own_png)

    source = _source(data_settings)
    with console.reading() as progress:
        interactions, source = read_source(file, source, progress=progress)
    if plot:
        from cocorrrec_export.data.plot import plot_data

        with publish_file(plot, is_own_png) as staging:
            plot_data(interactions, staging)
    facts = {"path": str(file), "filters": source.as_table()["filters"]}
    _print(str(file), facts, interactions, as_json=json)


@app.command(epilog=SHOW_EPILOG)
@options.with_data_options
def show(
    file: File,
    user: Annotated[str, typer.Option("--user", help="The user's id, as in the file.")],
    data_settings: options.DataSettings = None,
    json: options.Json = False,
) -> None:
    """Show one user's clicks as they were read, oldest first, with their rows in the file.

    The last one is what the user is tested on, the one before picks the epoch.
    """
    from cocorrrec_export.data.sources import load_source
    from cocorrrec_export.data.statistics import clicks_of

    with console.reading() as progress:
        interactions = load_source(file, _source(data_settings), progress=progress)
    clicks = clicks_of(interactions, user)
    if clicks is None:
        some = ", ".join(interactions.user_ids[:5])
        raise UsageError(f"{file}: no user '{user}' after the filters; there are {interactions.num_users}: {some}, ...")
    if json:
        console.print_json({"path": str(file), "user": user, "clicks": clicks})
        return
    rows = ([str(click[key]) if click[key] is not None else "" for key in ("item", "time", "row")] for click in clicks)
    console.print_table(f"user {user}: {len(clicks)} clicks, oldest first", ("item", "time", "row"), rows)


def _source(data_settings: dict[str, Any] | None) -> "DataSource":
    from cocorrrec_export.data.sources import DataSource
    from cocorrrec_export.toml import override

    tables: dict[str, Any] = {"data": {}}
    override(tables, data_settings or {}, where="options")
    return DataSource.from_dict(tables["data"], where="options")


def _print(title: str, facts: dict[str, Any], interactions: "Interactions", *, as_json: bool) -> None:
    from dataclasses import asdict

    from cocorrrec_export.data.statistics import alarms, quality
    from cocorrrec_export.data.statistics import statistics as count

    counts, found = asdict(count(interactions)), quality(interactions)
    said = alarms(found)
    if as_json:
        digest, notes = interactions.vocabulary_sha256, list(interactions.notes)
        facts |= {"vocabulary_sha256": digest, "statistics": counts, "notes": notes, "alarms": said}
        console.print_json(facts | counts | asdict(found))
        return
    rows = [
        [key.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:.4g}"]
        for key, value in counts.items()
    ]
    rows += [["first", found.first or "no dates"], ["last", found.last or "no dates"]]
    rows += [
        [label, f"{value:.2%}"]
        for label, value in (
            ("ties in time", found.ties),
            ("repeats of the click before", found.repeats),
            ("test targets that repeat the click before", found.repeated_test),
            ("test targets never seen in training", found.cold_test),
            ("clicks of the heaviest user", found.heaviest_user),
        )
    ]
    for label, quantiles in (("per user", found.per_user), ("per item", found.per_item)):
        rows.append(
            [f"clicks {label} (" + ", ".join(quantiles) + "%)", ", ".join(f"{x:g}" for x in quantiles.values())]
        )
    if "bytes" in facts:
        rows += [["file", facts["path"]], ["bytes", f"{facts['bytes']:,}"]]
    console.print_table(title, ("", ""), rows)
    for line in (*interactions.notes, *(f"careful: {line}" for line in said)):
        console.log(line)
