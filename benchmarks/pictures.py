"""Pictures of what the benchmarks found, in one style, for light and for dark pages.

    python benchmarks/pictures.py

Writes ``docs/pictures/<name>-light.svg`` and ``-dark.svg``, from the figures that the other benchmarks keep:
``docs/results.json`` (``results.py measure``), ``docs/scale.json`` (``scale.py``) and the tables of
``docs/targets.md`` and ``docs/architectures.md``.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocorrrec_export.files import publish_file
from cocorrrec_export.profiling.report.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
INK = {"light": "#1f2328", "dark": "#e6edf3"}
SOFT = {"light": "#d0d7de", "dark": "#3d444d"}
COLORS = {
    "light": ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#6e7781", "#9a6700"),
    "dark": ("#58a6ff", "#ffa657", "#56d364", "#bc8cff", "#f778ba", "#9da7b3", "#e3b341"),
}
MARKERS = "osD^vP*"
WAYS = {"alone": "", "corrected": ", with the cloud"}


def style(theme: str) -> dict[str, Any]:
    """What matplotlib draws with on a light or dark page; the background is the page's."""
    ink = INK[theme]
    names = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    return dict.fromkeys(names, ink) | {
        "axes.edgecolor": SOFT[theme],
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.prop_cycle": _cycle(COLORS[theme]),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.axisbelow": True,
        "figure.facecolor": "none",
        "font.size": 11,
        "grid.color": SOFT[theme],
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "savefig.facecolor": "none",
    }


def _cycle(colors: tuple[str, ...]) -> Any:
    from matplotlib import cycler

    return cycler(color=list(colors), marker=list(MARKERS))


def tables(page: str, heading: str) -> list[dict[str, str]]:
    """Rows of the first table below a line that starts with ``heading``, by column.

    Raises:
        ValueError: the page does not have it.
    """
    lines = page.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(heading)), None)
    if start is None:
        raise ValueError(f"no '{heading}' on the page")
    rows = []
    for line in lines[start:]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    names, _, *cells = rows
    return [dict(zip(names, row, strict=True)) for row in cells]


def quality(figure: "Figure", docs: Path) -> None:
    """Quality against latency of the ready models, with the size of the file."""
    axes = figure.subplots()
    rows = json.loads((docs / "results.json").read_text(encoding="utf-8"))
    measured = [row for row in rows if row["cost"] is not None]
    points = [
        (row["cost"]["rank_us"], row["sampled"][way], f"{row['model'].removesuffix('-movielens')}{WAYS[way]}")
        for row in measured
        for way in row["sampled"]
    ]
    for x, y, label in points:
        axes.plot([x], [y], linestyle="", markersize=8)
        crowded = any(x == other and 0 < above - y < 0.006 for other, above, _ in points)
        axes.annotate(label, (x, y), xytext=(7, -9 if crowded else -3), textcoords="offset points", fontsize=9)
    axes.set(xlabel="rank of 100 candidates, p50, µs (int8, ExecuTorch, one thread)", ylabel="NDCG@10, 1 of 101")
    axes.set_xlim(0, max(x for x, _, _ in points) * 1.5)
    axes.margins(y=0.12)
    machine = {row["cost"]["machine"] for row in measured}
    axes.set_title("Ready models on MovieLens" + (f": {machine.pop()}" if len(machine) == 1 else ""), fontsize=11)


