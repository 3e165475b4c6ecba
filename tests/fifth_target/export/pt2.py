"""Write entry points as torch's exported programs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from cocorrrec_export.artifact.recipe import Recipe
from cocorrrec_export.export.graphs import GraphSpec

METADATA = "metadata.json"


def export(
    graphs: Sequence[GraphSpec],
    recipe: Recipe,  # noqa: ARG001
    path: Path,
    *,
    metadata: dict[str, str | int],
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write ``<entry point>.pt2`` for each graph."""
    path.mkdir()
    for graph in graphs:
        progress(f"tracing {graph.name}")
        torch.export.save(torch.export.export(graph.module, graph.example), path / f"{graph.name}.pt2")
    (path / METADATA).write_text(json.dumps(metadata))
    return {}
