"""ONNX: one self-contained file for the cloud; for the phone a folder with one file an entry point and the weights."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cocorrrec_export.contract import SHARED_WEIGHTS
from cocorrrec_export.export.graphs import GraphSpec
from cocorrrec_export.extras import quiet, require

OPSET = 20
EXTERNAL_BYTES = 1024
"""Constants of at least this size go into the shared file."""
_PAGE = 4096  # where a table starts, so that a runtime can map it instead of copying it
_WORD = 64


def export_onnx_file(
    graphs: Sequence[GraphSpec],
    path: Path,
    *,
    metadata: dict[str, str | int],
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write one entry point as a self-contained ``.onnx``.

    Args:
        graphs: the one entry point; a first dimension that its contract names by a string is dynamic.
        path: file to write.
        metadata: facts about the model, kept in ``metadata_props``.
        progress: hears what is being done.

    Raises:
        CocorrrecError: the extra is not installed.
    """
    require("onnx")
    progress("importing ONNX")
    with quiet():
        import onnx
    (graph,) = graphs
    progress(f"tracing {graph.name}")
    model = _convert(graph, metadata)
    progress("checking the ONNX model")
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))


def export_onnx_folder(
    graphs: Sequence[GraphSpec],
    folder: Path,
    *,
    metadata: dict[str, str | int],
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write ``<entry point>.onnx`` for each graph; they share the weights in :data:`SHARED_WEIGHTS`, each stored once.

    Args:
        graphs: entry points over shared weights.
        folder: folder to make.
        metadata: facts about the model, kept in the ``metadata_props`` of every file.
        progress: hears what is being done.

    Raises:
        CocorrrecError: the extra is not installed.
    """
    require("onnx")
    progress("importing ONNX")
    with quiet():
        import onnx
    folder.mkdir()
    stored: dict[bytes, int] = {}  # a constant's bytes, and where in the shared file they start
    with (folder / SHARED_WEIGHTS).open("wb") as weights:
        for graph in graphs:
            progress(f"tracing {graph.name}")
            model = _convert(graph, metadata)
            onnx.checker.check_model(model, full_check=True)
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
            (folder / f"{graph.name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


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
