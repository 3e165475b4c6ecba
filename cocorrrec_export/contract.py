"""The tensor contract of an entry point: what exporters, runtimes, manifests and parity all mean by one."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TENSOR_NAMES = "tensor_names"
"""Metadata of a program: JSON of its entry points' input and output names, for formats that have no names of their own.
"""

ID_RULE = "item ids are 1 to vocab_size - 1; 0 is padding, allowed only after the last click of a history"
"""What every program takes as an id; also metadata of a program, under ``id_rule``."""

HISTORY, CANDIDATES, CLICK = "ids", "candidates", "item"
"""Inputs that hold item ids; padding is for the first alone."""

RECOMMEND = "recommend"
"""The entry point that a recipe asks for by a number of items, in place of its name."""

PART_PREFIX = "bytes_"
"""Metadata of a program: bytes of the weights of each part of the model, by ``bytes_<part>``."""

SHARED_WEIGHTS = "weights.bin"
"""File of the weights that the entry points of a folder of ``.onnx`` files share."""

POSITION = "position"
"""The part of a streaming state that counts clicks within a mini-batch."""

NEW_STREAM = -1
"""Its value before the first click: the file then starts from its learned weights."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an entry point."""

    name: str
    dtype: str
    """``float32`` or ``int32`` in programs of ours."""
    shape: tuple[int | str, ...]
    """A string names a dynamic dimension, such as ``"N"``."""


@dataclass(frozen=True)
class EntryPoint:
    """One function of an exported file; inputs and outputs in the order in which they are passed."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def new_stream(step: EntryPoint) -> dict[str, NDArray[Any]]:
    """The state before the first click, by the names of the inputs of ``step``: zeros, and :data:`NEW_STREAM`.

    It needs no weights, so an app can make it itself. The same values reset a stream.
    """
    return {
        spec.name: np.full(tuple(map(int, spec.shape)), NEW_STREAM if spec.name == POSITION else 0, dtype=spec.dtype)
        for spec in step.inputs[1:]  # the first is the click
    }


OF_RECOMMEND = ("recommend_overlap", "recommend_order")
"""Limits that a recipe may leave out: 0 then, which asks nothing."""
AT_LEAST = ("top10_overlap", *OF_RECOMMEND)
"""Limits that a figure must reach; the others it must not exceed."""


@dataclass(frozen=True, kw_only=True)
class ParityLimits:
    """What parity must hold; a worse export is not published."""

    max_abs: float
    """Largest absolute difference of a score. Not asked of corrections, which have no scale."""
    max_rel: float
    """Largest difference of an output tensor over the largest magnitude of the reference tensor."""
    top10_overlap: float
    """Smallest mean share of the reference's ten best candidates that the artifact also puts in its ten best."""
    metrics_abs: float
    """Largest absolute change of any ranking metric on the held-out users."""
    ndcg10_rel: float
    """Largest relative change of NDCG@10 on the held-out users."""
    recommend_overlap: float = 0.0
    """Smallest mean share of a recommended list's items that are in the reference's list."""
    recommend_order: float = 0.0
    """Smallest mean share of a recommended list's places that hold the reference's item."""
    ties: float = 0.01
    """Largest mean share of the candidates that the artifact ties with another one, and the reference tells apart."""

    def stricter_of(self, own: Mapping[str, float]) -> "ParityLimits":
        """These limits, or those of ``own`` by the same names where they allow less."""
        allowed = {}
        for field in dataclasses.fields(self):
            mine = getattr(self, field.name)
            smaller = max if field.name in AT_LEAST else min
            allowed[field.name] = smaller(mine, own.get(field.name, mine))
        return ParityLimits(**allowed)
