"""The pictures of a reproduction."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cocorrrec_export.pictures import plain_style
from cocorrrec_export.profiling.report.plots import save_figure
from cocorrrec_export.reproduction.analysis import Score
from cocorrrec_export.reproduction.costs import Cost

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "osD^vPX"
PROTOCOLS = {"sampled:ndcg@10": "among sampled negatives", "full:ndcg@10": "in the whole catalog"}
"""What :func:`plot_comparison` shows, and its titles."""
_SALT = "reproduction"


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


@plain_style()
def plot_rows(table: dict[str, dict[str, Score]], path: Path, kind: str) -> None:
    """Table 1: a panel a metric, a point a model, with the spread over seeds."""
    figure = _figure(10, 3.2)
    measured = next(iter(table.values()))
    names = [name for name in ("uauc", "ndcg@10", "hr@10") if name in measured]
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        places = np.arange(len(table))[::-1]
        means = [own[name].mean for own in table.values()]
        spread = [own[name].std or 0.0 for own in table.values()]
        axes.errorbar(means, places, xerr=spread, fmt="o", capsize=3)
        axes.set_yticks(places, list(table) if name == "uauc" else [""] * len(table))
        axes.set_title(name.upper())
        axes.grid(axis="x", alpha=0.3)
    save_figure(figure, path, kind, salt=_SALT)


@plain_style()
def plot_costs(costs: dict[str, Cost], path: Path, kind: str) -> None:
    """Figure 4: FLOPs in both conventions and peak memory over the length."""
    figure = _figure(11, 3.6)
    panels: list[Any] = list(figure.subplots(1, 3))
    for marker, (name, cost) in zip(_MARKERS, costs.items(), strict=False):
        lengths = cost.flops.lengths
        panels[0].plot(lengths, [x.paper / 1e6 for x in cost.flops.counts], marker=marker, label=name)
        panels[1].plot(lengths, [x.all / 1e6 for x in cost.flops.counts], marker=marker)
        if cost.peak_bytes is not None:
            panels[2].plot(lengths, [x / 2**20 for x in cost.peak_bytes], marker=marker)
    titles = ("million FLOPs, `paper`", "million FLOPs, `all`", "peak memory of a batch of 1,024, MiB")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("sequence length")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=7)
    save_figure(figure, path, kind, salt=_SALT)


@plain_style()
def plot_mini_batches(
    values: dict[int, float], metric: str, inference_ms: dict[int, float], path: Path, kind: str
) -> None:
    """Figure 6: ``values`` of ``metric`` and time over the mini-batch."""
    figure = _figure(6, 3.4)
    left = figure.subplots()
    sizes = list(values)
    left.plot(range(len(sizes)), list(values.values()), marker="o", color="tab:blue")
    left.set(xlabel="mini-batch", ylabel=f"{metric.upper()} (dots)")
    left.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    right = left.twinx()
    right.plot(range(len(sizes)), [inference_ms[size] for size in sizes], marker="s", color="tab:orange")
    right.set(ylabel="ms for a user (squares)", ylim=(0, None))
    save_figure(figure, path, kind, salt=_SALT)


@plain_style()
def plot_comparison(
    quality: dict[str, dict[str, Score]], p50_us: dict[str, float], path: Path, kind: str, *, target: str
) -> None:
    """Quality against the time of a ranking: a panel per protocol, a point per model, with the spread over seeds."""
    figure = _figure(11, 4.2)
    shown = {name: title for name, title in PROTOCOLS.items() if name in next(iter(quality.values()))}
    for axes, (name, title) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        for marker, (model, own) in zip(_MARKERS * 2, quality.items(), strict=False):
            axes.errorbar(p50_us[model], own[name].mean, yerr=own[name].std or 0.0, fmt=marker, capsize=3, label=model)
        axes.set(xlabel=f"ranking of 100 candidates, int8 on {target}, us", xscale="log", title=f"NDCG@10, {title}")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=7)
    save_figure(figure, path, kind, salt=_SALT)
