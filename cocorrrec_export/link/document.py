"""The exchange over a real link: does the correction arrive before the phone needs it?

Clocks: client and server run on one host, so both read the same monotonic clock. The upload lasts from the call of the
client to the moment at which the server has the whole request, the cloud's time from there to the moment at which its
answer is ready, the download from there to the moment at which the client has the tensors.

Tolerance: H is known when ``encode`` is done. The phone then ranks alone with ``rank``, which it must do anyway for the
case that the cloud is late; the correction is needed when that is done.
"""

import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import publish_file, require_writable
from cocorrrec_export.link.shaping import Link
from cocorrrec_export.pictures import plain_style
from cocorrrec_export.profiling.report.document import PROFILE, read_profile
from cocorrrec_export.runtime.base import Runtime, score_list
from cocorrrec_export.text import html_text

WARM_UP = 10
SAMPLES, PAGE = "link.json", "link.html"
_TITLE = "<title>cocorr-profile link</title>"
_HEAD_BYTES = 1024
PARTS = ("upload", "cloud", "download")


@dataclass(frozen=True)
class Sample:
    """One exchange, in seconds."""

    upload: float
    cloud: float
    download: float

    @property
    def total(self) -> float:
        """From the call to the tensors."""
        return self.upload + self.cloud + self.download


@dataclass(frozen=True)
class Stamps:
    """When the server had the request and its answer, on the host's monotonic clock."""

    received: float
    answered: float


Ask = Callable[[NDArray[np.generic]], Awaitable[Stamps]]
"""Sends an upload, returns when the tensors are there."""


@dataclass(frozen=True)
class Tolerance:
    """How long the phone can do without the correction."""

    seconds: float
    source: str


async def measure(ask: Ask, upload: NDArray[np.generic], requests: int) -> tuple[list[Sample], int]:
    """Exchanges one after another, as one phone makes them.

    Args:
        ask: the client.
        upload: ``H [1, L, D]``, or ``ids [1, L_cloud]``.
        requests: how many, after a few that are not counted.

    Returns:
        The samples, and how many exchanges failed.
    """
    samples, failed = [], 0
    for number in range(WARM_UP + requests):
        start = time.perf_counter()
        try:
            stamps = await ask(upload)
        except CocorrrecError:
            failed += number >= WARM_UP
            continue
        end = time.perf_counter()
        if number >= WARM_UP:
            samples.append(Sample(stamps.received - start, stamps.answered - stamps.received, end - stamps.answered))
    return samples, failed


def measured_tolerance(scn: Runtime, ids: NDArray[np.int32], candidates: NDArray[np.int32]) -> Tolerance:
    """The median time of ranking alone, on this host, over 200 calls after a warm-up.

    Args:
        scn: with the entry point ``rank``.
        ids: ``[1, L]``.
        candidates: ``[n]``; as many as an app ranks.
    """
    times = []
    for _ in range(WARM_UP + 200):
        start = time.perf_counter()
        score_list(scn, "rank", {"ids": ids}, candidates)
        times.append(time.perf_counter() - start)
    where = f"'rank' of {len(candidates)} candidates, p50 of 200 calls on this host ({scn.executed_by})"
    return Tolerance(statistics.median(times[WARM_UP:]), where)


def profiled_tolerance(path: Path) -> Tolerance:
    """The median time of ``rank`` in a file of ``cocorr-profile``, such as of a phone.

    Where several numbers of threads were tried, the first counts.

    Raises:
        UsageError: no such file.
        CocorrrecError: it is damaged, or holds no time of ``rank``.
    """
    document = read_profile(path)
    runs = [entry["runs"] for entry in document["entry_points"] if entry["name"] == "rank"]
    if not runs:
        raise CocorrrecError(f"{path}: holds no time of 'rank'; profile an export that has this entry point")
    machine = document["machine"]
    label = ", ".join(dict.fromkeys(part for part in (machine["name"], machine.get("soc")) if part))
    return Tolerance(runs[0][0]["p50_us"] / 1e6, f"'rank', p50 on {label}, from {PROFILE}")


def row(link: Link, samples: Sequence[Sample], failed: int, tolerance: Tolerance) -> dict[str, Any]:
    """What is reported of one link; times in milliseconds, all raw samples kept."""
    values: dict[str, Any] = {
        "bandwidth_mb_s": link.bandwidth_mb_s,
        "rtt_ms": link.rtt_ms,
        "loss": link.loss,
        "requests": len(samples) + failed,
        "failed": failed,
    }
    for part in (*PARTS, "total"):
        raw = [getattr(sample, part) * 1e3 for sample in samples]
        quantiles = np.percentile(raw, (50, 90, 99)).tolist() if raw else [None] * 3
        values[f"{part}_ms"] = dict(zip(("p50", "p90", "p99"), quantiles, strict=True)) | {"raw": raw}
    in_time = sum(sample.total <= tolerance.seconds for sample in samples)
    values["in_time"] = in_time / max(1, len(samples) + failed)
    return values


