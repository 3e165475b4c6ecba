"""FLOPs of an entry point, against a count of the exported program's operators by other means."""

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch._decomp import get_decompositions

from cocorrrec_export.artifact.recipe import choose_recipe, shipped_recipe
from cocorrrec_export.export import graphs
from cocorrrec_export.export.flops import LENGTHS, EntryFlops, entry_flops, per_token_of
from cocorrrec_export.extras import quiet
from cocorrrec_export.modeling.config import Architecture, CloudReader, ModelConfig
from tests.importing.test_layouts import CASES
from tests.models import random_ranker

RECIPE = shipped_recipe("executorch-xnnpack-fp32")
aten = torch.ops.aten
ELEMENTWISE = {
    *(aten.add.Tensor, aten.sub.Tensor, aten.rsub.Scalar, aten.mul.Tensor, aten.div.Tensor, aten.neg.default),
    *(aten.tanh.default, aten.sigmoid.default, aten.exp.default, aten.sqrt.default, aten.rsqrt.default),
    *(aten.relu.default, aten.leaky_relu.default, aten.gelu.default, aten.softplus.default, aten.silu.default),
    *(aten.clamp.default, aten.pow.Tensor_Scalar, aten.where.self, aten.abs.default, aten.log.default),
    *(aten.square.default, aten.maximum.default, aten.minimum.default),
}
"""Of operators of traced programs, those that take one operation an element."""
GRU = {aten.gru.input: get_decompositions([aten.gru.input])[aten.gru.input]}
"""It is one operator in a traced program: taken apart by PyTorch's own rule."""


def traced(graph: graphs.GraphSpec) -> tuple[int, int]:
    """Products and element-wise work, from the shapes in the program that torch.export makes."""
    products = elementwise = 0
    one_user = tuple(
        x[:1] if isinstance(s.shape[0], str) else x for s, x in zip(graph.contract.inputs, graph.example, strict=True)
    )
    with quiet():
        program = torch.export.export(graph.module, one_user).run_decompositions(GRU)
    for node in program.graph.nodes:
        if node.op != "call_function" or not isinstance(node.meta.get("val"), torch.Tensor):
            continue
        values = [x.meta["val"] for x in node.all_input_nodes]
        out, shapes = node.meta["val"], [tuple(x.shape) for x in values if isinstance(x, torch.Tensor)]
        size = math.prod(out.shape)
        if node.target is aten.linear.default:
            products += 2 * size * shapes[0][-1]
            elementwise += size if len(shapes) == 3 else 0
        elif node.target is aten.addmm.default:
            products += 2 * size * shapes[1][-1]
            elementwise += size
        elif node.target in (aten.mm.default, aten.bmm.default, aten.matmul.default):
            products += 2 * size * shapes[0][-1]
        elif node.target in (aten.softmax.int, aten._softmax.default):
            elementwise += 5 * size
        elif node.target in ELEMENTWISE and out.dtype == torch.float32:
            elementwise += size
        elif node.target in (aten.sum.dim_IntList, aten.mean.dim) and out.dtype == torch.float32:
            elementwise += math.prod(shapes[0])
    return products, elementwise


def slope(values: list[int]) -> int:
    return round(float(np.polyfit(LENGTHS, np.array(values, dtype=np.float64), 1)[0]))


def check(flops: EntryFlops, counted: dict[int, tuple[int, int]], shipped: int) -> None:
    assert (flops.call.products, flops.call.elementwise) == counted[shipped], flops.name
    assert flops.call.products > 0
    if flops.name == "score":
        assert flops.per_token is None
    elif flops.name == "step":
        assert flops.per_token == flops.call
    else:
        assert flops.per_token is not None
        assert flops.per_token.products == slope([counted[length][0] for length in LENGTHS]), flops.name
        assert flops.per_token.elementwise == slope([counted[length][1] for length in LENGTHS]), flops.name


@pytest.mark.parametrize("item_side", ["computed", "folded"])
@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_every_entry_point(architecture: Architecture, item_side: Any) -> None:
    config = ModelConfig(vocab_size=60, architecture=architecture)
    if item_side == "folded" and architecture in ("bert4rec", "mamba4rec"):
        pytest.skip("its item side has no layers to fold")
    recipe = dataclasses.replace(RECIPE, item_side=item_side, candidates=37)
    recipe = graphs.fit_recipe(recipe, config)
    counted: dict[str, dict[int, tuple[int, int]]] = {name: {} for name in recipe.entry_points}
    for length in LENGTHS if item_side == "computed" else (10,):
        longer = dataclasses.replace(config, sequence_length=length)
        for graph in graphs.scn_graphs(random_ranker(longer), longer, recipe):
            counted[graph.name][length] = traced(graph)
    for flops in entry_flops(config, recipe):
        if item_side == "computed":
            check(flops, counted[flops.name], 10)
        else:
            assert (flops.call.products, flops.call.elementwise) == counted[flops.name][10]


