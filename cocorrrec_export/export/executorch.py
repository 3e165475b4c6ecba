"""ExecuTorch: one ``.pte`` with a method for each entry point, the weights once, lowered to XNNPACK."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cocorrrec_export.artifact.recipe import Recipe
from cocorrrec_export.export.graphs import GraphSpec
from cocorrrec_export.export.memory import one_copy_of_tables
from cocorrrec_export.extras import quiet, require
from cocorrrec_export.runtime.executorch import METADATA_PREFIX


def export(
    graphs: Sequence[GraphSpec],
    recipe: Recipe,  # noqa: ARG001  # the graphs hold all that it says,
    path: Path,
    *,
    metadata: dict[str, str | int],
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write a ``.pte``, its metadata as constant methods ``meta_<key>``; see :class:`.exporter.Exporter`."""
    require("executorch")
    progress("importing ExecuTorch")
    with quiet():
        import torch
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
    programs: dict[str, Any] = {}
    for graph in graphs:
        progress(f"tracing {graph.name}")
        with quiet(), one_copy_of_tables():
            # Strict: the other mode keeps, in every method, the weights that only other methods use.
            programs[graph.name] = torch.export.export(graph.module, graph.example, strict=True)
    progress(f"lowering {len(programs)} entry points to XNNPACK")
    with quiet(), one_copy_of_tables():
        edge = to_edge_transform_and_lower(
            programs,
            partitioner=[_partitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
            constant_methods={f"{METADATA_PREFIX}{key}": value for key, value in metadata.items()},
        )
        program = edge.to_executorch()
    with path.open("wb") as file:
        program.write_to_file(file)
    return _planned_bytes(program.executorch_program)


def _partitioner() -> Any:
    """XNNPACK's partitioner, which also takes linears of float32 activations and int8 weights, or weights in float32
    that the program computes.

    XNNPACK has kernels for them; the stock rules ask for quantized activations next to quantized weights, and for
    constants.
    """
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.config.gemm_configs import LinearConfig, MMConfig
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.utils.utils import get_input_node, is_param_node

    class ComputedWeights:
        """Mixed into the rules of an operator."""

        def _get_weight_deps(self, node: Any, ep: Any, precision: Any) -> tuple[bool, list[Any]]:
            computed = not is_param_node(ep, get_input_node(node, self.weight_idx))  # type: ignore[attr-defined]
            if precision == ConfigPrecisionType.FP32 and computed:
                return True, []
            return super()._get_weight_deps(node, ep, precision)  # type: ignore[misc]

    class ProductConfig(ComputedWeights, MMConfig):  # type: ignore[misc]  # a class of an untyped package
        pass

    class WeightOnlyLinearConfig(ComputedWeights, LinearConfig):  # type: ignore[misc]
        def supported_precision_types(self) -> list[Any]:
            return [ConfigPrecisionType.FP32, ConfigPrecisionType.STATIC_QUANT]  # static: int8 weights

        def _get_act_deps(self, node: Any, ep: Any, precision: Any) -> tuple[bool, list[Any]]:  # noqa: ARG002
            return True, []

        def _get_output_deps(self, node: Any, ep: Any, precision: Any) -> tuple[bool, list[Any]]:  # noqa: ARG002
            return super()._get_output_deps(node, ep, ConfigPrecisionType.FP32)

    own = {LinearConfig: WeightOnlyLinearConfig, MMConfig: ProductConfig}
    return XnnpackPartitioner(configs=[own.get(config, config) for config in ALL_PARTITIONER_CONFIGS])


def _planned_bytes(program: Any) -> dict[str, int]:
    """Bytes of the arena that each method plans for its intermediate tensors."""
    plans = {plan.name: sum(plan.non_const_buffer_sizes) for plan in program.execution_plan}
    return {name: size for name, size in plans.items() if not name.startswith(METADATA_PREFIX)}
