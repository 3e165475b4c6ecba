"""The tensor contract of an entry point: what exporters, runtimes, manifests and parity all mean by one."""

from dataclasses import dataclass

TENSOR_NAMES = "tensor_names"
"""Metadata of a program: JSON of its entry points' input and output names, for formats that have no names of their own.
"""

PART_PREFIX = "bytes_"
"""Metadata of a program: bytes of the weights of each part of the model, by ``bytes_<part>``."""


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
