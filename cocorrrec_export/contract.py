"""The tensor contract of an entry point: what exporters, runtimes, manifests and parity all mean by one."""

from dataclasses import dataclass
from typing import Literal

DType = Literal["float32", "int32"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an entry point."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]
    """A string names a dynamic dimension, such as ``"N"``."""


@dataclass(frozen=True)
class EntryPoint:
    """One function of an exported file; inputs and outputs in the order in which they are passed."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
