"""The comparison by the recipe ``best``: quality in both protocols, and what each model costs on a device."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cocorrrec_export import __version__
from cocorrrec_export.files import publish_file
from cocorrrec_export.metrics import FULL
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.reproduction.analysis import Difference, PerUser, Score, differences, scores
from cocorrrec_export.reproduction.device import DeviceCost, wire_bytes
from cocorrrec_export.reproduction.plan import Plan
from cocorrrec_export.reproduction.plots import PROTOCOLS, plot_comparison
from cocorrrec_export.reproduction.report import (
    RESULTS,
    decimal,
    difference_rows,
    markdown_table,
    marked,
    publish_text,
    rate_facts,
    rate_table,
    write_csv,
    write_rates,
)
from cocorrrec_export.reproduction.run import Result
from cocorrrec_export.reproduction.schedule import Results

SAMPLED = "sampled:"
SHOWN = {
    "sampled:uauc": "S UAUC",
    "sampled:ndcg@10": "S NDCG@10",
    "sampled:hr@10": "S HR@10",
    "full:ndcg@10": "F NDCG@10",
    "full:hr@10": "F HR@10",
}
"""Metrics of the table."""
CLOUD = " with its cloud"
"""Behind the name of a model whose cloud's answer arrived."""
NOTHING = "-"
NOTES = (
    "S: one held-out item among sampled ones. F: one in the whole catalog without what the user had before. A tie "
    "counts against the model.",
    "int8 bytes: the exported file with all its entry points. rank: the median of a ranking of 100 candidates; step: "
    "of one more click, where a model reads clicks one by one. One thread of this machine, which may do other work: "
    "read ratios. With its cloud, rank is the one that adds an answer that has arrived.",
    "wire: bytes of the tensors up and down, for one answer of the cloud.",
    "Settings are those of `train --recipe best` for each architecture; they were searched for CoCorrRec alone.",
)


@dataclass(frozen=True)
class Line:
    """A row of the table: a model, or what it is with its cloud."""

    row: str
    way: str
    """``alone`` or ``corrected``."""

    @property
    def title(self) -> str:
        """What it is called."""
        return self.row + (CLOUD if self.way == "corrected" else "")


@dataclass(frozen=True)
class Comparison:
    """All that the report is written from."""

    plan: Plan
    results: Results
    configs: dict[str, ModelConfig]
    data_name: str
    target: str | None
    costs: dict[str, DeviceCost]
    """By row; empty without a target."""
    machine: dict[str, Any]
    """Where they were measured."""

    def lines(self) -> list[Line]:
        """The rows of the table; a model with a cloud has two."""
        return [
            Line(row, way)
            for row, results in self.results.rows.items()
            for way in (("alone", "corrected") if results[0].has_cloud() else ("alone",))
        ]

    def first(self) -> Result:
        """Some result: what all of them have in common is read from it."""
        return next(iter(self.results.rows.values()))[0]

    def cost(self, line: Line) -> dict[str, int | float | None]:
        """``int8_bytes``, ``rank_us``, ``step_us`` and ``wire_bytes`` of a row; None where there is nothing."""
        cost = self.costs.get(line.row)
        entry_point = "rank_corrected" if line.way == "corrected" else "rank"
        return {
            "int8_bytes": cost.bytes if cost else None,
            "rank_us": cost.p50_us[entry_point] if cost else None,
            "step_us": cost.p50_us.get("step") if cost else None,
            "wire_bytes": sum(wire_bytes(self.configs[line.row])) if line.way == "corrected" else None,
        }


def write_comparison(comparison: Comparison, out: Path) -> dict[str, Any]:
    """Write everything into ``out``, and return what ``results.json`` says."""
    per_user = {line.title: _per_user(comparison.results.rows[line.row], line.way) for line in comparison.lines()}
    quality = {title: scores(seeds) for title, seeds in per_user.items()}
    tested = _tested(per_user)
    facts = _facts(comparison, quality, tested)
    publish_text(out / RESULTS, json.dumps(facts, indent=2) + "\n")
    _write_tables(comparison, per_user, quality, out)
    if comparison.target is not None:
        times = {line.title: float(comparison.cost(line)["rank_us"] or 0) for line in comparison.lines()}
        for kind in ("png", "svg"):
            with publish_file(out / f"comparison.{kind}") as staging:
                plot_comparison(quality, times, staging, kind, target=comparison.target)
    publish_text(out / "report.md", "\n".join(_markdown(comparison, quality, tested)) + "\n")
    return facts


def _per_user(results: list[Result], way: str) -> list[PerUser]:
    return [
        {SAMPLED + name: values for name, values in result.per_user(way).items()}
        | {FULL + name: values for name, values in result.per_user(way, full=True).items()}
        for result in results
    ]


def _tested(per_user: dict[str, list[PerUser]]) -> dict[str, dict[str, Difference]]:
    """The first row, which is CoCorrRec alone unless it was left out, against every other."""
    return differences(dict(per_user), next(iter(per_user)), tuple(PROTOCOLS)) if len(per_user) > 1 else {}


def _facts(
    comparison: Comparison, quality: dict[str, dict[str, Score]], tested: dict[str, dict[str, Difference]]
) -> dict[str, Any]:
    plan = comparison.plan
    return {
        "toolkit_version": __version__,
        "recipe": plan.recipe,
        "data": comparison.data_name,
        "statistics": comparison.first().facts["statistics"],
        "seeds": list(plan.seeds),
        "settings": {row: plan.settings(own[0].run).as_tables() for row, own in comparison.results.rows.items()},
        "learning_rates": rate_facts(comparison.results),
        "table": {
            line.title: {
                "sampled": _of(quality[line.title], SAMPLED),
                "full": _of(quality[line.title], FULL),
            }
            | comparison.cost(line)
            for line in comparison.lines()
        },
        "references": comparison.first().facts["references"],
        "differences": {title: {name: asdict(x) for name, x in own.items()} for title, own in tested.items()},
        "target": comparison.target,
        "machine": comparison.machine,
    }