def sizes(figure: "Figure", docs: Path) -> None:
    """Size against loss of every target and precision."""
    axes = figure.subplots()
    rows = tables((docs / "targets.md").read_text(encoding="utf-8"), "| target | precision")
    by_target: dict[str, list[tuple[float, float, str]]] = {}
    for row in rows:
        if row["item side"] == "computed":
            model, file = (float(x) for x in row["NDCG@10 model / file"].split("/"))
            point = (float(row["MB"]), (file / model - 1) * 100, row["precision"])
            by_target.setdefault(row["target"], []).append(point)
    for target, points in by_target.items():
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], linestyle=":", linewidth=0.8, label=target)
    seen = set()
    for x, y, precision in sorted(point for points in by_target.values() for point in points):
        if precision not in seen:
            axes.annotate(precision, (x, y), xytext=(6, 9), textcoords="offset points", fontsize=9)
            seen.add(precision)
    axes.axhline(0, linewidth=0.8, color=axes.xaxis.label.get_color(), marker="")
    axes.set(xlabel="MB of the on-device file", ylabel="change of NDCG@10, %", xlim=(0, None))
    axes.margins(y=0.25)
    axes.legend(fontsize=9)
    axes.set_title("Precisions: what a smaller file costs", fontsize=11)


def memory(figure: "Figure", docs: Path) -> None:
    """Memory against the length of the history, by architecture."""
    axes = figure.subplots()
    page = (docs / "architectures.md").read_text(encoding="utf-8").split("## executorch", 1)[1].split("\n## ")[0]
    ends = []
    for row in tables(page, "**Heap of loading and calling"):
        name = row.pop("")
        if "every position" in name:
            continue
        lengths = [int(cell.removeprefix("L = ")) for cell in row]
        heap = [float(cell) for cell in row.values()]
        (line,) = axes.plot(lengths, heap, label=name, markersize=5)
        ends.append((heap[-1], name, line.get_color()))
    _label_ends(axes, ends, lengths[-1])
    axes.set(xlabel="clicks of the history", ylabel="heap, MiB", ylim=(0, None))
    axes.set_title("Memory of one rank, ExecuTorch, int8, 10,000 items", fontsize=11)


def _label_ends(axes: "Axes", ends: list[tuple[float, str, str]], x: float) -> None:
    """Names next to the ends of their lines, apart from each other."""
    room, last = (axes.get_ylim()[1] - axes.get_ylim()[0]) / 19, float("-inf")
    for y, name, color in sorted(ends):
        last = max(y, last + room)
        axes.annotate(name, (x, last), xytext=(9, 0), textcoords="offset points", fontsize=9, color=color, va="center")


def scale(figure: "Figure", docs: Path) -> None:
    """Training steps and the memory of exports, by the number of items."""
    lines: dict[str, dict[str, dict[int, float]]] = {"step": {}, "export": {}}
    for name, value in json.loads((docs / "scale.json").read_text(encoding="utf-8")).items():
        kind, *label, items = name.split()
        if kind in lines:  # "step lazy_adamw 10000", "export onnx int8 9067"
            y = value if kind == "step" else value["peak_mb"]
            lines[kind].setdefault(" ".join(label), {})[int(items)] = y
    titles = {"step": "Training step, ms", "export": "Peak of an export, MB"}
    for axes, (kind, by_label) in zip(figure.subplots(1, 2), lines.items(), strict=True):
        for label, points in by_label.items():
            if kind == "step" or "int8" in label:
                axes.plot(list(points), list(points.values()), label=label.removesuffix(" int8"), markersize=4)
        axes.set(xscale="log", xlabel="items")
        axes.set_title(titles[kind] + (", int8" if kind == "export" else ""), fontsize=11)
        axes.set_ylim(bottom=0)
        if by_label:
            axes.legend(fontsize=8)


PICTURES: dict[str, Callable[["Figure", Path], None]] = {
    "quality": quality,
    "sizes": sizes,
    "memory": memory,
    "scale": scale,
}


def draw(out: Path, docs: Path = DOCS, names: tuple[str, ...] = tuple(PICTURES)) -> None:
    """Write every picture of ``names`` twice."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        for theme in INK:
            with rc_context(style(theme) | {"text.parse_math": False}):
                figure = Figure(figsize=(6.6, 3.8), layout="constrained")
                PICTURES[name](figure, docs)
                with publish_file(out / f"{name}-{theme}.svg") as staging:
                    save_figure(figure, staging, "svg", salt=name)


if __name__ == "__main__":
    draw(DOCS / "pictures")
