"""What parity must hold. The figures stand in the recipes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What parity must hold; a worse export is not published."""

    max_abs: float
    """Largest absolute difference of a score (after the sigmoid). Not asked of corrections, which have no scale."""
    max_rel: float
    """Largest difference of an output tensor over the largest magnitude of the reference tensor."""
    top10_overlap: float
    """Smallest mean share of the reference's ten best candidates that the artefact also puts in its ten best."""
    metrics_abs: float
    """Largest absolute change of any ranking metric on the held-out users."""
    ndcg10_rel: float
    """Largest relative change of NDCG@10 on the held-out users."""
