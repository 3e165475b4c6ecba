"""The entry points of an artifact as graphs: what every converter takes, and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cocorrrec_export import plugins
from cocorrrec_export.artifact.recipe import SCN_ENTRY_POINTS, Recipe
from cocorrrec_export.contract import POSITION, RECOMMEND, EntryPoint, TensorSpec
from cocorrrec_export.errors import UsageError
from cocorrrec_export.forms.catalog import Catalog
from cocorrrec_export.forms.din import DeviceDIN
from cocorrrec_export.forms.frame import DeviceRanker, ItemRows, Storage
from cocorrrec_export.forms.gru4rec import DeviceGRU4Rec
from cocorrrec_export.forms.kernel import corrected_user_state
from cocorrrec_export.forms.mamba4rec import DeviceMamba4Rec
from cocorrrec_export.forms.quantizer import Codes
from cocorrrec_export.forms.scn import DeviceSCN
from cocorrrec_export.forms.transformer import DeviceTransformer
from cocorrrec_export.forms.weights import CODEBOOKS, table_codes
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.gcn import GCN
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.threads import one_thread
from cocorrrec_export.modeling.vector import VectorCloud
from cocorrrec_export.targets import find_target


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
    def dynamic_shapes(self) -> tuple[dict[int, Any] | None, ...] | None:
        """For torch.export: an input whose contract names its first dimension takes any size of it."""
        shapes = tuple(
            {0: torch.export.Dim(spec.shape[0], min=1)} if isinstance(spec.shape[0], str) else None
            for spec in self.contract.inputs
        )
        return shapes if any(shapes) else None


class _Entry(nn.Module):
    def __init__(self, device: DeviceRanker, *, probability: bool = False) -> None:
        super().__init__()
        self.device = device
        self.probability = probability

    def scores(self, user: Any, rows: ItemRows) -> tuple[Tensor]:
        """Scores ``[1, C]`` of the candidates' rows: logits, or their sigmoids, which float32 ties above 17."""
        logits = self.device.score_rows(user, rows)
        return (torch.sigmoid(logits) if self.probability else logits,)


class Rank(_Entry):
    """Scores without the cloud."""

    def forward(self, ids: Tensor, candidates: Tensor) -> tuple[Tensor]:
        """``ids [1, L]``, ``candidates [1, C]`` to ``scores [1, C]``."""
        clicks, items = self.device.look_up(ids, candidates)
        return self.scores(self.device.read(ids, clicks), items)


