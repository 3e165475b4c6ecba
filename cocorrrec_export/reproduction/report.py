"""The tables and figures of the paper from our runs: Markdown to read, CSV to compute with, PNG and SVG to look at."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cocorrrec_export import __version__
from cocorrrec_export.data.statistics import Statistics
from cocorrrec_export.files import publish_file
from cocorrrec_export.metrics import METRICS
from cocorrrec_export.reproduction import paper
from cocorrrec_export.reproduction.analysis import Difference, Score, differences, scores
from cocorrrec_export.reproduction.costs import Cost
from cocorrrec_export.reproduction.plan import MINI_BATCH_LENGTH, Plan
from cocorrrec_export.reproduction.plots import plot_costs, plot_mini_batches, plot_rows
from cocorrrec_export.reproduction.run import Result
from cocorrrec_export.reproduction.schedule import Results

RESULTS = "results.json"
"""Written first, and what a folder of results is known by."""
REFERENCE = "CoCorrRec"
TESTED = ("uauc", "ndcg@10", "hr@10")
"""Metrics whose differences are tested."""
SIGNIFICANT = 0.05

ALONE_DEVIATION = (
    "CoCorrRec is trained with a second loss without the correction (`alone_weight`), so that a phone offline ranks "
    "well too."
)
DEVIATIONS = (
    "The state of a user is read once and scored against one positive and four negatives; the released implementation "
    "reads it again for each of the five. DIN has no state without a candidate: it keeps keys and values.",
    "Examples are shuffled, and the epoch is chosen on each user's last item but one; the released script reads its "
    "file in order and takes the epoch that is best on the test items.",
    "All models share one optimiser (AdamW), weight decay, dropout, batch and number of epochs; each has its own "
    "learning rate, chosen on validation with the first seed.",
    ALONE_DEVIATION,
    "SASRec's attention masks padding; the released one does not.",
    "Mamba4Rec's scan is plain torch, its result that of the fused kernel.",
    "The selection of the data and the sampled negatives are ours: the paper does not describe its own exactly.",
)


@dataclass(frozen=True)
class Findings:
    """All that the report is written from."""

    plan: Plan
    results: Results
    costs: dict[str, Cost]
    inference_ms: dict[int, float]
    """By mini-batch."""
    data_name: str
    paper_data: str | None
    """The paper's data set that ours is a prepared data set of."""

    @property
    def first(self) -> Result:
        """One of the results, for what all have in common."""
        return next(iter(self.results.rows.values()))[0]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that mean something with so many negatives."""
        return tuple(self.first.per_user())

    def statistics(self) -> Statistics:
        """Of the data."""
        return Statistics(**self.first.facts["statistics"])


def write_report(findings: Findings, out: Path) -> dict[str, Any]:
    """Write everything into ``out``, and return what ``results.json`` says."""
    per_user = {row: [result.per_user() for result in own] for row, own in findings.results.rows.items()}
    table = {row: scores(own) for row, own in per_user.items()}
    compared = REFERENCE in per_user and len(per_user) > 1
    tested = differences(dict(per_user), REFERENCE, TESTED) if compared else {}
    facts = _facts(findings, table, tested)
    publish_text(out / RESULTS, json.dumps(facts, indent=2) + "\n")
    _write_tables(findings, table, tested, out)
    for name, plot in _plots(findings, table).items():
        for kind in ("png", "svg"):
            with publish_file(out / f"{name}.{kind}") as staging:
                plot(staging, kind)
    publish_text(out / "report.md", "\n".join(_markdown(findings, table, tested)) + "\n")
    return facts


def publish_text(path: Path, text: str) -> None:
    """Write ``text`` as the whole file."""
    with publish_file(path) as staging:
        staging.write_text(text, encoding="utf-8")


def _facts(
    findings: Findings, table: dict[str, dict[str, Score]], tested: dict[str, dict[str, Difference]]
) -> dict[str, Any]:
    results = findings.results
    return {
        "toolkit_version": __version__,
        "data": findings.data_name,
        "statistics": asdict(findings.statistics()),
        "seeds": list(findings.plan.seeds),
        "settings": findings.plan.config.as_tables(),
        "learning_rates": rate_facts(results),
        "table_1": {row: {name: asdict(score) for name, score in own.items()} for row, own in table.items()},
        "differences": {row: {name: asdict(x) for name, x in own.items()} for row, own in tested.items()},
        "table_4": {
            row: {
                "parameters": cost.parameters,
                "flops_per_token": asdict(cost.flops.per_token),
                "memory_per_token": cost.memory_per_token,
                "peak_bytes": list(cost.peak_bytes) if cost.peak_bytes else None,
                "lengths": list(cost.flops.lengths),
            }
            for row, cost in findings.costs.items()
        },
        "figure_6": {
            str(size): {"inference_ms": findings.inference_ms[size]} | _means(result.per_user())
            for size, result in results.mini_batches.items()
        },
    }


def rate_facts(results: Results) -> dict[str, Any]:
    """The learning rate of each row, and what it was chosen from."""
    return {
        row: {"chosen": results.chosen[row], "validation": {f"{rate:g}": x for rate, x in tried.items()}}
        for row, tried in results.choice.items()
    }


def _means(per_user: dict[str, Any]) -> dict[str, float]:
    return {name: float(per_user[name].mean()) for name in METRICS if name in per_user}


def _write_tables(
    findings: Findings, table: dict[str, dict[str, Score]], tested: dict[str, dict[str, Difference]], out: Path
) -> None:
    names = findings.metrics
    seeds = [
        [row, result.run.seed, *(f"{result.per_user()[name].mean():.6f}" for name in names)]
        for row, results in findings.results.rows.items()
        for result in results
    ]
    write_csv(out / "table1_seeds.csv", ["model", "seed", *names], seeds)
    header = ["model", *(f"{name} {part}" for name in names for part in ("mean", "std"))]
    means = [
        [row, *(decimal(x) for name in names for x in (own[name].mean, own[name].std))] for row, own in table.items()
    ]
    write_csv(out / "table1.csv", header, means)
    against = [
        [row, name, decimal(x.mean), decimal(x.low), decimal(x.high), f"{x.p:.4f}"]
        for row, own in tested.items()
        for name, x in own.items()
    ]
    if against:
        write_csv(out / "differences.csv", ["model", "metric", "CoCorrRec is better by", "low", "high", "p"], against)
    write_rates(findings.results, out / "learning_rates.csv")
    costs = [
        [row, cost.parameters, cost.flops.per_token.paper, cost.flops.per_token.all, decimal(cost.memory_per_token)]
        for row, cost in findings.costs.items()
    ]
    columns = ["model", "parameters", "FLOPs per token (paper)", "FLOPs per token (all)", "bytes per token"]
    write_csv(out / "table4.csv", columns, costs)
    lengths = [
        [row, length, flops.paper, flops.all, "" if cost.peak_bytes is None else cost.peak_bytes[index]]
        for row, cost in findings.costs.items()
        for index, (length, flops) in enumerate(zip(cost.flops.lengths, cost.flops.counts, strict=True))
    ]
    write_csv(out / "figure4.csv", ["model", "length", "FLOPs (paper)", "FLOPs (all)", "peak bytes"], lengths)
    if findings.results.mini_batches:
        sizes = [
            [size, f"{findings.inference_ms[size]:.4f}", *(f"{x:.6f}" for x in _means(result.per_user()).values())]
            for size, result in findings.results.mini_batches.items()
        ]
        write_csv(out / "figure6.csv", ["mini-batch", "ms", *names], sizes)


def write_rates(results: Results, path: Path) -> None:
    """What every learning rate gave on validation."""
    rates = [
        [row, f"{rate:g}", f"{value:.6f}", "chosen" if rate == results.chosen[row] else ""]
        for row, tried in results.choice.items()
        for rate, value in tried.items()
    ]
    write_csv(path, ["model", "learning rate", "validation", ""], rates)


def decimal(value: float | None) -> str:
    """A cell of a CSV file; empty where there is nothing."""
    return "" if value is None else f"{value:.6f}"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as the whole file."""
    with publish_file(path) as staging, staging.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _plots(findings: Findings, table: dict[str, dict[str, Score]]) -> dict[str, Callable[[Path, str], None]]:
    made: dict[str, Callable[[Path, str], None]] = {
        "table1": lambda path, kind: plot_rows(table, path, kind),
        "figure4": lambda path, kind: plot_costs(findings.costs, path, kind),
    }
    if findings.results.mini_batches:
        name = "ndcg@10" if "ndcg@10" in findings.metrics else "uauc"
        values = {size: _means(x.per_user())[name] for size, x in findings.results.mini_batches.items()}
        made["figure6"] = lambda path, kind: plot_mini_batches(values, name, findings.inference_ms, path, kind)
    return made


