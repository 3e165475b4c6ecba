"""The entry points of an artefact as graphs: what every converter takes, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.errors import UsageError
from cocorrrec_export.export.device_form import NEW_STREAM, DeviceSCN
from cocorrrec_export.export.recipes import Recipe
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.gcn import GCN
from cocorrrec_export.modeling.joint import CoCorrRec


@dataclass(frozen=True)
class GraphSpec:
    """One entry point: all that a converter needs to know."""

    contract: EntryPoint
    module: nn.Module
    """In evaluation mode; ``forward`` takes the inputs in order and returns a tuple of the outputs in order."""
    example: tuple[Tensor, ...]
    """Inputs to trace with."""

    @property
    def name(self) -> str:
        """The entry point's name."""
        return self.contract.name

    @property
    def dynamic_shapes(self) -> tuple[dict[int, Any] | None, ...]:
        """For torch.export: an input whose contract names its first dimension takes any size of it."""
        return tuple(
            {0: torch.export.Dim(spec.shape[0], min=1)} if isinstance(spec.shape[0], str) else None
            for spec in self.contract.inputs
        )


class _Entry(nn.Module):
    def __init__(self, device: DeviceSCN) -> None:
        super().__init__()
        self.device = device


class Encode(_Entry):
    """The upload."""

    def forward(self, ids: Tensor) -> tuple[Tensor]:
        """``ids [1, L]`` to ``H [1, L, D]``."""
        return (self.device.encode(self.device.table(ids.view(ids.shape[1]))).unsqueeze(0),)


class Rank(_Entry):
    """Scores without the cloud."""

    def forward(self, ids: Tensor, candidates: Tensor) -> tuple[Tensor]:
        """``ids [1, L]``, ``candidates [1, C]`` to ``scores [1, C]``."""
        clicks, items = self.device.look_up(ids, candidates)
        user = self.device.user_state(ids, self.device.encode(clicks))
        return (self.device.score_rows(user, items),)


class RankCorrected(_Entry):
    """Scores with the cloud's answer."""

    def forward(self, ids: Tensor, candidates: Tensor, k_attn: Tensor, k_b: Tensor) -> tuple[Tensor]:
        """The same with ``k_attn [1, h, K, K]`` and ``k_b [1, h, K, f]``."""
        clicks, items = self.device.look_up(ids, candidates)
        user = self.device.user_state(ids, self.device.encode(clicks), (k_attn, k_b))
        return (self.device.score_rows(user, items),)


class Step(_Entry):
    """One click of the streaming form."""

    def forward(
        self, item: Tensor, W: Tensor, b: Tensor, grad_W: Tensor, grad_b: Tensor, position: Tensor
    ) -> tuple[Tensor, ...]:
        """``item [1]`` and the state to the next state and ``user [1, D]``."""
        row = self.device.table(item)
        *state, position, user = self.device.step(row, W[0], b[0], grad_W[0], grad_b[0], position)
        return (*(x.unsqueeze(0) for x in state), position, user)


class Score(_Entry):
    """Scores from a user state."""

    def forward(self, user: Tensor, candidates: Tensor) -> tuple[Tensor]:
        """``user [1, D]``, ``candidates [1, C]`` to ``scores [1, C]``."""
        return (self.device.score_rows(user, self.device.candidate_rows(candidates)),)


class Correct(nn.Module):
    """The cloud's half."""

    def __init__(self, gcn: GCN) -> None:
        super().__init__()
        self.gcn = gcn

    def forward(self, H: Tensor) -> tuple[Tensor, Tensor]:
        """``H [N, L, D]`` to ``k_attn [N, h, K, K]``, ``k_b [N, h, K, f]``."""
        return tuple(self.gcn(H))


_MODULES = {"encode": Encode, "rank": Rank, "rank_corrected": RankCorrected, "step": Step, "score": Score}


def scn_contracts(config: ModelConfig, *, candidates: int) -> dict[str, EntryPoint]:
    """Names, dtypes and shapes of all the phone's entry points (one user at a time)."""
    h, f, K, L, D = config.num_heads, config.head_dim, config.mini_batch, config.sequence_length, config.hidden_size
    ids = TensorSpec("ids", "int32", (1, L))
    items = TensorSpec("candidates", "int32", (1, candidates))
    scores = TensorSpec("scores", "float32", (1, candidates))
    user = TensorSpec("user", "float32", (1, D))
    corrections = (TensorSpec("k_attn", "float32", (1, h, K, K)), TensorSpec("k_b", "float32", (1, h, K, f)))
    shapes = {"W": (1, h, f, f), "b": (1, h, 1, f), "grad_W": (1, h, f, f), "grad_b": (1, h, 1, f)}
    state = [TensorSpec(name, "float32", shape) for name, shape in shapes.items()]
    state.append(TensorSpec("position", "int32", (1,)))
    next_state = [TensorSpec(f"{x.name}_next", x.dtype, x.shape) for x in state]
    entry_points = (
        EntryPoint("encode", (ids,), (TensorSpec("H", "float32", (1, L, D)),)),
        EntryPoint("rank", (ids, items), (scores,)),
        EntryPoint("rank_corrected", (ids, items, *corrections), (scores,)),
        EntryPoint("step", (TensorSpec("item", "int32", (1,)), *state), (*next_state, user)),
        EntryPoint("score", (user, items), (scores,)),
    )
    return {entry.name: entry for entry in entry_points}