@plain_style()
def timeline_svg(rows: Sequence[dict[str, Any]], tolerance_ms: float) -> str:
    """Upload, cloud and download of each bandwidth on one time axis, and the moment the correction is needed."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.6 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    names = [f"{each['bandwidth_mb_s']:g} MB/s" for each in rows]
    left = np.zeros(len(rows))
    for part, color in zip(PARTS, ("#4878a8", "#d98032", "#5a9e6f"), strict=True):
        widths = np.array([each[f"{part}_ms"]["p50"] for each in rows])
        axes.barh(names, widths, left=left, color=color, label=part, height=0.6)
        left += widths
    axes.axvline(tolerance_ms, color="black", linestyle="--", label="the correction is needed")
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds since H (medians)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.25), ncol=4, frameon=False)
    out = StringIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


COLUMNS = ("MB/s", "RTT", "loss", "up", "cloud", "down", "total", "p99", "tolerance", "in time")
"""Times in milliseconds: medians, and the 99th percentile of the total."""


def table_rows(document: dict[str, Any]) -> list[list[str]]:
    """One row a link, in the order of :data:`COLUMNS`."""

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    return [
        [
            f"{each['bandwidth_mb_s']:g}",
            f"{each['rtt_ms']:g}",
            f"{each['loss']:.0%}",
            *(shown(each[f"{part}_ms"]["p50"]) for part in PARTS),
            shown(each["total_ms"]["p50"]),
            shown(each["total_ms"]["p99"]),
            shown(document["tolerance"]["ms"]),
            f"{each['in_time']:.0%}",
        ]
        for each in document["links"]
    ]


def html_report(document: dict[str, Any]) -> str:
    """A page that needs no network."""
    plain = [
        each for each in document["links"] if each["rtt_ms"] == 0 and each["loss"] == 0 and each["total_ms"]["raw"]
    ]
    picture = f"<figure>{timeline_svg(plain, document['tolerance']['ms'])}</figure>" if plain else ""
    head = "".join(f"<th>{html_text(column)}</th>" for column in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{html_text(cell)}</td>" for cell in cells) + "</tr>" for cells in table_rows(document)
    )
    facts = "".join(f"<p>{html_text(line)}</p>" for line in facts_of(document))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
{_TITLE}<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 62rem; }}
table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .7rem .25rem 0; text-align: right; border-bottom: 1px solid #8884; }}
.scroll {{ overflow-x: auto; }} figure {{ margin: 1rem 0; background: #fff; padding: .4rem; }}
figure svg {{ display: block; width: 100%; height: auto; }}
</style></head><body><h1>The exchange over the link</h1>{facts}{picture}
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></body></html>
"""


def check_folder(folder: Path) -> None:
    """Check, before the links are measured, that the report can be written into a folder.

    Raises:
        UsageError: it holds a ``link.json`` or ``link.html`` of something else.
        CocorrrecError: nothing can be written there.
    """
    require_writable(folder / SAMPLES, _has_samples)
    require_writable(folder / PAGE, _is_page)


def write_report(folder: Path, document: dict[str, Any]) -> None:
    """Write ``link.json`` and ``link.html``, each complete or not at all."""
    with publish_file(folder / SAMPLES, _has_samples) as staging:  # before the page: what was measured is kept
        staging.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    with publish_file(folder / PAGE, _is_page) as staging:
        staging.write_text(html_report(document), encoding="utf-8")


def _has_samples(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"links", "shaping", "tolerance"} <= document.keys()


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return _TITLE.encode() in file.read(_HEAD_BYTES)


def facts_of(document: dict[str, Any]) -> list[str]:
    """What a reader has to know next to the table."""
    ways = {
        "namespace": "bandwidth: kernel token bucket (tc tbf) on a veth pair into a network namespace",
        "proxy": "bandwidth: a shaping proxy in user space",
    }
    up, down = (f"{document[f'{way}load_bytes']:,} bytes" for way in ("up", "down"))
    return [
        f"upload {up}, download {down}, plus HTTP",
        f"{ways[document['shaping']]}; added delay and loss: the proxy in user space, loss as retransmission time",
        f"tolerance {document['tolerance']['ms']:.3f} ms: {document['tolerance']['source']}",
    ]
