"""ONNX: one self-contained file for the cloud; for the phone a folder with one file per entry point and the weights."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cocorrrec_export.artifact.recipe import Recipe
from cocorrrec_export.contract import SHARED_WEIGHTS
from cocorrrec_export.export.graphs import GraphSpec
from cocorrrec_export.export.memory import one_copy_of_tables
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
        progress(f"tracing {graph.name}")
        model = _model_of(_trace(graph), metadata)
        onnx.checker.check_model(model, full_check=True)
        onnx.save_model(model, str(path))
        return {}
    path.mkdir()
    with (path / SHARED_WEIGHTS).open("wb") as weights:
        stored: dict[str, int] = {}
        for graph in graphs:
            progress(f"tracing {graph.name}")
            program = _trace(graph)
            _share_weights(program, weights, stored)
            weights.flush()
            file = path / f"{graph.name}.onnx"
            file.write_bytes(_model_of(program, metadata).SerializeToString(deterministic=True))
            onnx.checker.check_model(str(file), full_check=True)
    return {}


def _share_weights(program: Any, weights: BinaryIO, stored: dict[str, int]) -> None:
    """Move large constants into the shared file, each once, from where torch has them: none is copied.

    Args:
        program: as torch exported it; refers to the file afterwards.
        weights: the shared file, open for writing.
        stored: a constant's digest, and where in the file it starts.
    """
    from onnxscript import ir

    for name, value in program.model.graph.initializers.items():
        tensor = value.const_value
        if tensor.nbytes < EXTERNAL_BYTES:
            continue
        data = np.ascontiguousarray(tensor.numpy()).data.cast("B")
        key = hashlib.sha256(data).hexdigest()
        if key not in stored:
            weights.write(bytes(-weights.tell() % (_PAGE if len(data) >= 16 * _PAGE else _WORD)))
            stored[key] = weights.tell()
            weights.write(data)
        value.const_value = ir.ExternalTensor(
            SHARED_WEIGHTS, stored[key], len(data), tensor.dtype, shape=tensor.shape, name=name
        )


def _trace(graph: GraphSpec) -> Any:
    """The graph as torch exports it, its constants still torch's."""
    with quiet():
        import torch
    with quiet(), one_copy_of_tables():
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
    return program


def _model_of(program: Any, metadata: dict[str, str | int]) -> Any:
    """An ONNX model of a traced program."""
    import onnx

    model = program.model_proto
    # The exporter notes for each node where in the sources it comes from: paths of this machine, of use to nobody else.
    for part in (model.graph, *model.graph.node):
        del part.metadata_props[:]
    del model.graph.value_info[:]  # shapes of inner tensors, which every runtime infers
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    return model
