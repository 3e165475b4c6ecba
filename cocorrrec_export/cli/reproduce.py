"""``cocorr-export reproduce``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import options

EPILOG = """
Examples:

  cocorr-export reproduce --data beauty.csv.gz --min-item 3 --min-user 13 --out reproduction

  cocorr-export reproduce --data clicks.csv --models cocorrrec,sasrec --seeds 1,2,3,4,5 --out mine

  cocorr-export reproduce --data clicks.csv --quick --out quick
"""


def reproduce(
    data: options.RequiredData,
    out: Annotated[Path, typer.Option("--out", help="Folder of the results; run again, the command goes on in it.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file as for train: settings that all models share.")
    ] = None,
    models: Annotated[str | None, typer.Option(help="Models, with commas between them. Default: all seven.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds that each model is trained with.")] = "1,2,3",
    learning_rates: Annotated[
        str, typer.Option(help="Learning rates to choose from, by validation.")
    ] = "0.001,0.002,0.005,0.01",
    epochs: Annotated[int | None, typer.Option(help="Most epochs to train.")] = None,
    user_column: Annotated[str | None, typer.Option(help="Header of the user column. Default: user.")] = None,
    item_column: Annotated[str | None, typer.Option(help="Header of the item column. Default: item.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Header of the column to order by.")] = None,
    min_item: Annotated[int | None, typer.Option(help="Keep items with at least this many interactions.")] = None,
    min_user: Annotated[int | None, typer.Option(help="Then users with at least this many.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time. Default: the number of cores.")] = None,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep the weights of every run.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed, one learning rate, one epoch: to see that all of it works.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Train the paper's models on your data, and write its tables and figures of them.

    Each model's learning rate is chosen on validation; then it is trained with every seed. Interrupt it at any time:
    the same command goes on where it was.
    """
    import os

    from cocorrrec_export.cli.progress import RunBars
    from cocorrrec_export.reproduction import plan as plans
    from cocorrrec_export.reproduction.schedule import reproduce as run_all

    overrides = {
        "training.epochs": epochs,
        "data.columns.user": user_column,
        "data.columns.item": item_column,
        "data.columns.time": time_column,
        "data.filters.min_item_interactions": min_item,
        "data.filters.min_user_interactions": min_user,
    }
    settings = plans.read_config(config, {key: value for key, value in overrides.items() if value is not None})
    plan = plans.Plan(
        rows=plans.parse_rows(models) if models else tuple(plans.ROWS),
        seeds=plans.parse_numbers(seeds, int, "--seeds"),
        learning_rates=plans.parse_numbers(learning_rates, float, "--learning-rates"),
        config=settings,
    )
    with RunBars() as bars:
        results = run_all(plan, data, out, jobs=jobs or os.cpu_count() or 1, keep_models=keep_models, watcher=bars)
