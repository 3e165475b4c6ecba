"""The tensor contract: what a graph is to every exporter, runtime and manifest."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

DType = Literal["float32", "int32"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an entry point."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]
    """A string names a dynamic dimension, such as ``"N"``."""


@dataclass(frozen=True)
class GraphSpec:
    """One entry point: all that a converter needs to know."""

    name: str
    module: nn.Module
    """In evaluation mode; ``forward`` takes the inputs in order and returns a tuple of the outputs in order."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example: tuple[Tensor, ...]
    """Inputs to trace with."""
