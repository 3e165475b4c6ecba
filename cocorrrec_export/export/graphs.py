"""The tensor contract: what a graph is to every exporter, runtime and manifest."""

from dataclasses import dataclass

from torch import Tensor, nn

from cocorrrec_export.contract import TensorSpec


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
