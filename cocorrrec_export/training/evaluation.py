"""How a model ranks its held-out users: everything that ``cocorr-export evaluate`` prints."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cocorrrec_export.data.evaluation_set import Compared
from cocorrrec_export.data.held_out import held_out_set
from cocorrrec_export.errors import UsageError
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.store import ModelFolder, load_model
from cocorrrec_export.training.references import measure_references
from cocorrrec_export.training.scoring import (
    LateMetrics,
    Measured,
    both_protocols,
    evaluate_controls,
    evaluate_late,
    full_metrics,
    measure_ways,
    sampled_metrics,
)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Ranking metrics of one model, each from 0 to 1, by name: ``ndcg@10``, ``hr@10``, ``uauc`` and others."""

    model: str
    sha256: str
    """Digest of the model."""
    verified: bool
    """Whether the model's folder has a digest of all that it says."""
    users: int
    """Held-out users that were ranked."""
    candidates: int
    """Items of one ranking among sampled ones, the right one included."""
    interactions: Compared
    """How the data compare with what the model was trained on, in one word."""
    compared: str
    """The same as a sentence."""
    repeated_test: float
    """Share of the users whose right item is the one that they clicked right before."""
    metrics: dict[str, dict[str, float]]
    """Among sampled items, by way of ranking: ``alone``, and with a cloud model ``corrected``."""
    full: dict[str, dict[str, float]]
    """The same in the whole catalog; empty where the earlier clicks of the users are not known."""
    references: dict[str, Measured]
    """What learns nothing, by name: popularity, item neighbors."""
    controls: dict[str, Measured] = field(default_factory=dict)
    """With another answer of the cloud in place of the user's own."""
    paired: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    """Of each answer, the difference from none and its standard error."""
    late: list[LateMetrics] = field(default_factory=list)
    """By share of late answers."""
    draws: int = 0
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values: what ``cocorr-export evaluate --json`` prints."""
        facts: dict[str, Any] = {
            "model": self.model,
            "sha256": self.sha256,
            "verified": self.verified,
            "users": self.users,
            "interactions": self.interactions,
            "repeated_test": self.repeated_test,
            "metrics": self.metrics,
            "full": self.full,
            "references": {name: both_protocols(each) for name, each in self.references.items()},
        }
        if self.paired:
            exchanged = {name: both_protocols(each) for name, each in self.controls.items()}
            facts |= {"controls": exchanged, "paired": self.paired}
        if self.late:
            rows = [{"late_rate": each.rate, "mean": each.mean, "std": each.std} for each in self.late]
            facts["late"] = {"draws": self.draws, "seed": self.seed, "rates": rows}
        return facts


def evaluate(
    folder: ModelFolder,
    data: Path | None = None,
    *,
    controls: bool = False,
    late_rates: Sequence[float] = (),
    draws: int = 20,
    seed: int = 0,
) -> Evaluation:
    """Rank the held-out users of a model.

    Args:
        folder: the model.
        data: interactions; None takes the users that the folder has.
        controls: also rank with another answer of the cloud.
        late_rates: shares of late answers, each from 0 to 1, to measure too.
        draws: how often it is drawn who is late.
        seed: of the draws.

    Raises:
        UsageError: there are no held-out users, or controls or late answers are asked for without a cloud model.
        CocorrrecError: the model or the data are damaged, or do not belong together.
    """
    held_out = held_out_set(folder, data)
    model = load_model(folder)
    if controls and (not isinstance(model, CoCorrRec) or model.gcn is None):
        raise UsageError(f"--controls: {folder.name} does not have a cloud model, whose answer could be exchanged")
    measured = measure_ways(model, held_out)
    late = (
        evaluate_late(model, held_out, list(late_rates), draws=draws, seed=seed, measured=measured)
        if late_rates
        else []
    )
    exchanged, paired = (
        evaluate_controls(model, held_out, measured["alone"], measured["corrected"])
        if controls and isinstance(model, CoCorrRec)
        else ({}, {})
    )
    return Evaluation(
        model=folder.name,
        sha256=folder.sha256,
        verified=folder.verified,
        users=len(held_out),
        candidates=held_out.candidates.shape[1],
        interactions=held_out.compared,
        compared=held_out.describe_compared(),
        repeated_test=held_out.repeated_share(),
        metrics=sampled_metrics(measured),
        full=full_metrics(measured),
        references=measure_references(held_out, vocab_size=folder.config.vocab_size),
        controls=exchanged,
        paired=paired,
        late=late,
        draws=draws,
        seed=seed,
    )
