"""The report of a profile: rows for a terminal, and a page that needs no network."""

import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cocorrrec_export.artifact.manifest import FLOP_COLUMNS, flop_rows
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.report.document import PROFILE, read_profile, write_profile
from cocorrrec_export.profiling.report.plots import PLOTS, STAGES, draw_all
from cocorrrec_export.text import html_text

REPORT = "report.html"
MANIFEST_COPY = "manifest.json"
PLOT_FOLDER = "plots"
HEADLINE = ("rank", "step")
"""The entry points whose latency comes first: a whole list, and one click."""
LATENCY_COLUMNS = ("latency, us", "p50", "p90", "p99")
MEMORY_COLUMNS = ("load and memory", "cold load ms", "first call ms", "peak kB", "heap bytes", "planned")
CURVE_COLUMNS = (
    "FLOPs of the plain model",
    "mini-batch",
    "per token",
    "per token, paper convention",
    "one call at 10 clicks",
)
PART_COLUMNS = ("heap, bytes", "file", "arena", "rest of the load", "first call", "later")
SLOPE_COLUMNS = ("bytes per token", "planned", "peak", "heap")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --good: #18794e; --bad: #c4281c; }
@media (prefers-color-scheme: dark) { :root { --good: #56c58d; --bad: #ff8a7a; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 62rem; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p.device { margin: 0 0 .8rem; }
dl.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .6rem; margin: .8rem 0; }
dl.headline div { background: var(--soft); border-radius: .4rem; padding: .5rem .7rem; }
dl.headline dt { font-size: .85rem; } dl.headline dd { margin: 0; font-variant-numeric: tabular-nums; }
dl.headline dd strong { font-size: 1.25rem; } dl.headline dd small { display: block; font-size: .8rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } th { vertical-align: bottom; }
table.facts td { text-align: left; overflow-wrap: anywhere; } table.facts td:first-child { white-space: nowrap; }
.scroll + .scroll { margin-top: 1rem; }
figure { margin: .4rem 0; background: #fff; border-radius: .4rem; padding: .4rem; }
figure svg { display: block; width: 100%; height: auto; }
@media (prefers-color-scheme: dark) {
  figure { background: #1a1a1a; } figure svg { filter: invert(.9) hue-rotate(180deg); }
}
.pass { color: var(--good); font-weight: 600; } .fail, .warn { color: var(--bad); font-weight: 600; }
@media (max-width: 40rem) {
  body { padding: .6rem; } h1 { font-size: 1.15rem; }
  dl.headline { grid-template-columns: 1fr 1fr; gap: .4rem; } dl.headline dd strong { font-size: 1.05rem; }
  table { font-size: .72rem; } th, td { padding-right: .35rem; } th { max-width: 5.5rem; }
}
p.note { font-size: .9rem; opacity: .8; }
"""


def latency_rows(document: dict[str, Any]) -> list[list[str]]:
    """One row per entry point and number of threads, in the order of :data:`LATENCY_COLUMNS`."""
    several = len(document["settings"]["threads"]) > 1
    return [
        [
            f"{entry['name']}, {run['threads']} thread{'s' * (run['threads'] > 1)}" if several else entry["name"],
            *(f"{run[key]:,.1f}" for key in ("p50_us", "p90_us", "p99_us")),
        ]
        for entry in document["entry_points"]
        for run in entry["runs"]
    ]


def memory_rows(document: dict[str, Any]) -> list[list[str]]:
    """One row per entry point, in the order of :data:`MEMORY_COLUMNS`."""
    return [
        [
            entry["name"],
            f"{statistics.median(entry['cold_load_ns']) / 1e6:.2f}",
            f"{statistics.median(entry['first_call_ns']) / 1e6:.2f}",
            f"{entry['peak_over_idle_kb']:,}",
            f"{entry['heap_over_idle_bytes']:,}",
            f"{entry['planned_bytes']:,}" if entry["planned_bytes"] else "not reported",
        ]
        for entry in document["entry_points"]
    ]


def part_rows(document: dict[str, Any]) -> list[list[str]]:
    """One row per entry point, in the order of :data:`PART_COLUMNS`."""
    parts = ("program", "planned", "load", "first_call", "later")
    return [
        [entry["name"], *(f"{entry['heap_parts'][part]:,}" for part in parts)] for entry in document["entry_points"]
    ]


def curve_rows(document: dict[str, Any]) -> list[list[str]]:
    """One row a curve: what, mini-batch, per token in both conventions, one call at ten clicks."""
    growing = "length" if any(curve["mini_batch"] for curve in document["flops"]) else "none"
    return [
        [
            curve["name"],
            growing if curve["mini_batch"] is None else str(curve["mini_batch"]),
            f"{curve['per_token']['all']:,}",
            f"{curve['per_token']['paper'] / 1e6:.2f} M",
            f"{curve['all'][0]:,}",
        ]
        for curve in document["flops"]
    ]


def machine_rows(document: dict[str, Any]) -> list[list[str]]:
    """What was measured on what."""
    artifact, machine, settings = document["artifact"], document["machine"], document["settings"]
    before, after = machine["before"], machine["after"]
    return [
        [
            "file",
            f"{artifact['name']}/{artifact['program']}, {artifact['bytes']:,} bytes, sha256 {artifact['sha256'][:16]}",
        ],
        ["model", f"{artifact['model']} ({artifact['model_sha256'][:16]})"],
        ["machine", f"{machine['name']}, {machine['soc']}" + (" (emulated)" if machine["emulated"] else "")],
        ["system", f"{machine['os']}, kernel {machine['kernel']}, {machine['abi']}, {machine['page_size']} byte pages"],
        [
            "runner",
            document["runner"]["runtime"]
            + (f", package {document['runner']['id']}" if document["runner"]["id"] else ""),
        ],
        ["governor", f"{before['governor'] or 'unknown'}"],
        ["battery", _before_after(before["battery_celsius"], after["battery_celsius"], " °C")],
        ["thermal status", _before_after(before["thermal_status"], after["thermal_status"], "")],
        ["calls", f"{settings['iterations']} after {settings['warmup']} to warm up, in one process"],
        ["taken", f"{document['created']}, cocorrrec-export {document['toolkit_version']}"],
    ]


def _before_after(before: float | None, after: float | None, unit: str) -> str:
    if before is None and after is None:
        return "not known"
    return f"{before}{unit} before, {after}{unit} after"


def write_report(folder: Path, document: dict[str, Any], manifest: bytes) -> None:
    """Write ``profile.json``, the pictures, a copy of the artifact's manifest, and ``report.html``."""
    write_profile(folder, document)
    (folder / MANIFEST_COPY).write_bytes(manifest)
    titles = draw_all(document, folder / PLOT_FOLDER)
    pictures = {name: (folder / PLOT_FOLDER / f"{name}.svg").read_text(encoding="utf-8") for name in titles}
    (folder / REPORT).write_text(_page(document, titles, pictures), encoding="utf-8")


def owned_files(folder: Path) -> set[str] | None:
    """The files of a report that :func:`write_report` wrote; None where there is no profile."""
    try:
        read_profile(folder)
    except CocorrrecError:
        return None
    plots = {f"{PLOT_FOLDER}/{name}.{kind}" for name in PLOTS for kind in ("svg", "png")}
    return {PROFILE, MANIFEST_COPY, REPORT, *plots}


def _page(document: dict[str, Any], titles: dict[str, str], pictures: dict[str, str]) -> str:
    artifact, machine = document["artifact"], document["machine"]
    title = f"{artifact['name']} on {machine['name']}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html_text(title)}</h1>",
        f'<p class="device">{html_text(_device_line(document))}</p>',
        *_verdict(document),
        _headline(document),
        '<div class="plots">',
        *(
            f"<section><h2>{html_text(text)}</h2><figure>{_inline(pictures[name], name)}</figure></section>"
            for name, text in titles.items()
        ),
        "</div>",
        "<h2>Latency</h2>",
        _table(LATENCY_COLUMNS, latency_rows(document)),
        "<h2>Load and memory</h2>",
        _table(MEMORY_COLUMNS, memory_rows(document)),
        '<p class="note">Cold load and first call are medians of fresh processes, their files in the system\'s cache. '
        "Peak is VmHWM at the end minus that of the runner before it did anything; it includes the pages of the "
        "runtime's libraries that were touched, which the table by stage separates. Heap is what malloc has given out "
        "since the load began: the program, the arena and packed weights. Planned is the arena alone.</p>",
        _table(PART_COLUMNS, part_rows(document)),
        '<p class="note">The rest of the load is what delegates make of the weights, and objects of the runtime; the '
        "first call gives out workspace. Where the file is not read in a step of its own, it is in the rest.</p>",
        _table(("kB, data in brackets", *STAGES.values()), _stage_rows(document)),
    ]
    parts += [
        "<h2>FLOPs of each entry point</h2>",
        _table(FLOP_COLUMNS, flop_rows(document["entry_flops"])),
        '<p class="note">Counted on the graph in the file, for one user: matrix products, two operations per '
        "multiply-accumulate, and element-wise work next to them. A token is one click more in the history, or the "
        "click of step; score has none.</p>",
    ]
    if document["flops"]:
        parts += [
            "<h2>FLOPs of the plain model</h2>",
            _table(CURVE_COLUMNS, curve_rows(document)),
            '<p class="note">Two operations per multiply-accumulate, one user, every position read out; the paper '
            "convention counts layers alone over a batch of 1,024.</p>",
        ]
    if document["shapes"]:
        parts += ["<h2>Memory per token</h2>", _table(SLOPE_COLUMNS, slope_rows(document))]
    parts += [
        "<h2>What was measured</h2>",
        _table((), machine_rows(document), kind="facts"),
        '<p class="note">Every sample is in <a href="profile.json">profile.json</a>; the artifact is described by its '
        '<a href="manifest.json">manifest</a>. Energy and GPU or NPU delegates are not measured.</p>',
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _device_line(document: dict[str, Any]) -> str:
    """What ran where, in a line."""
    artifact, machine = document["artifact"], document["machine"]
    emulated = ", emulated" if machine["emulated"] else ""
    return (
        f"{artifact['program']}, {artifact['precision']}, {artifact['bytes'] / 1e6:.2f} MB, model {artifact['model']}, "
        f"in {document['runner']['runtime']} on {machine['soc']}{emulated}, {machine['os']}"
    )


def _headline(document: dict[str, Any]) -> str:
    """The figures that one looks for first."""
    cards = [("Parity", document["parity"]["verdict"], f"{document['parity']['cases']} test vectors")]
    entries = {entry["name"]: entry for entry in document["entry_points"]}
    for name in [name for name in HEADLINE if name in entries] or list(entries)[:2]:
        run = entries[name]["runs"][0]
        cards.append((f"{name}, p50", f"{run['p50_us']:,.0f} µs", f"p99 {run['p99_us']:,.0f} µs"))
    highest = max(document["entry_points"], key=lambda entry: int(entry["peak_over_idle_kb"]))
    cards.append(
        ("Peak memory", f"{highest['peak_over_idle_kb'] / 1000:,.1f} MB", f"over the idle runner, {highest['name']}")
    )
    flops = document["artifact"].get("flops_per_token")
    if flops:
        cards.append(
            (
                "FLOPs per token",
                "-" if flops["all"] is None else f"{flops['all']:,}",
                f"{flops['paper'] / 1e6:.2f} M in the paper's convention",
            )
        )
    texts = ((html_text(title), html_text(figure), html_text(small)) for title, figure, small in cards)
    return (
        '<dl class="headline">'
        + "".join(f"<div><dt>{t}</dt><dd><strong>{f}</strong><small>{s}</small></dd></div>" for t, f, s in texts)
        + "</dl>"
    )


def slope_rows(document: dict[str, Any]) -> list[list[str]]:
    """Bytes per token of each entry point."""
    keys = ("planned_bytes_per_token", "peak_bytes_per_token", "heap_bytes_per_token")
    rows = (document["shapes"] or {"per_token": []})["per_token"]
    return [[row["entry_point"], *(f"{row[key]:,.0f}" for key in keys)] for row in rows]


def parity_line(document: dict[str, Any]) -> str:
    """The verdict in a line."""
    parity = document["parity"]
    largest = "not finite" if parity["max_abs"] is None else f"{parity['max_abs']:.3g}"
    return (
        f"parity: {parity['verdict']} on {parity['cases']} test vectors, largest difference {largest}, "
        f"top-10 overlap {parity['top10_overlap']:.4f}"
    )


def _verdict(document: dict[str, Any]) -> list[str]:
    parity, machine = document["parity"], document["machine"]
    parts = [f'<p class="{parity["verdict"]}">{html_text(parity_line(document))}</p>']
    parts += [f'<p class="fail">{html_text(problem)}</p>' for problem in parity["problems"]]
    if machine["throttled"]:
        parts.append('<p class="warn">Taken on a hot or throttling device: do not compare its times.</p>')
    if machine["emulated"]:
        parts.append('<p class="warn">The processor was emulated: its times say nothing about a phone.</p>')
    return parts


def _stage_rows(document: dict[str, Any]) -> list[list[str]]:
    return [
        [
            entry["name"],
            *(f"{entry['memory'][s]['resident_kb']:,} ({entry['memory'][s]['anonymous_kb']:,})" for s in STAGES),
        ]
        for entry in document["entry_points"]
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "figures") -> str:
    head = "".join(f"<th>{html_text(text)}</th>" for text in header)
    body = "".join("<tr>" + "".join(f"<td>{html_text(text)}</td>" for text in row) + "</tr>\n" for row in rows)
    return f'<div class="scroll"><table class="{kind}"><tr>{head}</tr>\n{body}</table></div>'


def _inline(svg: str, name: str) -> str:
    """An SVG file as an element: no prologue, no fixed size, and ids of its own, as several share one page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    return re.sub(r"""(url\(#|href="#)""", rf"\g<1>{name}-", svg)
