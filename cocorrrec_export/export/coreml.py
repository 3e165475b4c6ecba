"""Core ML: one ``.mlpackage`` with a function for each entry point, the weights once."""

import json
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cocorrrec_export.artifact.recipe import Recipe
from cocorrrec_export.export.graphs import GraphSpec
from cocorrrec_export.export.memory import StandIn, one_copy_of_tables, stand_ins
from cocorrrec_export.extras import quiet, require
from cocorrrec_export.runtime.mlpackage import PACKAGE_MANIFEST, open_package, write_model

_BUFFER = "b_device_"
DEFAULT_FUNCTION = "rank"
"""What an app gets that loads the model without the name of a function."""


def export(
    graphs: Sequence[GraphSpec],
    recipe: Recipe,
    path: Path,
    *,
    metadata: dict[str, str | int],
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write a ``.mlpackage`` for iOS 18 and macOS 15, the first that know several functions over one set of weights.

    Inputs and outputs have the names, dtypes and shapes of the contract, in every precision; in fp16 the casts from and
    to float32 are in the file.

    With activations in float16, means of squares, roots and quotients stay float32: they reach values that float16
    keeps as subnormal numbers only, which the Neural Engine takes for zero. The metadata are kept as user-defined ones.
    See :class:`.exporter.Exporter`.
    """
    require("coreml")
    progress("importing Core ML Tools")
    with quiet():
        import coremltools as ct

    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".coreml.") as scratch,
        stand_ins([graph.module for graph in graphs]) as tables,
    ):
        parts = ct.utils.MultiFunctionDescriptor()
        for graph in graphs:
            progress(f"converting {graph.name}")
            part = Path(scratch) / f"{graph.name}.mlpackage"
            with quiet(), one_copy_of_tables():
                _convert(graph, part, recipe.activations)
                parts.add_function(str(part), "main", graph.name)
        names = [graph.name for graph in graphs]
        parts.default_function_name = DEFAULT_FUNCTION if DEFAULT_FUNCTION in names else names[0]
        progress(f"joining {len(names)} functions")
        with quiet():
            ct.utils.save_multifunction(parts, str(path))
    _finish(path, metadata, tables)
    return {}


def _convert(graph: GraphSpec, path: Path, activations: str) -> None:
    """Write one entry point as a package with the function ``main``."""
    import coremltools as ct
    import numpy as np
    import torch

    program = torch.export.export(graph.module, graph.example, strict=True).run_decompositions({})
    _join_biases(program)
    passes = ct.PassPipeline.DEFAULT
    # One narrows ids to 16 bits, by which an id outside of the table becomes another item's; one counts negative ids
    # from the end. An id is 0 or above, and checked by who calls.
    passes.remove_passes({"common::add_int16_cast", "common::guard_negative_gather_indices"})
    half = ct.transform.FP16ComputePrecision(op_selector=lambda op: not _stays_float32(op))
    model = ct.convert(
        program,
        outputs=[ct.TensorType(name=x.name, dtype=np.dtype(x.dtype).type) for x in graph.contract.outputs],
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=half if activations == "fp16" else ct.precision.FLOAT32,
        pass_pipeline=passes,
        skip_model_load=True,
    )
    spec = model.get_spec()
    for given, wanted in zip(list(spec.description.input), graph.contract.inputs, strict=True):
        # torch.export writes names of inputs in lower case.
        ct.utils.rename_feature(spec, given.name, wanted.name, rename_inputs=True, rename_outputs=False)
    ct.utils.save_spec(spec, str(path), weights_dir=model.weights_dir)


def _join_biases(program: Any) -> None:
    """Make biases, which int8 projections add on their own, a part of the product again."""
    import torch

    for node in list(program.graph.nodes):
        if node.target is not torch.ops.aten.add.Tensor or any(user.op == "output" for user in node.users):
            continue  # the program names its outputs: what is one must stay
        product, bias = node.args
        if not (isinstance(product, torch.fx.Node) and isinstance(bias, torch.fx.Node) and bias.op == "placeholder"):
            continue
        is_bare_product = product.target is torch.ops.aten.linear.default and len(product.args) == 2
        if is_bare_product and len(product.users) == 1 and bias.meta["val"].ndim == 1:
            product.args = (*product.args, bias)
            node.replace_all_uses_with(product)
            program.graph.erase_node(node)


def _stays_float32(op: Any) -> bool:
    """Whether an operation of a float16 program is left in float32."""
    following = {child.op_type for output in op.outputs for child in output.child_ops}
    if op.op_type == "linear":  # a mean of squares
        return bool(following & {"rsqrt", "sqrt"})
    if op.op_type == "mul":
        return op.x is op.y
    if op.op_type == "add":  # a divisor and what keeps it from zero; log(1 + x), where x may vanish next to 1
        return bool(following & {"real_div", "log"})
    if op.op_type == "exp":
        return any(_stays_float32(child) for output in op.outputs for child in output.child_ops)
    return op.op_type in ("rsqrt", "sqrt", "real_div", "log")


def _finish(path: Path, metadata: dict[str, str | int], tables: list[StandIn]) -> None:
    """Put in the tables and metadata, shorten the program, and make what is random the same for the same content."""
    package = open_package(path)
    package.put_tables({table.rows.tobytes(): table.table for table in tables})
    package.model.description.metadata.userDefined.update({key: str(value) for key, value in metadata.items()})
    for function in package.functions.values():
        _shorten(function)
    write_model(package)
    manifest = json.loads((path / PACKAGE_MANIFEST).read_text(encoding="utf-8"))
    entries = manifest["itemInfoEntries"]
    keys = {key: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper() for key, entry in entries.items()}
    manifest["itemInfoEntries"] = {keys[key]: entry for key, entry in entries.items()}
    manifest["rootModelIdentifier"] = keys[manifest["rootModelIdentifier"]]
    # As Core ML Tools write it: they write it again when they open a package, and its digest must stay what it is.
    text = json.dumps(manifest, indent=4, sort_keys=True)
    (path / PACKAGE_MANIFEST).write_text(text + "\n", encoding="utf-8")


def _shorten(function: Any) -> None:
    """Compute once what is computed twice, and give values short names: half of a program's bytes."""
    block = function.block_specializations[function.opset]
    names = {name: name for name in [x.name for x in function.inputs] + list(block.outputs)}
    first: dict[bytes, list[str]] = {}
    kept: list[Any] = []
    for operation in block.operations:
        for argument in (x for operand in operation.inputs.values() for x in operand.arguments):
            if argument.HasField("name"):
                argument.name = names[argument.name]
        given = [output.name for output in operation.outputs]
        for output in operation.outputs:
            output.name = ""
        label = operation.attributes["name"].immediateValue.tensor.strings.values
        label[:] = [""]
        key = operation.SerializeToString(deterministic=True)
        if names.keys().isdisjoint(given) and key in first:
            names.update(zip(given, first[key], strict=True))
            continue
        number = f"v{len(kept):x}"
        first[key] = []
        for index, (name, output) in enumerate(zip(given, operation.outputs, strict=True)):
            short = plain = f"{number}_{index}" if index else number
            if name.startswith(_BUFFER):  # a tensor of a module keeps the name that it has there
                short = name.removeprefix(_BUFFER).removesuffix("_to_fp16").removesuffix("_weight")
            short = plain if short in names.values() else short
            output.name = names.setdefault(name, short)
            first[key].append(output.name)
        label[:] = [number]
        kept.append(operation)
    del block.operations[:]
    block.operations.extend(kept)