# ---------------------------------------------------------------------- Markdown


def _markdown(
    findings: Findings, table: dict[str, dict[str, Score]], tested: dict[str, dict[str, Difference]]
) -> list[str]:
    printed = paper.TABLE_1.get(findings.paper_data or "", {})
    lines = [f"# {findings.data_name}", "", *_data_lines(findings), "", *_quality_lines(findings, table, printed)]
    if tested:
        lines += ["", *_difference_lines(tested, findings)]
    lines += ["", *_rate_lines(findings), "", *_cost_lines(findings)]
    if findings.results.mini_batches:
        lines += ["", *_mini_batch_lines(findings)]
    alone = findings.plan.config.training.alone_weight
    deviations = [f"- {text}" for text in DEVIATIONS if alone or text is not ALONE_DEVIATION]
    return [*lines, "", "## Where this is not the paper's way", "", *deviations]


def _data_lines(findings: Findings) -> list[str]:
    found, filters = findings.statistics(), findings.plan.config.data.filters
    rows = [["this prepared data set", f"{found.users:,}", f"{found.items:,}", f"{found.interactions:,}"]]
    if findings.paper_data:
        rows.append(["the paper's", *(f"{x:,}" for x in paper.TABLE_2[findings.paper_data])])
    return [
        "## Table 2: the data",
        "",
        f"Items with {filters.min_item_interactions} and more interactions, then users with "
        f"{filters.min_user_interactions} and more. Each user's last item is the test, among "
        f"{findings.first.facts['negatives']} uniform negatives.",
        "",
        *markdown_table(["", "users", "items", "interactions"], rows),
    ]


