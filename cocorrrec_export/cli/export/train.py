"""``cocorr-export train``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.extras import require

RECIPES = ("best", "paper")
CORRECTIONS = ("vector", "kernel", "none")

EPILOG = """
Examples:

  cocorr-export train --data clicks.csv --out models/mine

  cocorr-export train --data ratings.csv.gz --user-column userId --item-column movieId --min-user 5 --out models/mine

  cocorr-export train --data clicks.csv --config train.toml --seed 2 --out models/mine-2

  cocorr-export train --data clicks.csv --correction none --out models/phone-alone

  cocorr-export train --data clicks.csv --recipe paper --out models/as-in-the-paper

  cocorr-export train --data clicks.csv --architecture sasrec --learning-rate 0.001 --out models/sasrec

  cocorr-export train --data clicks.csv --out models/mine --resume

  cocorr-export train --from models/mine --data this-week.csv --out models/mine-2

  torchrun --nproc-per-node 4 --no-python cocorr-export train --data clicks.cut --out models/mine
"""


@options.with_data_options
def train(
    data: options.RequiredData,
    out: Annotated[Path, typer.Option("--out", help="Folder of the new model; it must be new or empty.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with the tables model, training and data.")
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(help="cocorrrec, din, gru4rec, sasrec, bert4rec or mamba4rec. Default: cocorrrec."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="A model to continue on newer data: a shipped model's name, or the folder of your own.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model. Default: the name of --out.")] = None,
    data_settings: options.DataSettings = None,
    epochs: Annotated[int | None, typer.Option(help="Maximum number of epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Start of the learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the start, the order and the negatives.")] = None,
    recipe: Annotated[
        str | None,
        options.choice(
            "--recipe",
            RECIPES,
            "Settings that neither the config nor an option gives: what ranks best, or the released implementation's.",
            show_default="best, with --from as the model was trained",
        ),
    ] = None,
    correction: Annotated[
        str | None,
        options.choice(
            "--correction",
            CORRECTIONS,
            "Cloud model of a cocorrrec: a vector of a longer memory, the paper's kernels, or no cloud model.",
            show_default="vector with --recipe best, kernel with --recipe paper",
        ),
    ] = None,
    titles: Annotated[
        Path | None, typer.Option(help="CSV file with the item column and 'title', for readable rankings.")
    ] = None,
    weights_only: Annotated[
        bool, typer.Option("--weights-only", help="Leave held-out users and item ids out of the model's folder.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --out.")] = False,
    json: options.Json = False,
) -> None:
    """Train the joint model, or a baseline, on a file of interactions.

    The last item of each user is held out for testing and the one before for choosing the epoch. Interrupt it at any
    time: --resume continues, on the CPU bit for bit as if nothing had happened. Processes that torchrun starts share
    every batch, and train what one would.

    With --from a trained or imported model is continued: items are matched by their ids, known ones keep their rows,
    new ones start at the mean of all rows, and the other weights, the cloud's too, continue from where they are.
    """
    require("train")
    console.log(f"training on {data}, into {out}")  # torch takes seconds to load
    from cocorrrec_export.cli.progress import TrainingProgress
    from cocorrrec_export.modeling.store import find_model, open_model
    from cocorrrec_export.training import run
    from cocorrrec_export.training.continuation import read_run_settings
    from cocorrrec_export.training.ranks import joined

    overrides = {
        "model.architecture": architecture,
        "model.correction": correction,
        "training.epochs": epochs,
        "training.learning_rate": learning_rate,
        "training.seed": seed,
    }
    given = options.given(overrides) | (data_settings or {})
    continued = None if source is None else open_model(find_model(source))
    if continued is not None:
        console.warn_unverified(continued)
    settings = read_run_settings(continued, data, config, given, recipe)
    with joined(device) as ranks:
        if not ranks.first:
            run.take_part(data, settings, out, device=device, resume=resume, source=continued)
            return
        with TrainingProgress(settings.training.epochs) as progress:
            folder = run.train(
                data,
                settings,
                out,
                name=name or out.resolve().name,
                device=device,
                titles=titles,
                weights_only=weights_only,
                resume=resume,
                source=continued,
                listener=progress,
            )
    if json:
        console.print_json({"path": str(folder.path), "sha256": folder.sha256, "metrics": folder.metrics})
    else:
        _print_metrics(folder.name, folder.metrics)
        console.log(f"model: {folder.path}")


def repeats_line(share: float) -> str:
    """What is printed with every table of metrics."""
    return f"{share:.1%} of the test targets are the item that the user clicked right before"


def _print_metrics(name: str, metrics: dict[str, Any]) -> None:
    own: dict[str, Any] = {way: metrics[way] for way in ("corrected", "alone") if way in metrics}
    before: dict[str, Any] = metrics.get("before", {})
    own |= {f"{way}, before": before[way] for way in own if way in before}
    references = metrics["references"]
    sampled = own | {row: found["sampled"] for row, found in references.items()}
    console.print_metrics(f"{name}: test metrics, one item among sampled ones", sampled)
    old = {f"{way}, before": found for way, found in before.get("full", {}).items()}
    full = metrics["full"] | old | {row: found["full"] for row, found in references.items() if "full" in found}
    console.print_metrics(f"{name}: test metrics, one item in the whole catalog", full, full=True)
    console.log(repeats_line(metrics["repeated_test"]))
    if "paired" in metrics:
        console.print_controls(metrics["paired"])
