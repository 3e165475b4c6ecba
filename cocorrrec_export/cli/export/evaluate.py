"""``cocorr-export evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.cli.export.train import repeats_line
from cocorrrec_export.errors import UsageError
from cocorrrec_export.extras import require

if TYPE_CHECKING:
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
    from cocorrrec_export.data.held_out import held_out_set
    from cocorrrec_export.files import publish_file, require_writable
    from cocorrrec_export.modeling.joint import CoCorrRec
    from cocorrrec_export.modeling.store import find_model, load_model, open_model
    from cocorrrec_export.training.references import measure_references
    from cocorrrec_export.training.scoring import (
        both_protocols,
        evaluate_controls,
        evaluate_late,
        full_metrics,
        measure_ways,
        sampled_metrics,
    )

    if plot:
        require_writable(plot)
    folder = open_model(find_model(model, architecture))
    console.warn_unverified(folder)
    held_out = held_out_set(folder, data)
    if data is not None:
        console.log(held_out.describe_compared())
    loaded = load_model(folder)
    if controls and loaded.gcn is None:
        raise UsageError(f"--controls: {folder.name} does not have a cloud model, whose answer could be exchanged")
    measured = measure_ways(loaded, held_out)
    metrics, full = sampled_metrics(measured), full_metrics(measured)
    references = measure_references(held_out, vocab_size=folder.config.vocab_size)
    late = evaluate_late(loaded, held_out, rates, draws=draws, seed=seed, measured=measured) if rates else []
    exchanged, paired = (
        evaluate_controls(loaded, held_out, measured["alone"], measured["corrected"])
        if controls and isinstance(loaded, CoCorrRec)
        else ({}, {})
    )
    if plot:
        from cocorrrec_export.training.plot import plot_late

        with publish_file(plot) as staging:
            plot_late(late, staging)
    if json:
        facts: dict[str, Any] = {
            "model": folder.name,
            "sha256": folder.sha256,
            "verified": folder.verified,
            "users": len(held_out),
            "interactions": held_out.compared,
            "repeated_test": held_out.repeated_share(),
            "metrics": metrics,
            "full": full,
            "references": {name: both_protocols(each) for name, each in references.items()},
        }
        if controls:
            facts |= {"controls": {name: both_protocols(each) for name, each in exchanged.items()}, "paired": paired}
        if late:
            rows = [{"late_rate": each.rate, "mean": each.mean, "std": each.std} for each in late]
            facts |= {"late": {"draws": draws, "seed": seed, "rates": rows}}
        console.print_json(facts)
        return
    rows_of = {name: {name: each} for name, each in references.items()}
    title = f"{folder.name}: {len(held_out)} held-out users, one item among"
    sampled = metrics | {name: sampled_metrics(each)[name] for name, each in rows_of.items()}
    console.print_metrics(f"{title} {held_out.candidates.shape[1]}", sampled)
    if full:
        whole = full | {name: full_metrics(each)[name] for name, each in rows_of.items()}
        console.print_metrics(f"{title} the whole catalog", whole, full=True)
    console.log(repeats_line(held_out.repeated_share()))
    if controls:
        console.print_controls(paired)
    if late:
        _print_late(late, draws)


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