def _quality_lines(
    findings: Findings, table: dict[str, dict[str, Score]], printed: dict[str, tuple[float, ...]]
) -> list[str]:
    names = findings.metrics
    places = {name: sorted((own[name].mean for own in table.values()), reverse=True) for name in names}
    rows = []
    for row, own in table.items():
        rows.append([row, *(marked(own[name], places[name]) for name in names)])
        if row in printed:
            theirs = dict(zip(METRICS, printed[row], strict=True))
            rows.append(["  in the paper", *(f"{theirs[name]:.4f}" for name in names)])
    seeds = ", ".join(map(str, findings.plan.seeds))
    return [
        "## Table 1: ranking",
        "",
        f"Mean ± standard deviation over seeds {seeds}. **Best**, _second_.",
        "",
        *markdown_table(["", *(name.upper() for name in names)], rows),
        *_left_out(findings),
        "",
        "![Table 1](table1.png)",
    ]


def _left_out(findings: Findings) -> list[str]:
    """What is not in the table, and why."""
    left = [name.upper() for name in METRICS if name not in findings.metrics]
    if not left:
        return []
    candidates = findings.first.facts["negatives"] + 1
    return ["", f"Left out: {', '.join(left)}: of {candidates} candidates, every order would earn it."]


def marked(score: Score, places: list[float]) -> str:
    """A cell of a table; ``places`` are the means of its column, best first."""
    text = f"{score.mean:.4f}" + ("" if score.std is None else f" ± {score.std:.4f}")
    if score.mean == places[0]:
        return f"**{text}**"
    return f"_{text}_" if len(places) > 1 and score.mean == places[1] else text


def difference_rows(tested: dict[str, dict[str, Difference]]) -> list[list[str]]:
    """Rows of a table: a model, and by metric the difference from it with its interval and p value."""
    return [
        [row, *(f"{x.mean:+.4f} [{x.low:+.4f}, {x.high:+.4f}], p {x.p:.4f}" for x in own.values())]
        for row, own in tested.items()
    ]


def _difference_lines(tested: dict[str, dict[str, Difference]], findings: Findings) -> list[str]:
    names = [name for name in TESTED if name in findings.metrics]
    return [
        f"### {REFERENCE} against each",
        "",
        f"{REFERENCE} minus the other, each user's mean over seeds: 95% interval over {findings.statistics().users:,} "
        "users, and the p value of the paired randomization test, by Holm's procedure for all models of a column.",
        "",
        *markdown_table(["", *(name.upper() for name in names)], difference_rows(tested)),
        "",
        *(f"- {_verdict(name, tested)}" for name in names),
    ]


