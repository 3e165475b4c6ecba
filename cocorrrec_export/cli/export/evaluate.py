"""``cocorr-export evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.cli.export.train import repeats_line
from cocorrrec_export.errors import UsageError
from cocorrrec_export.extras import require

if TYPE_CHECKING:
    from cocorrrec_export.training.evaluation import Evaluation
    from cocorrrec_export.training.scoring import LateMetrics

EPILOG = """
Examples:

  cocorr-export evaluate

  cocorr-export evaluate --model models/mine

  cocorr-export evaluate --architecture gru4rec

  cocorr-export evaluate --model cocorrrec-beauty --data beauty.csv.gz --json

  cocorr-export evaluate --controls

  cocorr-export evaluate --late-rate 0,0.1,...,1 --plot late.png
"""


def evaluate(
    model: options.Model = None,
    architecture: options.Architecture = None,
    data: options.Data = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls",
            help="Also rank with another user's answer, the mean one, and one to the phone's clicks alone.",
        ),
    ] = False,
    late_rate: Annotated[
        str | None,
        typer.Option(help="Shares of late answers to measure, such as 0,0.5,1 or 0,0.1,...,1."),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help="With --late-rate: draws of who is late.", show_default="20")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --late-rate: seed of the draws.", show_default="0")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="With --late-rate: PNG file for NDCG@10 against the share of late answers.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Measure a model on its held-out users: with the cloud's correction, and without, as a phone offline ranks.

    Twice: one item among sampled ones, and one in the whole catalog without what the user had before. Popularity and
    item neighbors, which learn nothing, are measured too: a model should be ahead of them.

    With --late-rate also in between: each user's answer is late by chance, and the user is then ranked without it.
    """
    rates = _rates(late_rate) if late_rate is not None else []
    needless = [name for name, value in (("--plot", plot), ("--draws", draws), ("--seed", seed)) if value is not None]
    if needless and not rates:
        raise UsageError(f"{', '.join(needless)}: only with --late-rate, such as 0,0.1,...,1")
    draws, seed = 20 if draws is None else draws, seed or 0
    require("train")
    from cocorrrec_export.files import publish_file, require_writable
    from cocorrrec_export.modeling.store import find_model, open_model
    from cocorrrec_export.pictures import is_own_png
    from cocorrrec_export.training.evaluation import evaluate as measure

    if plot:
        require_writable(plot, is_own_png)
    folder = open_model(find_model(model, architecture))
    console.warn_unverified(folder)
    found = measure(folder, data, controls=controls, late_rates=rates, draws=draws, seed=seed)
    if data is not None:
        console.log(found.compared)
    if plot:
        from cocorrrec_export.training.plot import plot_late

        with publish_file(plot, is_own_png) as staging:
            plot_late(found.late, staging)
    if json:
        console.print_json(found.as_dict())
    else:
        _print(found)


def _print(found: "Evaluation") -> None:
    from cocorrrec_export.training.scoring import full_metrics, sampled_metrics

    rows_of = {name: {name: each} for name, each in found.references.items()}
    title = f"{found.model}: {found.users} held-out users, one item among"
    sampled = found.metrics | {name: sampled_metrics(each)[name] for name, each in rows_of.items()}
    console.print_metrics(f"{title} {found.candidates}", sampled)
    if found.full:
        whole = found.full | {name: full_metrics(each)[name] for name, each in rows_of.items()}
        console.print_metrics(f"{title} the whole catalog", whole, full=True)
    console.log(repeats_line(found.repeated_test))
    if found.paired:
        console.print_controls(found.paired)
    if found.late:
        _print_late(found.late, found.draws)


def _rates(text: str) -> list[float]:
    """``0,0.5,1``, or with an ellipsis ``0,0.1,...,1``."""
    parts = [part.strip() for part in text.split(",")]
    try:
        if "..." in parts:
            if len(parts) != 4 or parts[2] != "...":
                raise ValueError
            first, second, last = (float(parts[i]) for i in (0, 1, 3))
            count = (last - first) / (second - first)
            if not 0 < count <= 1000 or abs(count - round(count)) > 1e-6:
                raise ValueError
            rates = [round(first + i * (second - first), 9) for i in range(round(count) + 1)]
        else:
            rates = [float(part) for part in parts]
        if not all(0 <= rate <= 1 for rate in rates):
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--late-rate {text}: give shares from 0 to 1, such as 0,0.5,1 or 0,0.1,...,1") from None
    return rates


def _print_late(late: "list[LateMetrics]", draws: int) -> None:
    from cocorrrec_export.metrics import METRICS

    names = [name for name in METRICS if name in late[0].mean]
    spread = "ndcg@10" if "ndcg@10" in names else "uauc"
    rows = ([f"{x.rate:g}", *(f"{x.mean[name]:.4f}" for name in names), f"{x.std[spread]:.4f}"] for x in late)
    console.print_table(f"by share of late answers, over {draws} draws", ("late", *names, f"± {spread}"), rows)
    console.say_left_out(names, METRICS)
