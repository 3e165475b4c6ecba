"""A picture of a run: people would rather look than read ``metrics.jsonl``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cocorrrec_export.pictures import plain_style, write_png

if TYPE_CHECKING:
    from cocorrrec_export.training.scoring import LateMetrics


@plain_style()
def plot_training(records: list[dict[str, float]], best_epoch: int, path: Path) -> None:
    """Write the loss and the validation metrics by epoch as PNG.

    Args:
        records: one row per epoch, as in ``metrics.jsonl``.
        best_epoch: the epoch whose weights were kept, from 1.
        path: file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [record["epoch"] for record in records]
    loss, ranking = figure.subplots(1, 2)
    loss.plot(epochs, [record["loss"] for record in records], marker=".")
    loss.set_title("training loss")
    for name, label in (("ndcg@10", "NDCG@10"), ("hr@10", "HR@10"), ("uauc", "UAUC")):
        if name not in records[0]:  # with so few candidates every order would earn it
            continue
        (line,) = ranking.plot(epochs, [record[name] for record in records], marker=".", label=label)
        alone = [record.get(f"{name}_without_correction") for record in records]
        if alone[0] is not None:
            ranking.plot(epochs, alone, linestyle=":", color=line.get_color())
    ranking.set_title("validation (dotted: no correction arrives)")
    ranking.legend()
    for axes in (loss, ranking):
        axes.axvline(best_epoch, color="grey", linewidth=0.8)
        axes.set_xlabel(f"epoch (kept: {best_epoch})")
        axes.set_xticks(epochs)
    write_png(figure, path)


@plain_style()
def plot_late(found: "Sequence[LateMetrics]", path: Path) -> None:
    """Write NDCG@10 against the share of late answers, with a band of one standard deviation, as PNG.

    UAUC in its place where there are so few candidates that every order would earn it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    rates = [each.rate for each in found]
    name = "ndcg@10" if "ndcg@10" in found[0].mean else "uauc"
    mean, std = ([getattr(each, kind)[name] for each in found] for kind in ("mean", "std"))
    axes.plot(rates, mean, marker=".")
    low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
    axes.fill_between(rates, low, high, alpha=0.2)
    axes.set_xlabel("share of answers that come late")
    axes.set_ylabel(name.upper())
    axes.grid(alpha=0.3)
    write_png(figure, path)
