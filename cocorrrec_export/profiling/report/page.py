"""The report of a profile: rows for a terminal, and a page that needs no network."""

import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.report.document import PROFILE, read_profile, write_profile
from cocorrrec_export.profiling.report.plots import PLOTS, STAGES, draw_all
from cocorrrec_export.text import html_text

REPORT = "report.html"
MANIFEST_COPY = "manifest.json"
PLOT_FOLDER = "plots"
LATENCY_COLUMNS = ("latency, us", "p50", "p90", "p99")
MEMORY_COLUMNS = ("load and memory", "cold load ms", "first call ms", "peak kB", "heap bytes", "planned")
FLOP_COLUMNS = ("FLOPs", "mini-batch", "a token", "a token, paper convention", "one call at 10 clicks")
PART_COLUMNS = ("heap, bytes", "file", "arena", "rest of the load", "first call", "later")
SLOPE_COLUMNS = ("bytes a token", "planned", "peak", "heap")

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 62rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; } th { vertical-align: bottom; }
table.facts td { text-align: left; overflow-wrap: anywhere; } table.facts td:first-child { white-space: nowrap; }
.scroll + .scroll { margin-top: 1rem; }
figure { margin: 1rem 0; max-width: 44rem; background: #fff; border-radius: .4rem; padding: .4rem; }
figure svg { display: block; width: 100%; height: auto; }
.pass { color: #18794e; font-weight: 600; } .fail, .warn { color: #c4281c; font-weight: 600; }
@media (max-width: 40rem) {
  body { padding: .6rem; }
  table { font-size: .72rem; } th, td { padding-right: .35rem; } th { max-width: 5.5rem; }
}
p.note { font-size: .9rem; opacity: .8; }
"""


def latency_rows(document: dict[str, Any]) -> list[list[str]]:
    """One row an entry point and number of threads, in the order of :data:`LATENCY_COLUMNS`."""
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
    """One row an entry point, in the order of :data:`MEMORY_COLUMNS`."""
    return [
        [
            entry["name"],
            f"{statistics.median(entry['cold_load_ns']) / 1e6:.2f}",
            f"{statistics.median(entry['first_call_ns']) / 1e6:.2f}",
            f"{entry['peak_over_idle_kb']:,}",
            f"{entry['heap_over_idle_bytes']:,}",
            f"{entry['planned_bytes']:,}" if entry["planned_bytes"] else "not told",
        ]
        for entry in document["entry_points"]
    ]


def part_rows(document: dict[str, Any]) -> list[list[str]]:
    """One row an entry point, in the order of :data:`PART_COLUMNS`."""
    parts = ("program", "planned", "load", "first_call", "later")
    return [
        [entry["name"], *(f"{entry['heap_parts'][part]:,}" for part in parts)] for entry in document["entry_points"]
    ]


def flop_rows(document: dict[str, Any]) -> list[list[str]]:
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
        *_verdict(document),
        "<h2>Time and memory</h2>",
        _table(LATENCY_COLUMNS, latency_rows(document)),
        _table(MEMORY_COLUMNS, memory_rows(document)),
        '<p class="note">Cold load and first call are medians of fresh processes, their files in the system\'s cache. '
        "Peak is VmHWM at the end over that of the runner before it did anything; it holds the pages of the runtime's "
        "libraries that were touched, which Memory by stage tells apart. Heap is what malloc has given out since the "
        "load began: the program, the arena and packed weights. Planned is the arena alone.</p>",
        _table(PART_COLUMNS, part_rows(document)),
        '<p class="note">The rest of the load is what delegates make of the weights, and objects of the runtime; the '
        "first call gives out workspace. Where the file is not read in a step of its own, it is in the rest.</p>",
    ]
    for name, text in titles.items():
        parts.append(f"<h2>{html_text(text)}</h2><figure>{_inline(pictures[name], name)}</figure>")
        if name == "memory":
            parts.append(_table(("kB, data in brackets", *STAGES.values()), _stage_rows(document)))
        if name == "flops":
            parts.append(_table(FLOP_COLUMNS, flop_rows(document)))
            parts.append(
                '<p class="note">Counted on the plain model. Two operations a multiply-accumulate, one user; the paper '
                "convention counts layers alone over a batch of 1,024. scn, scn+gcn and forward read out every "
                "position.</p>"
            )
        if name == "memory_over_length":
            parts.append(_table(SLOPE_COLUMNS, slope_rows(document)))
    parts += [
        "<h2>What was measured</h2>",
        _table((), machine_rows(document), kind="facts"),
        '<p class="note">Every sample is in <a href="profile.json">profile.json</a>; the artifact is described by its '
        '<a href="manifest.json">manifest</a>. Energy and GPU or NPU delegates are not measured.</p>',
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


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