class Step(_Entry):
    """One click of the streaming form."""

    def forward(self, item: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """``item [1]`` and the state to the next state and ``user [1, D]``."""
        return self.device.step(self.device.table(item), *state)


class Score(_Entry):
    """Scores from a user state."""

    def forward(self, user: Tensor, candidates: Tensor) -> tuple[Tensor]:
        """``user [1, D]``, ``candidates [1, C]`` to ``scores [1, C]``."""
        return self.scores(user, self.device.candidate_rows(candidates))


class Encode(_Entry):
    """The upload."""

    device: DeviceSCN

    def forward(self, ids: Tensor) -> tuple[Tensor]:
        """``ids [1, L]`` to ``H [1, L, D]``."""
        return (self.device.encode(self.device.table(ids.view(ids.shape[1]))).unsqueeze(0),)


class User(_Entry):
    """The user state without the cloud: what an app keeps, and adds a late vector to before ``score``."""

    def forward(self, ids: Tensor) -> tuple[Tensor]:
        """``ids [1, L]`` to ``user [1, D]``."""
        return (self.device.read(ids, self.device.table(ids.view(ids.shape[1]))),)


class RankCorrected(_Entry):
    """Scores with the cloud's kernels."""

    device: DeviceSCN

    def forward(self, ids: Tensor, candidates: Tensor, k_attn: Tensor, k_b: Tensor) -> tuple[Tensor]:
        """As :class:`Rank`, with ``k_attn [1, h, K, K]`` and ``k_b [1, h, K, f]``."""
        clicks, items = self.device.look_up(ids, candidates)
        user = corrected_user_state(self.device, ids, self.device.encode(clicks), k_attn, k_b)
        return self.scores(user, items)


class RankWithVector(_Entry):
    """Scores with the cloud's vector."""

    def forward(self, ids: Tensor, candidates: Tensor, vector: Tensor) -> tuple[Tensor]:
        """As :class:`Rank`, with ``vector [1, D]``."""
        clicks, items = self.device.look_up(ids, candidates)
        return self.scores(self.device.read(ids, clicks) + vector, items)


class Recommend(_Entry):
    """The best items of the whole catalog, without the history's own and without the cloud."""

    def __init__(self, device: DeviceRanker, *, count: int, probability: bool = False) -> None:
        super().__init__(device, probability=probability)
        self.catalog = Catalog(device, count=count)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """``ids [1, L]`` to ``items [1, K]`` int32 and ``scores [1, K]``, the best first."""
        user = self.device.read(ids, self.device.table(ids.view(ids.shape[1])))
        items, logits = self.catalog(self.device, ids, user)
        return items, torch.sigmoid(logits) if self.probability else logits


class Correct(nn.Module):
    """The cloud model."""

    def __init__(self, gcn: GCN) -> None:
        super().__init__()
        self.gcn = gcn

    def forward(self, H: Tensor) -> tuple[Tensor, Tensor]:
        """``H [N, L, D]`` to ``k_attn [N, h, K, K]``, ``k_b [N, h, K, f]``."""
        return tuple(self.gcn(H))


class AnswerVector(nn.Module):
    """The cloud model of a model whose cloud answers with a vector; it has the phone's item table too."""

    def __init__(self, model: CoCorrRec, cloud: VectorCloud) -> None:
        super().__init__()
        self.table = model.item_embedding
        self.cloud = cloud

    def forward(self, ids: Tensor) -> tuple[Tensor]:
        """``ids [N, L_cloud]`` to ``vector [N, D]``."""
        clicks = ids.to(torch.int64)
        return (self.cloud(clicks, self.table(clicks)),)


_MODULES: dict[str, type[_Entry]] = {
    "encode": Encode,
    "user": User,
    "rank": Rank,
    "rank_corrected": RankCorrected,
    "step": Step,
    "score": Score,
}


def _no_state(config: ModelConfig) -> tuple[TensorSpec, ...]:  # noqa: ARG001
    return ()


def _ttt_state(config: ModelConfig) -> tuple[TensorSpec, ...]:
    h, f = config.num_heads, config.head_dim
    shapes = {"W": (1, h, f, f), "b": (1, h, 1, f), "grad_W": (1, h, f, f), "grad_b": (1, h, 1, f)}
    state = tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items())
    return (*state, TensorSpec(POSITION, "int32", (1,)))


def _gru_state(config: ModelConfig) -> tuple[TensorSpec, ...]:
    return (TensorSpec("hidden", "float32", (1, config.num_layers * config.inner_size)),)


def _mamba_state(config: ModelConfig) -> tuple[TensorSpec, ...]:
    layers, inner = config.num_layers, config.expand * config.hidden_size
    return (
        TensorSpec("window", "float32", (1, layers, inner, config.conv_kernel - 1)),
        TensorSpec("hidden", "float32", (1, layers, config.state_size, inner)),
    )


@dataclass(frozen=True)
class Form:
    """How the on-device model of an architecture goes into a file."""

    device: Callable[..., DeviceRanker]
    """From the plain model, ``sequence_length`` and ``storage``."""
    entry_points: tuple[str, ...]
    """The first is always there; ``recommend`` is made only where a recipe asks for it."""
    state: Callable[[ModelConfig], tuple[TensorSpec, ...]] = _no_state
    """What ``step`` takes next to the click; a new stream is all zeros, but for ``position``."""


_STREAMING = ("rank", "step", "score", RECOMMEND)
_BY_CORRECTION: dict[str, tuple[str, ...]] = {
    "kernel": ("encode", "rank", "rank_corrected", "step", "score", RECOMMEND),
    "vector": ("user", "rank", "rank_corrected", "step", "score", RECOMMEND),
    "none": ("user", "rank", "step", "score", RECOMMEND),
}
"""Entry points of a cocorrrec, by what its cloud answers."""


class _Forms(dict[str, Form]):
    """Those of the package, and behind them those of entry points."""

    def __missing__(self, name: str) -> Form:
        form = plugins.load(plugins.FORMS, name)
        if not isinstance(form, Form):
            raise UsageError(f"architecture '{name}': its entry point of {plugins.FORMS} is not a Form")
        return form