def _of(quality: dict[str, Score], protocol: str) -> dict[str, Any]:
    return {name.removeprefix(protocol): asdict(x) for name, x in quality.items() if name.startswith(protocol)}


def _shown(quality: dict[str, dict[str, Score]]) -> list[str]:
    """The metrics of the table; those that every order would earn are nobody's."""
    return [name for name in SHOWN if name in next(iter(quality.values()))]


def _write_tables(
    comparison: Comparison, per_user: dict[str, list[PerUser]], quality: dict[str, dict[str, Score]], out: Path
) -> None:
    names = list(next(iter(quality.values())))
    seeds = [
        [line.title, result.run.seed, *(f"{own[name].mean():.6f}" for name in names)]
        for line in comparison.lines()
        for result, own in zip(comparison.results.rows[line.row], per_user[line.title], strict=True)
    ]
    write_csv(out / "comparison_seeds.csv", ["model", "seed", *names], seeds)
    costs = {line.title: comparison.cost(line) for line in comparison.lines()}
    shown = _shown(quality)
    columns = [f"{name} {part}" for name in shown for part in ("mean", "std")]
    rows = [
        [
            title,
            *(decimal(x) for name in shown for x in (own[name].mean, own[name].std)),
            *("" if value is None else value for value in costs[title].values()),
        ]
        for title, own in quality.items()
    ]
    write_csv(out / "comparison.csv", ["model", *columns, *next(iter(costs.values()))], rows)
    write_rates(comparison.results, out / "learning_rates.csv")


# ---------------------------------------------------------------------- Markdown


def _markdown(
    comparison: Comparison, quality: dict[str, dict[str, Score]], tested: dict[str, dict[str, Difference]]
) -> list[str]:
    facts = comparison.first().facts
    found = facts["statistics"]
    seeds = ", ".join(map(str, comparison.plan.seeds))
    several = len(comparison.plan.seeds) > 1
    taken = "the best is taken" if len(comparison.plan.learning_rates) > 1 else "no other learning rate was tried"
    spread = f"mean ± standard deviation over seeds {seeds}" if several else f"seed {seeds} alone"
    lines = [
        f"# {comparison.data_name}, recipe best",
        "",
        f"{found['users']:,} users, {found['items']:,} items, {found['interactions']:,} interactions. Each user's last "
        f"item is the test, among {facts['negatives']} uniform negatives and in the whole catalog: {spread}. **Best**, "
        "_second_.",
        "",
        *_table(comparison, quality),
        "",
        *(f"- {note}" for note in NOTES),
    ]
    if comparison.target is not None:
        lines += ["", "![quality against latency](comparison.png)"]
    if tested:
        lines += ["", *_difference_lines(tested, next(iter(quality)), found["users"])]
    return [
        *lines,
        "",
        "## Learning rates",
        "",
        f"Validation of the best epoch with seed {comparison.plan.seeds[0]}, by what picks it "
        f"({_monitors(comparison)}); {taken}.",
        "",
        *rate_table(comparison.plan, comparison.results),
    ]


def _monitors(comparison: Comparison) -> str:
    """What picks the epoch, and of which models."""
    rows: dict[str, list[str]] = {}
    for row, results in comparison.results.rows.items():
        rows.setdefault(comparison.plan.settings(results[0].run).training.monitor, []).append(row)
    return "; ".join(f"`{monitor}`: {', '.join(names)}" for monitor, names in rows.items())


def _table(comparison: Comparison, quality: dict[str, dict[str, Score]]) -> list[str]:
    shown = _shown(quality)
    places = {name: sorted((own[name].mean for own in quality.values()), reverse=True) for name in shown}
    rows = [
        [
            line.title,
            *(marked(quality[line.title][name], places[name]) for name in shown),
            *_cost_cells(comparison, line),
        ]
        for line in comparison.lines()
    ]
    for name, both in comparison.first().facts["references"].items():
        keys = (metric.partition(":") for metric in shown)
        cells = (f"{both[protocol][metric]:.4f}" for protocol, _, metric in keys)
        rows.append([name, *cells, *[NOTHING] * 4])
    target = f", {comparison.target}" if comparison.target else ""
    return markdown_table(
        ["", *(SHOWN[name] for name in shown), f"int8 bytes{target}", "rank, us", "step, us", "wire, bytes"], rows
    )


def _cost_cells(comparison: Comparison, line: Line) -> list[str]:
    cost = comparison.cost(line)
    up, down = wire_bytes(comparison.configs[line.row]) if cost["wire_bytes"] is not None else (0, 0)
    return [
        NOTHING if cost["int8_bytes"] is None else f"{cost['int8_bytes']:,}",
        *(NOTHING if cost[name] is None else f"{cost[name]:.1f}" for name in ("rank_us", "step_us")),
        f"{up} + {down}" if up else NOTHING,
    ]


def _difference_lines(tested: dict[str, dict[str, Difference]], reference: str, users: int) -> list[str]:
    return [
        f"## {reference} against each",
        "",
        f"{reference} minus the other, NDCG@10, each user's mean over seeds: 95% interval over {users:,} users, and "
        "the p value of the paired randomization test, by Holm's procedure for all models of a column.",
        "",
        *markdown_table(["", *(SHOWN[name] for name in next(iter(tested.values())))], difference_rows(tested)),
    ]
