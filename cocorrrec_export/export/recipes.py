"""Recipes: which target, backend and precision, in which shapes, within which limits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Target = Literal["executorch", "coreml", "tflite", "onnx"]
Kind = Literal["scn", "gcn"]
Precision = Literal["fp32", "fp16", "int8", "int4"]
SCN_ENTRY_POINTS = ("encode", "rank", "rank_corrected", "step", "score")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What parity must hold; a worse export is not published."""

    max_abs: float
    """Largest absolute difference of a score (after the sigmoid)."""
    max_rel: float
    """Largest difference of an output tensor over the largest magnitude of the reference tensor."""
    top10_overlap: float
    """Smallest mean share of the reference's ten best candidates that the artefact also puts in its ten best."""
    ndcg10_rel: float
    """Largest relative change of NDCG@10 on the held-out users."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked recipe file."""

    name: str
    kind: Kind
    target: Target
    backend: str
    precision: Precision
    embedding: Literal["fp32", "fp16", "int8-row", "int4-group32"]
    linear: Literal["fp32", "fp16", "int8-channel"]
    activations: Literal["fp32", "fp16", "int8-dynamic"]
    candidates: int
    """C: candidates of one call; a longer list takes more calls."""
    item_side: Literal["computed", "folded"]
    entry_points: tuple[str, ...]
    limits: Limits


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file."""
    raise NotImplementedError