FORMS = _Forms(
    {
        "cocorrrec": Form(DeviceSCN, (*SCN_ENTRY_POINTS, RECOMMEND), _ttt_state),
        "din": Form(DeviceDIN, ("rank",)),
        "gru4rec": Form(DeviceGRU4Rec, _STREAMING, _gru_state),
        "sasrec": Form(DeviceTransformer, ("rank", RECOMMEND)),
        "bert4rec": Form(DeviceTransformer, ("rank", RECOMMEND)),
        "mamba4rec": Form(DeviceMamba4Rec, _STREAMING, _mamba_state),
    }
)
"""The package's architectures, by their names in a config."""


def known_entry_points(config: ModelConfig) -> tuple[str, ...]:
    """The phone's entry points that a model has."""
    if config.architecture == "cocorrrec":
        return _BY_CORRECTION[config.correction]
    return FORMS[config.architecture].entry_points


def scn_contracts(config: ModelConfig, *, candidates: int, recommend: int = 0) -> dict[str, EntryPoint]:
    """Names, dtypes and shapes of all the phone's entry points that the architecture has (one user at a time).

    Args:
        config: of the model.
        candidates: C.
        recommend: K; 0 leaves ``recommend`` out.
    """
    h, f, K, L, D = config.num_heads, config.head_dim, config.mini_batch, config.sequence_length, config.hidden_size
    form = FORMS[config.architecture]
    ids = TensorSpec("ids", "int32", (1, L))
    items = TensorSpec("candidates", "int32", (1, candidates))
    scores = TensorSpec("scores", "float32", (1, candidates))
    user = TensorSpec("user", "float32", (1, D))
    kernels = (TensorSpec("k_attn", "float32", (1, h, K, K)), TensorSpec("k_b", "float32", (1, h, K, f)))
    corrections = (TensorSpec("vector", "float32", (1, D)),) if config.correction == "vector" else kernels
    state = form.state(config)
    next_state = [TensorSpec(f"{x.name}_next", x.dtype, x.shape) for x in state]
    entry_points = (
        EntryPoint("encode", (ids,), (TensorSpec("H", "float32", (1, L, D)),)),
        EntryPoint("user", (ids,), (user,)),
        EntryPoint("rank", (ids, items), (scores,)),
        EntryPoint("rank_corrected", (ids, items, *corrections), (scores,)),
        EntryPoint("step", (TensorSpec("item", "int32", (1,)), *state), (*next_state, user)),
        EntryPoint("score", (user, items), (scores,)),
        EntryPoint(
            RECOMMEND,
            (ids,),
            (TensorSpec("items", "int32", (1, recommend)), TensorSpec("scores", "float32", (1, recommend))),
        ),
    )
    known = [name for name in known_entry_points(config) if name != RECOMMEND or recommend]
    return {entry.name: entry for entry in entry_points if entry.name in known}


OF_ONE_CORRECTION = ("encode", "user")


def fit_recipe(recipe: Recipe, config: ModelConfig) -> Recipe:
    """The recipe with the entry points that the architecture has; those of a shipped recipe are the SCN's.

    ``encode`` and ``user`` belong to the two kinds of correction: a recipe may name both, and a model has one of them.

    Raises:
        UsageError: a recipe of the user's own asks for another.
    """
    known = known_entry_points(config)
    missing = [name for name in recipe.entry_points if name not in known]
    if recipe.kind == "gcn" or not missing:
        return recipe
    both = config.architecture == "cocorrrec" and set(OF_ONE_CORRECTION) <= set(recipe.entry_points)
    kept = tuple(name for name in recipe.entry_points if name in known)
    refused = [name for name in missing if not (both and name in OF_ONE_CORRECTION)]
    if recipe.shipped:
        refused = [name for name in refused if name == RECOMMEND]  # it ships in no recipe: the user asked for it
    if not kept or refused:
        raise UsageError(
            f"recipe {recipe.name}: {_described(config)} does not have the entry point "
            f"{', '.join(refused or missing)}: it has {', '.join(known)}"
        )
    return replace(recipe, entry_points=kept)


def _described(config: ModelConfig) -> str:
    if config.architecture != "cocorrrec":
        return config.architecture
    return f"a cocorrrec with correction '{config.correction}'"


def gcn_contract(config: ModelConfig) -> EntryPoint:
    """Names, dtypes and shapes of the cloud's entry point; N users at a time."""
    h, f, K, L, D = config.num_heads, config.head_dim, config.mini_batch, config.sequence_length, config.hidden_size
    if config.correction == "vector":
        ids = TensorSpec("ids", "int32", ("N", config.cloud_length))
        return EntryPoint("correct", (ids,), (TensorSpec("vector", "float32", ("N", D)),))
    return EntryPoint(
        "correct",
        (TensorSpec("H", "float32", ("N", L, D)),),
        (TensorSpec("k_attn", "float32", ("N", h, K, K)), TensorSpec("k_b", "float32", ("N", h, K, f))),
    )


