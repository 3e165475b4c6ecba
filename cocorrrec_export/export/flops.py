"""FLOPs of each entry point, counted on the graph that ships: docs/profiling.md has the definition, for people.

A matrix product takes two operations a multiply-accumulate. All else is element-wise work, in a figure of its own: an
element-wise operator takes one operation an element of its result, a sum or mean one an element that it reads, a
softmax five an element. Integers, copies and look-ups take none. How weights are stored does not change a count: it
is taken on the float32 graph, for one user.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cocorrrec_export.artifact.recipe import Recipe
from cocorrrec_export.contract import RECOMMEND, EntryPoint
from cocorrrec_export.export.graphs import GraphSpec, gcn_graph, scn_graphs
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.curves import LENGTHS, slope_per_token

_VOCABULARY = 32
"""Items to count with: their number does not change a count, but of ``recommend``, which grows with it evenly."""
_SOFTMAX_OPERATIONS = 5
"""An element: the maximum, the difference, the exponential, the sum and the quotient."""
_aten: Any = torch.ops.aten
_FACTORS = {_aten.mm: 0, _aten.bmm: 0, _aten.addmm: 1, _aten.baddbmm: 1}
"""Matrix products, and which argument is the left factor; what comes before it is added."""
_REDUCTIONS = {_aten.sum, _aten.mean, _aten.amax, _aten.amin}
_COPIES = {_aten.clone, _aten.copy_, _aten._to_copy, _aten.fill, _aten.fill_}
_UNKNOWN = {_aten.convolution, _aten._scaled_dot_product_flash_attention_for_cpu, _aten.native_layer_norm}


@dataclass(frozen=True)
class Operations:
    """Operations of one call."""

    products: int
    """Of matrix products."""
    elementwise: int


@dataclass(frozen=True)
class EntryFlops:
    """What an entry point costs one user."""

    name: str
    call: Operations
    """In the shapes that ship."""
    per_token: Operations | None
    """Of an entry point that reads a history the least-squares slope over 10, 15, 20 and 25 clicks, all else as
    shipped; of ``step`` the cost of its click; None where there is no token."""

    def as_dict(self) -> dict[str, int | None]:
        """What manifest and profile say."""
        return {
            "call": self.call.products,
            "per_token": self.per_token.products if self.per_token else None,
            "elementwise": self.call.elementwise,
            "elementwise_per_token": self.per_token.elementwise if self.per_token else None,
        }


@dataclass(frozen=True)
class _Call:
    read: list[Tensor]
    made: list[Tensor]
    cost: Operations


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append(_Call(_tensors((args, kwargs)), _tensors(result), _cost(func, args, result)))
        return result

    def needed_for(self, outputs: Any) -> Operations:
        """Without what no output is made of, which exporters leave out; views are known by the storage they share."""
        needed = {_storage(x) for x in _tensors(outputs)}
        products = elementwise = 0
        for call in reversed(self.calls):
            if needed.isdisjoint(map(_storage, call.made)):
                continue
            needed.update(map(_storage, call.read))
            products += call.cost.products
            elementwise += call.cost.elementwise
        return Operations(products, elementwise)


def _tensors(values: Any) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def _storage(x: Tensor) -> int:
    return int(x.untyped_storage()._cdata)


def _cost(func: Any, args: Any, result: Any) -> Operations:
    operator = func.overloadpacket
    if operator in _UNKNOWN:
        raise TypeError(f"no formula for {func}: forms are put together from matrix products and element-wise ones")
    if operator in _FACTORS:
        left = _FACTORS[operator]
        return Operations(2 * result.numel() * args[left].shape[-1], left * result.numel())
    if not isinstance(result, Tensor) or not result.is_floating_point():
        return Operations(0, 0)
    if operator in (_aten._softmax, _aten._log_softmax):
        return Operations(0, _SOFTMAX_OPERATIONS * result.numel())
    if operator in _REDUCTIONS:
        return Operations(0, args[0].numel())
    pointwise = torch.Tag.pointwise in func.tags and operator not in _COPIES
    return Operations(0, result.numel() if pointwise else 0)


@torch.no_grad()
def count(graph: GraphSpec) -> Operations:
    """Operations of one call of a graph for one user."""
    one_user = tuple(
        x[:1] if isinstance(spec.shape[0], str) else x
        for spec, x in zip(graph.contract.inputs, graph.example, strict=True)
    )
    with _Counter() as counter:
        outputs = graph.module(*one_user)
    return counter.needed_for(outputs)


@functools.lru_cache(maxsize=32)
def entry_flops(config: ModelConfig, recipe: Recipe) -> tuple[EntryFlops, ...]:
    """FLOPs of each entry point of ``recipe``, in its order.

    Raises:
        UsageError: the recipe does not fit the architecture.
    """
    graphs = _graphs(config, recipe)
    calls = {graph.name: count(graph) for graph in graphs}
    if RECOMMEND in calls:
        calls[RECOMMEND] = _of_all_items(config, recipe, calls[RECOMMEND])
    by_length = {
        length: {graph.name: count(graph) for graph in _graphs(_of_length(config, recipe, length), recipe)}
        for length in LENGTHS
    }
    return tuple(
        EntryFlops(graph.name, calls[graph.name], _per_token(graph.contract, calls[graph.name], by_length))
        for graph in graphs
    )


def per_token_of(flops: tuple[EntryFlops, ...]) -> int | None:
    """The one figure of a file: of ``rank``, or else of its first entry point for which a token has a meaning."""
    known = [x for x in flops if x.per_token is not None]
    ordered = [x for x in known if x.name == "rank"] + known
    return ordered[0].per_token.products if ordered and ordered[0].per_token else None


def _per_token(
    contract: EntryPoint, call: Operations, by_length: dict[int, dict[str, Operations]]
) -> Operations | None:
    names = {spec.name for spec in contract.inputs}
    if "item" in names:
        return call
    if not names & {"ids", "H"}:
        return None
    return Operations(
        slope_per_token(lambda length: by_length[length][contract.name].products),
        slope_per_token(lambda length: by_length[length][contract.name].elementwise),
    )


def _of_length(config: ModelConfig, recipe: Recipe, length: int) -> ModelConfig:
    """The same model for histories of another length: of the clicks that this half of it reads."""
    if recipe.kind == "gcn" and config.correction == "vector":
        return dataclasses.replace(config, cloud_length=length, sequence_length=min(length, config.sequence_length))
    return dataclasses.replace(config, sequence_length=length, cloud_length=max(length, config.cloud_length))


def _of_all_items(config: ModelConfig, recipe: Recipe, few: Operations) -> Operations:
    """Of ``recommend`` over the model's catalog, from its cost over few items: an item costs what any other costs."""
    size = _vocabulary(config, recipe)
    by_name = {graph.name: graph for graph in _graphs(config, recipe, more_items=size)}
    more = count(by_name[RECOMMEND])

    def grown(few: int, more: int) -> int:
        return few + (more - few) // size * (config.vocab_size - size)

    return Operations(grown(few.products, more.products), grown(few.elementwise, more.elementwise))


def _vocabulary(config: ModelConfig, recipe: Recipe) -> int:
    """Rows of the table that is counted with: enough for what is recommended."""
    return _VOCABULARY + (recipe.recommend + max(config.sequence_length, *LENGTHS) if recipe.recommend else 0)


def _graphs(config: ModelConfig, recipe: Recipe, *, more_items: int = 0) -> list[GraphSpec]:
    config = dataclasses.replace(config, vocab_size=_vocabulary(config, recipe) + more_items)
    model = build_model(config, generator=torch.Generator().manual_seed(0)).eval()
    if recipe.kind == "gcn":
        return [gcn_graph(model, config)]
    plain = dataclasses.replace(recipe, precision="fp32", embedding="fp32", linear="fp32", activations="fp32")
    return scn_graphs(model, config, plain, all_products=True)
