"""Pictures of a profile, each as PNG and SVG. A picture that has nothing to show is not made."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cocorrrec_export.modeling.curves import FIXED_MINI_BATCH
from cocorrrec_export.pictures import plain_style, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STAGES = {
    "idle": "idle runner",
    "before_load": "inputs read",
    "loaded": "loaded",
    "first_call": "first call",
    "end": "end",
}
_WIDTH = 5.0  # inches: small, so that the text stays readable on a page as wide as a phone
Plot = Callable[["Figure", dict[str, Any]], bool]
"""Draws, and says whether there was anything to draw."""


@plain_style()
def draw_all(document: dict[str, Any], folder: Path) -> dict[str, str]:
    """Write ``<name>.png`` and ``<name>.svg`` for every picture.

    Returns:
        titles of the pictures that were made, by name.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, (title, plot) in PLOTS.items():
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        with rc_context({"text.parse_math": False}):  # names come from the file: a "$" in one is not a formula
            drawn = plot(figure, document)
        if not drawn:
            continue
        for kind in ("svg", "png"):
            save_figure(figure, folder / f"{name}.{kind}", kind, salt=name)
        made[name] = title
    return made


def save_figure(figure: "Figure", path: Path, kind: str, *, salt: str) -> None:
    """Write ``svg`` or ``png``; the same figure gives the same file: no date, and ids that follow from ``salt``."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    if kind == "png":
        write_png(figure, path)
        return
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})


def _latency(figure: "Figure", document: dict[str, Any]) -> bool:
    axes = figure.subplots()
    for entry in document["entry_points"]:
        run = entry["runs"][0]
        values = np.sort(np.asarray(run["latency_ns"]) / 1000)
        if len(values):
            axes.plot(values, (1 + np.arange(len(values))) / len(values) * 100, label=entry["name"], linewidth=1.6)
    for percentile in (50, 90, 99):
        axes.axhline(percentile, color="grey", linewidth=0.5, linestyle=":")
    axes.set_xscale("log")
    axes.set(xlabel="microseconds (logarithmic)", ylabel="share of calls at most this long, %")
    axes.legend(fontsize=8, loc="lower right")
    return True


def _threads(figure: "Figure", document: dict[str, Any]) -> bool:
    if len(document["settings"]["threads"]) < 2:
        return False
    axes = figure.subplots()
    for entry in document["entry_points"]:
        runs = entry["runs"]
        axes.plot([run["threads"] for run in runs], [run["p50_us"] for run in runs], marker="o", label=entry["name"])
    axes.set(xlabel="threads", ylabel="p50, microseconds", ylim=(0, None))
    axes.set_xticks(document["settings"]["threads"])
    axes.legend(fontsize=8)
    return True


def _candidates(figure: "Figure", document: dict[str, Any]) -> bool:
    return _over_shapes(figure, document, "candidates", lambda row: row["p50_us"], "p50, microseconds")


def _length_memory(figure: "Figure", document: dict[str, Any]) -> bool:
    def heap(row: dict[str, Any]) -> float:
        return float(np.median(row["heap_over_idle_bytes"])) / 1024

    return _over_shapes(figure, document, "length", heap, "heap over the idle runner, KiB")


def _over_shapes(
    figure: "Figure", document: dict[str, Any], x: str, y: Callable[[dict[str, Any]], float], label: str
) -> bool:
    rows = (document["shapes"] or {"rows": []})["rows"]
    if len({row[x] for row in rows}) < 2:
        return False
    axes = figure.subplots()
    other = "length" if x == "candidates" else "candidates"
    for name in dict.fromkeys(row["entry_point"] for row in rows):
        own = [row for row in rows if row["entry_point"] == name]
        fixed = own[0][other]
        own = sorted((row for row in own if row[other] == fixed), key=lambda row: row[x])
        if len(own) > 1:
            axes.plot([row[x] for row in own], [y(row) for row in own], marker="o", label=name)
    axes.set(xlabel={"length": "sequence length", "candidates": "candidates of one call"}[x], ylabel=label)
    axes.legend(fontsize=8)
    return True


def _memory(figure: "Figure", document: dict[str, Any]) -> bool:
    axes = figure.subplots()
    entries, width = document["entry_points"], 0.8 / len(STAGES)
    for index, (stage, label) in enumerate(STAGES.items()):
        x = np.arange(len(entries)) + (index - (len(STAGES) - 1) / 2) * width
        shade = 0.25 + 0.75 * index / (len(STAGES) - 1)
        anonymous = [entry["memory"][stage]["anonymous_kb"] / 1024 for entry in entries]
        mapped = [entry["memory"][stage]["mapped_kb"] / 1024 for entry in entries]
        axes.bar(x, anonymous, width, color=("tab:blue", shade), label=f"data, {label}")
        axes.bar(x, mapped, width, bottom=anonymous, color=("tab:grey", shade / 2))
    axes.set_xticks(np.arange(len(entries)), [entry["name"] for entry in entries], fontsize=7)
    axes.set(ylabel="resident MiB (grey: pages of libraries)")
    axes.legend(fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(0, 1.0))
    axes.margins(y=0.35)
    return True


def _flops(figure: "Figure", document: dict[str, Any]) -> bool:
    if not document["flops"]:
        return False
    if not any(curve["mini_batch"] for curve in document["flops"]):
        figure.set_size_inches(_WIDTH, 3.3)
        _curves(figure.subplots(), document, None, "")
        return True
    figure.set_size_inches(_WIDTH, 6.6)
    above, below = figure.subplots(2, 1)
    _curves(above, document, None, "mini-batch as long as the sequence")
    _curves(below, document, FIXED_MINI_BATCH, f"mini-batch of {FIXED_MINI_BATCH}")
    return True


def _curves(axes: "Axes", document: dict[str, Any], mini_batch: int | None, title: str) -> None:
    for curve in document["flops"]:
        if curve["mini_batch"] != mini_batch or not any(curve["all"]):
            continue
        per_token = curve["per_token"]["all"]
        axes.plot(
            curve["lengths"],
            np.asarray(curve["all"]) / 1e6,
            marker=".",
            label=f"{curve['name']}: {per_token:,} per token",
        )
    axes.set_title(title, fontsize=9)
    axes.set(xlabel="sequence length", ylabel="million FLOPs of one call")
    axes.legend(fontsize=7)


def _operators(figure: "Figure", document: dict[str, Any]) -> bool:
    entries = [entry for entry in document["entry_points"] if entry["operators"]]
    if not entries:
        return False
    figure.set_size_inches(_WIDTH, 1.0 + 1.4 * len(entries))
    for axes, entry in zip(figure.subplots(len(entries), 1, squeeze=False)[:, 0], entries, strict=True):
        rows = entry["operators"][:5][::-1]
        names = [f"{row['name']} x{row['operators']}" + (" (XNNPACK)" if row["backend"] else "") for row in rows]
        axes.barh(
            names, [row["mean_us"] for row in rows], color=["tab:blue" if r["backend"] else "tab:orange" for r in rows]
        )
        axes.tick_params(labelsize=7)
        axes.set_title(f"{entry['name']}, us of one call", fontsize=8)
    return True


PLOTS: dict[str, tuple[str, Plot]] = {
    "latency": ("Distribution of the latency", _latency),
    "threads": ("Latency over threads", _threads),
    "candidates": ("Latency over candidates", _candidates),
    "memory": ("Memory by stage", _memory),
    "flops": ("FLOPs over the sequence length", _flops),
    "memory_over_length": ("Memory over the sequence length", _length_memory),
    "operators": ("The most expensive operators", _operators),
}
