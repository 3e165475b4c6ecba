"""One picture of a data set."""

from pathlib import Path

import numpy as np

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.pictures import plain_style, write_png


@plain_style()
def plot_data(interactions: Interactions, path: Path) -> None:
    """Write a PNG: users and items by their number of clicks, and clicks over time where there are dates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.5), layout="constrained", dpi=120)
    per_user = np.diff(interactions.offsets)
    per_item = np.bincount(interactions.items, minlength=interactions.vocab_size)[1:]
    times = interactions.times if interactions.dated else None
    axes = figure.subplots(1, 2 if times is None else 3)
    for axis, (what, counts) in zip(axes, (("users", per_user), ("items", per_item)), strict=False):
        bins = np.unique(np.geomspace(1, counts.max() + 1, 30).astype(int))
        axis.hist(counts, bins=bins if len(bins) > 1 else 10)
        axis.set(xscale="log", yscale="log", xlabel=f"clicks of one of the {what}", ylabel=what)
    if times is not None:
        axes[2].hist(times.astype("datetime64[ns]").astype("datetime64[s]"), bins=50)
        axes[2].set(xlabel="time", ylabel="clicks")
        axes[2].tick_params(axis="x", rotation=30)
    write_png(figure, path)
