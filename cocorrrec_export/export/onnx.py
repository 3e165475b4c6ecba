"""ONNX: one self-contained file for the cloud; for the phone a folder with one file per entry point and the weights."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from cocorrrec_export.artifact.recipe import Recipe
from cocorrrec_export.contract import SHARED_WEIGHTS
from cocorrrec_export.export.graphs import GraphSpec
from cocorrrec_export.extras import quiet, require

OPSET = 20
EXTERNAL_BYTES = 1024
"""Constants of at least this size go into the shared file."""
_PAGE = 4096  # where a table starts, so that a runtime can map it instead of copying it
_WORD = 64


def export(
    graphs: Sequence[GraphSpec],
    recipe: Recipe,  # noqa: ARG001  # the graphs hold all that it says,
    path: Path,
    *,
    metadata: dict[str, str | int],
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write a ``.onnx`` of one entry point, or where ``path`` has no suffix a folder with one file for each.

    A first dimension that a contract names by a string is dynamic. The metadata are kept in the ``metadata_props`` of
    every file. See :class:`.exporter.Exporter`.
    """
    require("onnx")
    progress("importing ONNX")
    with quiet():
        import onnx
    if path.suffix:
        (graph,) = graphs
        onnx.save_model(_checked(graph, metadata, progress), str(path))
        return {}
    path.mkdir()
    with (path / SHARED_WEIGHTS).open("wb") as weights:
        stored: dict[bytes, int] = {}
        for graph in graphs:
            model = _checked(graph, metadata, progress)
            _share_weights(model, weights, stored)
            (path / f"{graph.name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    return {}


def _checked(graph: GraphSpec, metadata: dict[str, str | int], progress: Callable[[str], None]) -> Any:
    import onnx

    progress(f"tracing {graph.name}")
    model = _convert(graph, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def _share_weights(model: Any, weights: BinaryIO, stored: dict[bytes, int]) -> None:
    """Move large constants into the shared file, each once.

    Args:
        model: an ONNX model; refers to the file afterwards.
        weights: the shared file, open for writing.
        stored: a constant's bytes, and where in the file they start.
    """
    import onnx

    for tensor in model.graph.initializer:
        data = onnx.numpy_helper.to_array(tensor).tobytes()
        if len(data) < EXTERNAL_BYTES:
            continue
        if data not in stored:
            weights.write(bytes(-weights.tell() % (_PAGE if len(data) >= 16 * _PAGE else _WORD)))
            stored[data] = weights.tell()
            weights.write(data)
        tensor.raw_data = data
        onnx.external_data_helper.set_external_data(tensor, SHARED_WEIGHTS, stored[data], len(data))
        tensor.ClearField("raw_data")


def _convert(graph: GraphSpec, metadata: dict[str, str | int]) -> Any:
    """The graph as an ONNX model."""
    with quiet():
        import onnx
        import torch
    with quiet():
        program = torch.onnx.export(
            graph.module,
            graph.example,
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in graph.contract.inputs],
            output_names=[spec.name for spec in graph.contract.outputs],
            dynamic_shapes=graph.dynamic_shapes,
            optimize=True,
            verbose=False,
        )
    assert program is not None  # it is written to a file, and None returned, only where a path is given
    model = program.model_proto
    # The exporter notes for each node where in the sources it comes from: paths of this machine, of use to nobody else.
    for part in (model.graph, *model.graph.node):
        del part.metadata_props[:]
    del model.graph.value_info[:]  # shapes of inner tensors, which every runtime infers
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    return model