def scn_graphs(
    model: Ranker, config: ModelConfig, recipe: Recipe, *, all_products: bool = False, codes: Codes | None = None
) -> list[GraphSpec]:
    """The phone's entry points that ``recipe`` asks for, over one copy of the weights.

    Args:
        model: the plain model, in evaluation mode.
        config: its sizes.
        recipe: what to make of it.
        all_products: write products of matrices as such, also where the target is faster without: to count them.
        codes: of the item table, for a recipe of product quantization; None fits them to the model's users.

    Raises:
        UsageError: an entry point that the model does not have, an item side that it cannot fold, or arithmetic that
            target's converter does not have.
        ValueError: the model is in training mode.
    """
    recipe = fit_recipe(recipe, config)
    if "rank_corrected" in recipe.entry_points and model.gcn is None:
        raise UsageError(
            "this model was trained without a GCN and takes no correction: "
            "remove rank_corrected from the recipe's entry_points"
        )
    target = find_target(recipe.target)
    if recipe.activations not in target.activations:
        raise UsageError(
            f"weights.activations '{recipe.activations}' cannot be exported to {recipe.target}, which computes in "
            f"{' or '.join(target.activations)}"
        )
    most = config.vocab_size - 1 - config.sequence_length
    if recipe.recommend > most:
        raise UsageError(
            f"shapes.recommend is {recipe.recommend}, but of {config.vocab_size - 1} items {config.sequence_length} "
            f"may be of the history: at most {max(most, 0)} can be recommended"
        )
    if codes is None and recipe.embedding in CODEBOOKS and recipe.item_side == "computed":
        with one_thread():  # the same codes each time
            codes = table_codes(model, recipe.embedding, length=config.sequence_length)
    storage = Storage(
        embedding=recipe.embedding,
        # A program that computes in float16 keeps all its weights so, and needs no casts of them in the graph.
        linear="fp32" if recipe.activations == recipe.linear == "fp16" else recipe.linear,
        item_side=recipe.item_side,
        half_as_bits=target.half_as_bits,
        int8_by_operator=target.int8_by_operator,
        products_by_sum=target.products_by_sum and not all_products,
        codes=codes,
    )
    device = FORMS[config.architecture].device(model, sequence_length=config.sequence_length, storage=storage)
    contracts = scn_contracts(config, candidates=recipe.candidates, recommend=recipe.recommend)
    graphs = []
    for name in recipe.entry_points:
        contract = contracts[name]
        example = tuple(_filled(spec, 1) for spec in contract.inputs)
        graphs.append(GraphSpec(contract, _entry(name, device, config, recipe).eval(), example))
    return graphs


def _entry(name: str, device: DeviceRanker, config: ModelConfig, recipe: Recipe) -> _Entry:
    probability = recipe.scores == "probability"
    if name == RECOMMEND:
        return Recommend(device, count=recipe.recommend, probability=probability)
    if (name, config.correction) == ("rank_corrected", "vector"):
        return RankWithVector(device, probability=probability)
    return _MODULES[name](device, probability=probability)


def gcn_graph(model: Ranker, config: ModelConfig) -> GraphSpec:
    """The cloud's entry point.

    Raises:
        UsageError: the model has no GCN.
    """
    if not isinstance(model, CoCorrRec):
        raise UsageError(f"{config.architecture} has no cloud half: a GCN is a part of cocorrrec alone")
    if isinstance(model.gcn, VectorCloud):
        ids = torch.ones(3, config.cloud_length, dtype=torch.int32)
        return GraphSpec(gcn_contract(config), AnswerVector(model, model.gcn).eval(), (ids,))
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
        ``table``, ``scn`` and ``item_side`` of the on-device model; ``gcn`` of the cloud's.
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
    stored_parts = [
        each for each in (device.item_mlp, device.user_side, device.item_table, device.bias_table) if each is not None
    ]
    item_side = sum(stored(each) for each in stored_parts)
    return {"table": table, "scn": stored(device) - table - item_side, "item_side": item_side}


def _filled(spec: TensorSpec, value: int) -> Tensor:
    return torch.full(tuple(map(int, spec.shape)), value, dtype=getattr(torch, spec.dtype))