def gcn_contract(config: ModelConfig) -> EntryPoint:
    """Names, dtypes and shapes of the cloud's entry point; N users at a time."""
    h, f, K, L, D = config.num_heads, config.head_dim, config.mini_batch, config.sequence_length, config.hidden_size
    return EntryPoint(
        "correct",
        (TensorSpec("H", "float32", ("N", L, D)),),
        (TensorSpec("k_attn", "float32", ("N", h, K, K)), TensorSpec("k_b", "float32", ("N", h, K, f))),
    )


def scn_graphs(model: CoCorrRec, config: ModelConfig, recipe: Recipe) -> list[GraphSpec]:
    """The phone's entry points that ``recipe`` asks for, over one copy of the weights.

    Raises:
        UsageError: ``rank_corrected`` of a model without a GCN, or arithmetic that the target's converter has not.
        ValueError: the model is in training mode.
    """
    if "rank_corrected" in recipe.entry_points and model.gcn is None:
        raise UsageError(
            "this model was trained without a GCN and takes no correction: "
            "remove rank_corrected from the recipe's entry_points"
        )
    if recipe.activations != "fp32" and recipe.target != "coreml":
        raise UsageError(
            f"weights.activations '{recipe.activations}' is for coreml alone: {recipe.target} computes in fp32"
        )
    device = DeviceSCN(
        model.scn,
        sequence_length=config.sequence_length,
        embedding=recipe.embedding,
        # A program that computes in float16 keeps all its weights so, and needs no casts of them in the graph.
        linear="fp32" if recipe.activations == recipe.linear == "fp16" else recipe.linear,
        item_side=recipe.item_side,
        half_as_bits=recipe.target == "tflite",
    )
    contracts = scn_contracts(config, candidates=recipe.candidates)
    graphs = []
    for name in recipe.entry_points:
        contract = contracts[name]
        example = tuple(_filled(spec, 1) for spec in contract.inputs)
        graphs.append(GraphSpec(contract, _MODULES[name](device).eval(), example))
    return graphs


def gcn_graph(model: CoCorrRec, config: ModelConfig) -> GraphSpec:
    """The cloud's entry point.

    Raises:
        UsageError: the model has no GCN.
    """
    if model.gcn is None:
        raise UsageError("this model was trained without a GCN: there is no cloud half to export")
    H = model.scn.encode(torch.ones(3, config.sequence_length, dtype=torch.int64)).detach()
    return GraphSpec(gcn_contract(config), Correct(model.gcn).eval(), (H,))


def part_bytes(graphs: Sequence[GraphSpec], activations: str) -> dict[str, int]:
    """Bytes of the weights of each part of the model, as the exported file stores them.

    Args:
        graphs: the entry points.
        activations: of the recipe; a program that computes in float16 stores no float32.

    Returns:
        ``table``, ``scn`` and ``item_side`` of the phone's half; ``gcn`` of the cloud's.
    """
    widest = 2 if activations == "fp16" else 4

    def stored(module: nn.Module) -> int:
        # Zero points are zeros, which no format writes out.
        kept = [x for name, x in module.state_dict().items() if x.numel() and not name.endswith(".zero")]
        return sum({x.data_ptr(): x.numel() * min(x.element_size(), widest) for x in kept}.values())

    module = graphs[0].module
    if not isinstance(module, _Entry):
        return {"gcn": stored(module)}
    device = module.device
    table = stored(device.table)
    item_side = stored(device.item_mlp if device.item_table is None else device.item_table)
    return {"table": table, "scn": stored(device) - table - item_side, "item_side": item_side}


def new_stream(config: ModelConfig) -> dict[str, Tensor]:
    """The state before the first click: zeros, and position -1. It needs no weights, so an app can make it itself.

    ``step`` then starts from the learned W1 and b1. Reset a stream by the same values.
    """
    specs = scn_contracts(config, candidates=1)["step"].inputs[1:]
    return {spec.name: _filled(spec, NEW_STREAM if spec.name == "position" else 0) for spec in specs}


def _filled(spec: TensorSpec, value: int) -> Tensor:
    return torch.full(tuple(map(int, spec.shape)), value, dtype=getattr(torch, spec.dtype))
