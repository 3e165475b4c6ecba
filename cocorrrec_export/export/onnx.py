"""ONNX: one self-contained file for ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

from cocorrrec_export.export.graphs import GraphSpec
from cocorrrec_export.extras import quiet, require

OPSET = 20


def export_onnx(
    graph: GraphSpec,
    path: Path,
    *,
    metadata: dict[str, str | int],
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write one entry point as a ``.onnx``.

    Args:
        graph: the entry point; a first dimension that its contract names by a string is dynamic.
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
        import torch
    progress(f"tracing {graph.name}")
    dynamic = tuple(
        {0: torch.export.Dim(spec.shape[0], min=1)} if isinstance(spec.shape[0], str) else None
        for spec in graph.contract.inputs
    )
    with quiet():
        program = torch.onnx.export(
            graph.module,
            graph.example,
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in graph.contract.inputs],
            output_names=[spec.name for spec in graph.contract.outputs],
            dynamic_shapes=dynamic,
            optimize=True,
            verbose=False,
        )
    assert program is not None  # it is written to a file, and None returned, only where a path is given
    model = program.model_proto
    # The exporter notes for each node where in the sources it comes from: paths of this machine, of use to nobody else.
    for part in (model.graph, *model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    progress("checking the ONNX model")
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))
