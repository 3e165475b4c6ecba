"""The tensor contract of an entry point: what exporters, runtimes, manifests and parity all mean by one."""

from dataclasses import dataclass

TENSOR_NAMES = "tensor_names"
"""Metadata of a program: JSON of its entry points' input and output names, for formats that have no names of their own.
"""

PART_PREFIX = "bytes_"
"""Metadata of a program: bytes of the weights of each part of the model, by ``bytes_<part>``."""

SHARED_WEIGHTS = "weights.bin"
"""File of the weights that the entry points of a folder of ``.onnx`` files share."""


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


@dataclass(frozen=True, kw_only=True)
class ParityLimits:
    """What parity must hold; a worse export is not published."""

    max_abs: float
    """Largest absolute difference of a score (after the sigmoid). Not asked of corrections, which have no scale."""
    max_rel: float
    """Largest difference of an output tensor over the largest magnitude of the reference tensor."""
    top10_overlap: float
    """Smallest mean share of the reference's ten best candidates that the artifact also puts in its ten best."""
    metrics_abs: float
    """Largest absolute change of any ranking metric on the held-out users."""
    ndcg10_rel: float
    """Largest relative change of NDCG@10 on the held-out users."""
