"""Two profiles side by side: what became better or worse, and whether that is beyond the noise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.errors import CocorrrecError

RESAMPLES = 2000
CONFIDENCE = 95


@dataclass(frozen=True)
class Change:
    """One figure in both profiles; ratios are the second over the first, so above 1 is worse."""

    what: str
    unit: str
    first: float
    second: float
    interval: tuple[float, float] | None
    """Of the ratio, where there are samples; None: the figure is one measurement or exact."""

    @property
    def ratio(self) -> float:
        """The second over the first."""
        return self.second / self.first if self.first else float("inf") if self.second else 1.0

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves no change out; a figure without one is taken as it is."""
        return self.first != self.second if self.interval is None else not self.interval[0] <= 1 <= self.interval[1]

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``same``."""
        if not self.beyond_noise:
            return "same"
        return "worse" if self.ratio > 1 else "better"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "what": self.what,
            "unit": self.unit,
            "first": self.first,
            "second": self.second,
            "ratio": self.ratio if self.first else None,
            "interval": list(self.interval) if self.interval else None,
            "verdict": self.verdict,
        }


def compare_profiles(first: dict[str, Any], second: dict[str, Any]) -> list[Change]:
    """Every figure that both profiles have.

    Raises:
        CocorrrecError: they have no entry point in common.
    """
    ours = {entry["name"]: entry for entry in second["entry_points"]}
    pairs = [(entry, ours[entry["name"]]) for entry in first["entry_points"] if entry["name"] in ours]
    if not pairs:
        raise CocorrrecError("the two profiles have no entry point in common")
    changes = [Change("file", "bytes", first["artifact"]["bytes"], second["artifact"]["bytes"], None)]
    for old, new in pairs:
        changes += _compare_entry(old, new)
    return changes


def warnings(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """What makes a comparison less than fair."""
    said = []
    for key in ("name", "soc", "abi", "os"):
        a, b = first["machine"][key], second["machine"][key]
        if a != b:
            said.append(f"the machines differ: {key} is '{a}' and '{b}'")
    for name, profile in (("first", first), ("second", second)):
        if profile["machine"]["throttled"]:
            said.append(f"the {name} profile was taken on a hot or throttling device")
        if profile["parity"]["verdict"] != "pass":
            said.append(f"the {name} profile's parity failed: its file does not compute what the model does")
    return said


def regressions(changes: list[Change], fail_over: float) -> list[Change]:
    """Changes for the worse by more than the share ``fail_over``, beyond the noise."""
    return [change for change in changes if change.verdict == "worse" and change.ratio > 1 + fail_over]


def _compare_entry(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    name, changes = old["name"], []
    news = {run["threads"]: run for run in new["runs"]}
    for run in old["runs"]:
        if run["threads"] in news:
            threads = f", {run['threads']} threads" if run["threads"] > 1 else ""
            changes.append(_samples(f"{name}: latency{threads}", run["latency_ns"], news[run["threads"]]["latency_ns"]))
    changes.append(_samples(f"{name}: cold load", old["cold_load_ns"], new["cold_load_ns"]))
    changes.append(
        Change(f"{name}: peak memory over idle", "kB", old["peak_over_idle_kb"], new["peak_over_idle_kb"], None)
    )
    changes.append(
        Change(f"{name}: heap over idle", "bytes", old["heap_over_idle_bytes"], new["heap_over_idle_bytes"], None)
    )
    changes.append(Change(f"{name}: planned memory", "bytes", old["planned_bytes"], new["planned_bytes"], None))
    return changes


def _samples(what: str, old: list[int], new: list[int]) -> Change:
    a, b = np.asarray(old, dtype=np.float64) / 1000, np.asarray(new, dtype=np.float64) / 1000
    return Change(what, "us", float(np.median(a)), float(np.median(b)), median_ratio_interval(a, b))


def median_ratio_interval(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    """Bootstrap interval of the ratio of medians, second over first, at :data:`CONFIDENCE` percent.

    It knows the noise within the two runs alone; what differs from one run to the next is for several profiles to show.
    """
    generator = np.random.default_rng(0)

    def medians(samples: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.median(generator.choice(samples, (RESAMPLES, len(samples))), axis=1)

    edge = (100 - CONFIDENCE) / 2
    low, high = np.percentile(medians(second) / np.maximum(medians(first), 1e-9), [edge, 100 - edge])
    return float(low), float(high)
