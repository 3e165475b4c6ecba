"""Level 1: the tensors of a file against those of the float32 model."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.contract import EntryPoint, ParityLimits
from cocorrrec_export.parity.recommended import Recommended, compare_list, summarize, wrong_list
from cocorrrec_export.parity.vectors import Case
from cocorrrec_export.runtime.base import Arrays

TOP = 10
TIE = 1e-6
"""Scores this close, as a share of the largest, are told apart by float32 rounding alone."""
NEXT = "_next"
"""What names of states of a stream end with, as they come out."""
Run = Callable[[str, Arrays], Arrays]
"""Runs an entry point on named arrays."""


@dataclass(frozen=True)
class Comparison:
    """How one output tensor differs from its reference; all figures are of the reference's unit, or of none."""

    name: str
    shape: tuple[int, ...]
    max_abs: float
    mean_abs: float
    mean_signed: float
    max_rel: float
    """Largest difference over the largest magnitude of the reference; of scores and states, of those of all cases."""
    sqnr_db: float
    """Signal to quantization noise, decibels; infinite where nothing differs."""

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.name} {list(self.shape)}: max {self.max_abs:.3g}, mean {self.mean_abs:.3g}, "
            f"signed {self.mean_signed:+.3g}, relative {self.max_rel:.3g}, SQNR {self.sqnr_db:.1f} dB"
        )


def compare(
    name: str, reference: NDArray[np.generic], actual: NDArray[np.generic], *, scale: float = 0.0
) -> Comparison:
    """Compare two tensors of one shape.

    Args:
        name: of the comparison.
        reference: the float32 model's; what is not finite in it differs from everything.
        actual: the file's.
        scale: what the relative difference is over, where it is more than the reference's largest magnitude: few
            scores can all be near 0.

    Raises:
        ValueError: their shapes differ.
    """
    if reference.shape != actual.shape:
        raise ValueError(f"{name} is {list(actual.shape)}, the reference is {list(reference.shape)}")
    want, have = reference.astype(np.float64), actual.astype(np.float64)
    if not (np.isfinite(have).all() and np.isfinite(want).all()):
        return Comparison(name, want.shape, math.inf, math.inf, math.nan, math.inf, -math.inf)
    difference = have - want
    max_abs, largest = float(np.abs(difference).max()), max(float(np.abs(want).max()), scale)
    noise, signal = float(np.square(difference).sum()), float(np.square(want).sum())
    relative = 0.0 if max_abs == 0 else max_abs / largest if largest else math.inf
    sqnr = math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal else -math.inf
    return Comparison(
        name, want.shape, max_abs, float(np.abs(difference).mean()), float(difference.mean()), relative, sqnr
    )


@dataclass(frozen=True)
class TensorParity:
    """Every comparison of a file."""

    comparisons: tuple[Comparison, ...]
    judged_abs: frozenset[str]
    """Names of the comparisons that ``max_abs`` is asked of: the scores. Corrections have no scale of their own."""
    top10_overlap: float
    ties: float = 0.0
    """Mean share of the candidates that the file ties with another one, and the reference tells apart."""
    recommended: Recommended | None = None
    """Lists of ``recommend``; None where the file has none."""
    over_all_rows: float = 0.0
    """Largest difference of a score of any item, for some users; 0 where it was not looked at."""

    @property
    def max_abs(self) -> float:
        """Largest absolute difference of a score; of any output in a file without scores."""
        seen = max(c.max_abs for c in self.comparisons if c.name in self.judged_abs or not self.judged_abs)
        return max(seen, self.over_all_rows)

    @property
    def max_rel(self) -> float:
        """Largest relative difference of a score; of any output in a file without scores."""
        return max(c.max_rel for c in self.comparisons if c.name in self.judged_abs or not self.judged_abs)

    def problems(self, limits: ParityLimits) -> list[str]:
        """What is beyond the limits: the worst tensor first."""
        failing = [
            c
            for c in self.comparisons
            if c.max_rel > limits.max_rel or (c.name in self.judged_abs and c.max_abs > limits.max_abs)
        ]
        failing.sort(key=lambda c: c.max_rel, reverse=True)
        found = [f"{c}; limits: max {limits.max_abs:g}, relative {limits.max_rel:g}" for c in failing[:1]]
        if len(failing) > 1:
            found.append(f"{len(failing) - 1} more of {len(self.comparisons)} tensors are beyond the limits")
        if self.top10_overlap < limits.top10_overlap:
            found.append(f"top-{TOP} overlap {self.top10_overlap:.4f}, limit {limits.top10_overlap:g}")
        if self.ties > limits.ties:
            found.append(
                f"{self.ties:.2%} of the candidates are tied with another one that the reference tells them from, "
                f"limit {limits.ties:.2%}"
            )
        if self.recommended is not None:
            found += self.recommended.problems(overlap=limits.recommend_overlap, order=limits.recommend_order)
        return found