OPTIONED: dict[str, dict[str, Any]] = {
    "vector": {"correction": "vector"},
    "alone": {"correction": "none", "item_side": "dot", "readout": "residual"},
    "paper": {"inner_loss": "sigmoid", "mini_batch": 5, "item_side": "dot"},
    "short": {"mini_batch": 2, "num_heads": 32, "sequence_length": 7},
    "wide gru": {"architecture": "gru4rec", "inner_size": 96, "num_layers": 2, "head": "linear"},
    "causal": {"architecture": "bert4rec", "attention": "causal", "position_table": "from_end", "mask_token": True},
    "dot": {"architecture": "sasrec", "item_side": "dot", "readout": "residual", "position_table": "history"},
    "mlm": {"architecture": "bert4rec", "head": "mlm", "output_bias": True, "embedding_norm": True},
}
QUICK = ("dot", "sasrec-tanh")


def configs() -> list[Any]:
    """Optioned models, and those of other libraries: a few by default, all of them among the slow tests."""
    made = {name: ModelConfig(vocab_size=60, **options) for name, options in OPTIONED.items()}
    made |= {name: case.config() for name, case in CASES.items()}
    return [pytest.param(x, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, x in made.items()]


@pytest.mark.parametrize("config", configs())
def test_options_and_imported_models(config: ModelConfig) -> None:
    recipe = graphs.fit_recipe(dataclasses.replace(RECIPE, candidates=37), config)
    made = graphs.scn_graphs(random_ranker(config), config, recipe)
    counted = {graph.name: traced(graph) for graph in made}
    found = {x.name: (x.call.products, x.call.elementwise) for x in entry_flops(config, recipe)}
    assert found == counted and counted.keys() == set(recipe.entry_points)


def test_the_cloud() -> None:
    config, counted = ModelConfig(vocab_size=60), {}
    for length in LENGTHS:
        longer = dataclasses.replace(config, sequence_length=length)
        counted[length] = traced(graphs.gcn_graph(random_ranker(longer), longer))
    flops = entry_flops(config, choose_recipe("gcn", "onnx"))
    check(flops[0], counted, 10)
    assert per_token_of(flops) == 2 * 2 * 6 * 64 * 64  # two GRUs of six matrices


@pytest.mark.parametrize("reader", get_args(CloudReader))
def test_a_cloud_that_answers_with_a_vector(reader: CloudReader) -> None:
    config = ModelConfig(vocab_size=60, correction="vector", cloud_reader=reader, cloud_networks=2, cloud_length=30)
    (flops,) = entry_flops(config, choose_recipe("gcn", "onnx"))
    assert flops.call.products == traced(graphs.gcn_graph(random_ranker(config), config))[0] > 0
    assert flops.per_token is not None and flops.per_token.products > 0
    names = [x.name for x in entry_flops(config, RECIPE)]
    assert "rank_corrected" in names


def test_by_hand() -> None:
    """GRU4Rec's step is three layers and six gates; a token of the SCN's encode is a norm."""
    gru = {x.name: x for x in entry_flops(ModelConfig(vocab_size=60, architecture="gru4rec"), RECIPE)}
    click = 2 * (64 * 64 + 6 * 64 * 64)
    user = gru["step"].call.products - click
    assert user % (2 * 64 * 64) == 0 and gru["step"].per_token == gru["step"].call
    scn = {x.name: x for x in entry_flops(ModelConfig(vocab_size=60), RECIPE)}
    assert scn["encode"].per_token is not None and scn["encode"].per_token.products == 2 * 64
    assert per_token_of(tuple(scn.values())) == scn["rank"].per_token.products  # type: ignore[union-attr]
    assert per_token_of((scn["score"],)) is None


@pytest.mark.slow
@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_the_onnx_file(architecture: Architecture, tmp_path: Path) -> None:
    """The products of the file itself, by the shapes that ONNX infers."""
    import onnx

    from cocorrrec_export.export.exporter import find_exporter

    config = ModelConfig(vocab_size=60, architecture=architecture)
    recipe = graphs.fit_recipe(shipped_recipe("onnx-cpu-fp32"), config)
    made = graphs.scn_graphs(random_ranker(config), config, recipe)
    find_exporter("onnx").export(made, recipe, tmp_path / "scn", metadata={})
    for flops in entry_flops(config, recipe):
        model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "scn" / f"{flops.name}.onnx"))
        shapes = {
            x.name: [d.dim_value for d in x.type.tensor_type.shape.dim]
            for x in (*model.graph.value_info, *model.graph.output, *model.graph.input)
        } | {x.name: list(x.dims) for x in model.graph.initializer}
        found: Counter[str] = Counter()
        for node in model.graph.node:
            if node.op_type in ("MatMul", "Gemm"):
                flipped = any(a.name == "transA" and a.i for a in node.attribute)
                inner = shapes[node.input[0]][-2 if flipped else -1]
                found["products"] += 2 * math.prod(shapes[node.output[0]]) * inner
        assert found["products"] == flops.call.products, flops.name
