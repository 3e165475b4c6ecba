"""What was found about a file."""

from dataclasses import asdict, dataclass
from typing import Any

from cocorrrec_export.contract import EntryPoint, ParityLimits
from cocorrrec_export.errors import ParityError
from cocorrrec_export.parity.tensors import TensorParity, tensor_parity
from cocorrrec_export.parity.vectors import Case
from cocorrrec_export.runtime.base import Runtime

CERTAIN = 3.0
"""Standard errors beyond which a difference over the users that were looked at is one over all."""
Pairs = dict[str, dict[str, float]]
"""Metric to ``eager`` and ``artifact``."""


@dataclass(frozen=True)
class CatalogParity:
    """Metrics in the whole catalog, without what each user had before, over as many users as there was time for."""

    users: int
    metrics: Pairs | None
    """Without a correction; besides ``eager`` and ``artifact`` the paired ``standard_error`` of their difference."""
    metrics_corrected: Pairs | None


@dataclass(frozen=True)
class RankingParity:
    """Metrics of the float32 model and of the file; ``reason`` says why there are none."""

    users: int
    metrics: Pairs | None
    """Among sampled negatives, without a correction."""
    metrics_corrected: Pairs | None
    reason: str | None = None
    interactions: str | None = None
    """Whose clicks were ranked, as :data:`~cocorrrec_export.data.evaluation_set.Compared`."""
    full: CatalogParity | None = None
    """None where it is not known what the users had before."""

    def problems(self, limits: ParityLimits) -> list[str]:
        """What is beyond the limits."""
        found = []
        for way, metrics in (("", self.metrics), (" corrected", self.metrics_corrected)):
            for name, pair in (metrics or {}).items():
                difference = abs(pair["artifact"] - pair["eager"])
                line = f"{name}{way}: artifact {pair['artifact']:.4f}, float32 model {pair['eager']:.4f}"
                if difference > limits.metrics_abs:
                    found.append(f"{line}, limit {limits.metrics_abs:g}")
                elif name == "ndcg@10" and difference > limits.ndcg10_rel * pair["eager"]:
                    found.append(f"{line}, limit {limits.ndcg10_rel:g} relative")
        return found + (self._in_catalog(self.full, limits) if self.full else [])

    @staticmethod
    def _in_catalog(full: CatalogParity, limits: ParityLimits) -> list[str]:
        return [
            f"{name}{way} in the whole catalog: artifact {pair['artifact']:.4f}, float32 model {pair['eager']:.4f} "
            f"(+- {pair['standard_error']:.4f}, {full.users} users), limit {limits.metrics_abs:g}"
            for way, metrics in (("", full.metrics), (" corrected", full.metrics_corrected))
            for name, pair in (metrics or {}).items()
            if abs(pair["artifact"] - pair["eager"]) > max(limits.metrics_abs, CERTAIN * pair["standard_error"])
        ]


@dataclass(frozen=True)
class Verdict:
    """What was found about a file."""

    executed_by: str
    tensors: TensorParity
    ranking: RankingParity

    def as_dict(self) -> dict[str, Any]:
        """What the manifest says."""
        tensors = {name: getattr(self.tensors, name) for name in ("max_abs", "max_rel", "top10_overlap", "ties")}
        if lists := self.tensors.recommended:
            tensors |= {"recommend_overlap": lists.overlap, "recommend_order": lists.order}
        return {
            "verdict": "pass",
            "executed_by": self.executed_by,
            "tensors": tensors,
            "ranking": asdict(self.ranking),
        }


def require_tensors(hop: str, parity: TensorParity, limits: ParityLimits) -> None:
    """Raise if a hop is beyond the limits.

    Raises:
        ParityError: names the hop, the worst tensor and the limits.
    """
    problems = parity.problems(limits)
    if problems:
        raise ParityError(f"{hop} does not compute what the float32 model does:\n  " + "\n  ".join(problems))


def judge_vectors(
    runtime: Runtime, cases: list[Case], entry_points: dict[str, EntryPoint], limits: ParityLimits
) -> Verdict:
    """Judge a file by the test vectors that came with it: needs no model, and says nothing about the ranking.

    Raises:
        ParityError: the file is beyond the limits.
    """
    tensors = tensor_parity(runtime.run, cases, entry_points)
    require_tensors("the exported file, on its vectors,", tensors, limits)
    return Verdict(runtime.executed_by, tensors, RankingParity(0, None, None, "only the test vectors were compared"))