def tensor_parity(run: Run, cases: Iterable[Case], entry_points: dict[str, EntryPoint]) -> TensorParity:
    """Run every case and compare every output.

    Args:
        run: the file's runtime, or the graph before conversion.
        cases: inputs and expected outputs.
        entry_points: the contracts, for the dtypes of the inputs.
    """
    comparisons, judged, overlaps, ties = [], set(), [], []
    lists: list[tuple[float, float]] = []
    wrong: list[str] = []
    cases = list(cases)
    scale, states = score_scale(cases), state_scales(cases)
    for case in cases:
        contract = entry_points[case.entry_point]
        inputs = {spec.name: case.inputs[spec.name].astype(spec.dtype) for spec in contract.inputs}
        outputs = run(case.entry_point, inputs)
        ranked = "items" in outputs
        if ranked:
            lists.append(compare_list(case.expected, outputs, tie=TIE * max(1.0, scale)))
            wrong += [x] if (x := wrong_list(f"{case.entry_point}.{case.name}", inputs, outputs)) else []
        for spec in contract.outputs:
            if spec.name == "items":
                continue
            name = f"{case.entry_point}.{case.name}.{spec.name}"
            reference = case.expected[spec.name]
            own_scale = scale if spec.name == "scores" else states.get(spec.name, 0.0)
            comparisons.append(compare(name, reference, outputs[spec.name], scale=own_scale))
            if spec.name == "scores":
                judged.add(name)
            if spec.name == "scores" and not ranked:
                overlaps.append(top_overlap(reference[0], outputs[spec.name][0]))
                ties.append(new_ties(reference[0], outputs[spec.name][0]))
    return TensorParity(
        tuple(comparisons),
        frozenset(judged),
        float(np.mean(overlaps)) if overlaps else 1.0,
        float(np.mean(ties)) if ties else 0.0,
        summarize(lists, wrong),
    )


def score_scale(cases: Iterable[Case]) -> float:
    """Largest magnitude of a score that is expected, of all cases: how large scores are, however few one call has."""
    return max((float(np.abs(x.expected["scores"]).max()) for x in cases if "scores" in x.expected), default=0.0)


def state_scales(cases: Iterable[Case]) -> dict[str, float]:
    """Largest magnitude of each state of a stream, of all clicks: after a commit a sum has hardly begun."""
    largest: dict[str, float] = {}
    for case in cases:
        for name, value in case.expected.items():
            if name.endswith(NEXT):
                largest[name] = max(largest.get(name, 0.0), float(np.abs(value).max()))
    return largest


def new_ties(reference: NDArray[np.generic], actual: NDArray[np.generic]) -> float:
    """Share of the candidates whose score in ``actual`` is that of another one, which ``reference`` tells it from."""
    want, have = reference.astype(np.float64), actual.astype(np.float64)
    apart = np.abs(want[:, None] - want) > TIE * max(1.0, float(np.abs(want).max()))
    return float(((have[:, None] == have) & apart).any(1).mean())


def top_overlap(reference: Sequence[float] | NDArray[np.generic], actual: NDArray[np.generic]) -> float:
    """Share of ``actual``'s best :data:`TOP` (or half of the list, if that is fewer) that are among the reference's.

    Candidates whose reference scores are within :data:`TIE` of the last place have no order: any of them will do.
    """
    reference = np.asarray(reference, dtype=np.float64)
    count = min(TOP, max(1, len(reference) // 2))
    last_place = np.sort(reference)[-count]
    best = np.argsort(-np.asarray(actual), kind="stable")[:count]
    return float((reference[best] >= last_place - TIE * max(1.0, float(np.abs(reference).max()))).mean())
