"""``cocorr-export reproduce``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.errors import UsageError, nearest
from cocorrrec_export.extras import require

EPILOG = """
Examples:

  cocorr-export reproduce --data beauty.csv.gz --min-item 3 --min-user 13 --paper beauty --out reproduction

  cocorr-export reproduce --data clicks.csv --models cocorrrec,sasrec --seeds 1,2,3,4,5 --out mine

  cocorr-export reproduce --data clicks.csv --ray head-node:6379 --out mine

  cocorr-export reproduce --data clicks.csv --recipe best --out comparison

  cocorr-export reproduce --data clicks.csv --quick --out quick
"""

FULL = {"seeds": "1,2,3", "learning_rates": "0.001,0.002,0.005,0.01", "mini_batches": "1,2,5,10,20"}
"""Learning rates and mini-batches are those of the paper."""
RAY_JOBS = 10_000
"""All at a time: each waits for a CPU of the cluster."""
BEST_RATES = "0.001,0.002,0.005"
"""With --recipe best."""
QUICK = {"seeds": "1,2", "learning_rates": "0.002", "mini_batches": "5,20"}


@options.with_data_options
def reproduce(
    data: options.RequiredData,
    out: Annotated[Path, typer.Option("--out", help="Folder of the results; run again, the command continues in it.")],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="TOML file as for train: settings that all models share, in place of the defaults."
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="paper: its models, tables and figures. best: the same architectures by the better recipe, with what "
            "they cost on a device."
        ),
    ] = "paper",
    models: Annotated[str | None, typer.Option(help="Models, with commas between them. Default: all seven.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds that each model is trained with.", show_default=FULL["seeds"])
    ] = None,
    learning_rates: Annotated[
        str | None,
        typer.Option(
            help="Learning rates to choose from, by validation; with --recipe best also 'recipe', each model's own.",
            show_default=f"{FULL['learning_rates']}; with --recipe best {BEST_RATES}",
        ),
    ] = None,
    mini_batches: Annotated[
        str | None,
        typer.Option(help="Mini-batches of Figure 6, or 'none' to leave it out.", show_default=FULL["mini_batches"]),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Maximum number of epochs.")] = None,
    data_settings: options.DataSettings = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time. Default: the number of cores, or of a cluster's.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Spread the runs over a Ray cluster: HOST:PORT, auto for this machine's, local to start one here.",
        ),
    ] = None,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep the weights of every run.")] = False,
    paper: Annotated[
        str | None, typer.Option(help="The paper's data set that yours is a subset of: beauty, electronic or yelp.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="With --recipe best: what the models are exported to and timed as on this machine, executorch or "
            "tflite, or 'none' to leave that out. Default: executorch."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two seeds, one learning rate, one epoch: to see that all of it works.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Train the paper's models on your data, and write its tables and figures of them.

    Each model's learning rate is chosen on validation; then it is trained with every seed. Interrupt it at any time:
    the same command continues where it was. OUT/report.md is the place to start reading.

    With --recipe best, one table and one plot compare what a phone gets: quality in both protocols, the size of the
    file, the time of a ranking and of a click, and the bytes that an answer of the cloud takes.
    """
    import os

    require("train")
    from cocorrrec_export.cli.progress import RunBars
    from cocorrrec_export.reproduction import plan as plans
    from cocorrrec_export.reproduction.reproduce import reproduce as reproduce_all

    best = _is_best(recipe, paper=paper, mini_batches=mini_batches, target=target)
    overrides = options.given({"training.epochs": 1 if quick and epochs is None else epochs}) | (data_settings or {})
    sizes = QUICK if quick else FULL | ({"learning_rates": BEST_RATES} if best else {})
    configs = plans.read_configs(config, overrides) if best else {}
    plan = plans.Plan(
        recipe=recipe,
        rows=plans.parse_rows(models, recipe) if models else tuple(plans.RECIPE_ROWS[recipe]),
        seeds=options.numbers(seeds or sizes["seeds"], "--seeds", int, low=0, high=2**31 - 1),
        learning_rates=()
        if best and learning_rates == "recipe"
        else options.numbers(learning_rates or sizes["learning_rates"], "--learning-rates", float, low=1e-6, high=1),
        mini_batches=()
        if best or mini_batches == "none"
        else options.numbers(
            mini_batches or sizes["mini_batches"], "--mini-batches", int, low=1, high=plans.MINI_BATCH_LENGTH
        ),
        config=next(iter(configs.values())) if best else plans.read_config(config, overrides),
        configs=configs,
    )
    with RunBars() as bars:
        facts = reproduce_all(
            plan,
            data,
            out,
            paper_data=paper,
            target=(target or "executorch") if best and target != "none" else None,
            jobs=jobs or (os.cpu_count() or 1 if ray is None else RAY_JOBS),
            ray=ray,
            keep_models=keep_models,
            watcher=bars,
            progress=bars.say,
        )
    if json:
        console.print_json({"path": str(out), "results": facts})
        return
    from cocorrrec_export.metrics import METRICS

    if best:
        table = facts["table"]
        ways = [way for way in ("sampled", "full") if "ndcg@10" in next(iter(table.values()))[way]]
        found = ([title, *(f"{line[way]['ndcg@10']['mean']:.4f}" for way in ways)] for title, line in table.items())
        console.print_table("mean over seeds", ("", *(f"{way} ndcg@10" for way in ways)), found)
    else:
        rows = ([row, *(f"{own[name]['mean']:.4f}" for name in METRICS)] for row, own in facts["table_1"].items())
        console.print_table("mean over seeds", ("", *METRICS), rows)
    console.log(f"report: {out / 'report.md'}")


def _is_best(recipe: str, *, paper: str | None, mini_batches: str | None, target: str | None) -> bool:
    """Whether the recipe is ``best``, after a check that no option is given that it does not have."""
    from cocorrrec_export.training.recipes import RECIPES

    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe '{recipe}' ({nearest(recipe, RECIPES)})")
    best = recipe == "best"
    foreign = {"--paper": paper, "--mini-batches": mini_batches} if best else {"--target": target}
    for option, value in foreign.items():
        if value is not None:
            raise UsageError(f"{option} has no meaning with --recipe {recipe}: remove it")
    return best