def _verdict(metric: str, tested: dict[str, dict[str, Difference]]) -> str:
    groups: dict[str, list[str]] = {"better than": [], "worse than": [], "not significantly different from": []}
    for row, own in tested.items():
        found = own[metric]
        level = "not significantly different from"
        verdict = level if found.p >= SIGNIFICANT else "better than" if found.mean > 0 else "worse than"
        groups[verdict].append(row)
    return f"{metric.upper()}: " + "; ".join(f"{verdict} {', '.join(rows)}" for verdict, rows in groups.items() if rows)


def _rate_lines(findings: Findings) -> list[str]:
    training = findings.plan.config.training
    shared = ", ".join(
        f"{name.replace('_', ' ')} {getattr(training, name):g}"
        for name in ("epochs", "patience", "batch_size", "weight_decay", "alone_weight")
    )
    return [
        "## Learning rates",
        "",
        f"Validation {training.monitor.upper()} of the best epoch with seed {findings.plan.seeds[0]}; the best is "
        f"taken. Shared: dropout {findings.plan.config.model.get('dropout', 0.0):g}, {shared}.",
        "",
        *rate_table(findings.plan, findings.results),
    ]


def rate_table(plan: Plan, results: Results) -> list[str]:
    """What every learning rate gave on validation, the best epochs, and which runs may have ended too early."""
    rates = sorted({rate for tried in results.choice.values() for rate in tried})
    rows = []
    for row, tried in results.choice.items():
        shown = {rate: f"{value:.4f}" for rate, value in tried.items()}
        shown[results.chosen[row]] = f"**{shown[results.chosen[row]]}**"
        best = [result.facts["best_epoch"] for result in results.rows[row]]
        rows.append([row, *(shown.get(rate, "") for rate in rates), ", ".join(map(str, best))])
    columns = ["", *(f"{rate:g}" for rate in rates), "best epoch of each seed"]
    return [*markdown_table(columns, rows), *_still_improving(plan, results)]


def _still_improving(plan: Plan, results: Results) -> list[str]:
    """A model whose last epoch was its best may not have been trained to its end."""
    most = {row: plan.settings(own[0].run).training.epochs for row, own in results.rows.items()}
    cut: dict[int, list[str]] = {}
    for row, own in results.rows.items():
        count = sum(result.facts["best_epoch"] == most[row] for result in own)
        if count:
            cut.setdefault(most[row], []).append(f"{row} ({count} of {len(plan.seeds)} seeds)")
    return [
        line
        for epochs, rows in cut.items()
        for line in (
            "",
            f"The last epoch allowed, {epochs}, was the best of {', '.join(rows)}: more may do better (`--epochs`).",
        )
    ]


def _cost_lines(findings: Findings) -> list[str]:
    rows = []
    for row, cost in findings.costs.items():
        flops = cost.flops.per_token
        memory = "" if cost.memory_per_token is None else f"{cost.memory_per_token:,.0f}"
        million = f"{flops.paper / 1e6:.2f} M"
        rows.append([row, f"{cost.parameters:,}", million, f"{paper.TABLE_4[row]} M", f"{flops.all:,}", memory])
    columns = [
        "",
        "parameters",
        "FLOPs per token, `paper`",
        "in the paper",
        "FLOPs per token, `all`",
        "bytes per token",
    ]
    return [
        "## Table 4: cost",
        "",
        "`paper`: its own count, of layers over a batch of 1,024. `all`: every matrix product, for one user. Bytes: "
        "the slope over L = 10, 15, 20, 25 of the measured peak of one forward pass in torch, by the batch of 1,024.",
        "",
        *markdown_table(columns, rows),
        "",
        "![Figure 4](figure4.png)",
    ]


def _mini_batch_lines(findings: Findings) -> list[str]:
    names = [name for name in TESTED if name in findings.metrics]
    rows = []
    for size, result in findings.results.mini_batches.items():
        means = _means(result.per_user())
        rows.append([str(size), *(f"{means[name]:.4f}" for name in names), f"{findings.inference_ms[size]:.3f}"])
    return [
        f"## Figure 6: the mini-batch, L = {MINI_BATCH_LENGTH}",
        "",
        "CoCorrRec without the GCN, one seed; time of one user in torch, on one thread.",
        "",
        *markdown_table(["mini-batch", *(name.upper() for name in names), "ms"], rows),
        "",
        "![Figure 6](figure6.png)",
    ]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    cells = [list(header), ["---"] * len(header), *map(list, rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]
