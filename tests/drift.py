"""How far an exported file is from the model in float64, over histories that give float32 room to drift."""

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cocorrrec_export.artifact.recipe import SCN_ENTRY_POINTS, choose_recipe
from cocorrrec_export.contract import new_stream
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.export.graphs import fit_recipe, scn_graphs
from cocorrrec_export.export.pipeline import GraphRuntime
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.joint import Answer, CoCorrRec
from cocorrrec_export.modeling.store import find_model, load_model, open_model
from cocorrrec_export.modeling.ttt import Correction
from cocorrrec_export.modeling.vector import VectorAnswer
from cocorrrec_export.runtime.base import Runtime
from cocorrrec_export.runtime.open import open_runtime
from cocorrrec_export.targets import find_target
from tests.models import random_model

VOCABULARY = 300
CANDIDATES = 32
HIDDEN = 64
KINDS = ("random", "half", "repeated", "then repeated", "one click", "three clicks")
EPSILON = 2.0**-24
"""What float32 rounds a number by, over the number."""
ROUNDINGS = 8
"""Of the weights, that are tried where a file is further off than the float32 model."""
STREAMS = ("random", "repeated")
"""Of the histories, those that ``step`` reads click by click."""
GRAPH = "graph"
"""In the place of a target: the export graph, run by torch."""
FORMS: dict[str, dict[str, Any]] = {
    "released": {"item_side": "mlp", "readout": "norm", "correction": "kernel"},
    "default": {"item_side": "dot", "readout": "residual", "correction": "vector"},
}
"""The released model, and what ``train`` makes by default."""
SHIPPED = {"released": "cocorrrec-paper-movielens", "default": "cocorrrec-movielens"}


def history(kind: str, length: int) -> Tensor:
    """``[1, L]``: clicks at random, fewer of them, one item again and again, or both, half of each."""
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(1, VOCABULARY, (1, length), generator=generator)
    clicks = {"half": length // 2, "one click": 1, "three clicks": 3}.get(kind, length)
    ids[:, clicks:] = 0
    start = {"repeated": 0, "then repeated": length // 2}.get(kind, length)
    ids[:, start:] = ids[:, :1]
    return ids


@dataclass(frozen=True)
class Case:
    """One file to export and run, or the export graph alone."""

    target: str
    weights: str
    """A key of :data:`MODELS`."""
    mini_batch: int
    length: int
    heads: int
    form: str = "released"
    """A key of :data:`FORMS`."""
    entry_points: tuple[str, ...] = SCN_ENTRY_POINTS

    @property
    def config(self) -> ModelConfig:
        """Of the model."""
        return ModelConfig(
            vocab_size=VOCABULARY,
            mini_batch=self.mini_batch,
            sequence_length=self.length,
            hidden_size=HIDDEN,
            num_heads=self.heads,
            cloud_length=self.length,
            **FORMS[self.form],
        )


def untrained(config: ModelConfig) -> CoCorrRec:
    """A model as training starts with it."""
    model = build_model(config, generator=torch.Generator().manual_seed(1)).eval()
    assert isinstance(model, CoCorrRec)
    return model


def trained(config: ModelConfig) -> CoCorrRec:
    """The model of this form that ships, with its first rows, read in mini-batches and heads of other sizes."""
    form = next(form for form, options in FORMS.items() if options["correction"] == config.correction)
    weights = load_model(open_model(find_model(SHIPPED[form]))).state_dict()
    model = untrained(config)
    own = model.state_dict()
    model.load_state_dict({name: _fitted(weights.get(name), like) for name, like in own.items()})
    return model


def _fitted(weight: Tensor | None, like: Tensor) -> Tensor:
    """The weight for other heads, or its first rows; where there is no such thing, what the model started with."""
    if weight is None or weight.shape == like.shape:
        return like if weight is None else weight
    if weight.dim() == 3 and weight.shape[1] == weight.shape[2]:  # W1, a block per head on the diagonal
        whole, size = torch.block_diag(*weight), like.shape[1]
        return torch.stack([whole[at : at + size, at : at + size] for at in range(0, len(whole), size)])
    if weight.numel() == like.numel():  # a number per feature
        return weight.reshape(like.shape)
    if weight.shape[1:] == like.shape[1:]:  # rows of a table, or of heads
        return weight.repeat(-(-len(like) // len(weight)), *(1 for _ in like.shape[1:]))[: len(like)]
    return like


MODELS = {"untrained": untrained, "random": random_model, "trained": trained}


def answer(config: ModelConfig) -> Answer:
    """Something that a cloud could send."""
    generator = torch.Generator().manual_seed(3)
    if config.correction == "vector":
        return VectorAnswer(torch.randn(1, config.hidden_size, generator=generator))
    h, size = config.num_heads, config.mini_batch
    return Correction(
        torch.randn(1, h, size, size, generator=generator),
        torch.randn(1, h, size, config.head_dim, generator=generator),
    )


@dataclass(frozen=True)
class Error:
    """One output of a file next to the model's."""

    entry_point: str
    history: str
    error: float
    """The largest, over the largest magnitude of the output, 1 at least."""
    allowed: float
    """1e-5; where float32 itself is further off, ten times its own error.

    That is the error of the float32 model. Where a file is further off, it is also that of the model in float64 whose
    weights are off by a rounding: with heads of two features, long histories are chaotic, and one rounding of float32
    may hit what another misses.
    """

    @property
    def share(self) -> float:
        """Of what is allowed; above 1 is too much."""
        return self.error / self.allowed if math.isfinite(self.error) else math.inf


def worst(case: Case, folder: Path) -> Error:
    """Of a case, what is furthest off, measured by what is allowed."""
    return max(errors(case, folder), key=lambda x: x.share)


def errors(case: Case, folder: Path) -> list[Error]:
    """Export to ``folder``, and run each entry point on every history."""
    config = case.config
    model = MODELS[case.weights](config)
    runtime = export(case, model, folder)
    with torch.no_grad():
        return list(_errors(model, config, runtime))


def export(case: Case, model: CoCorrRec, folder: Path) -> Runtime:
    """The file of a case, opened."""
    recipe = dataclasses.replace(
        choose_recipe("scn", "onnx" if case.target == GRAPH else case.target, precision="fp32"),
        candidates=CANDIDATES,
        entry_points=case.entry_points,
    )
    recipe = fit_recipe(recipe, case.config)
    graphs = scn_graphs(model, case.config, recipe)
    if case.target == GRAPH:
        return GraphRuntime(graphs)
    program = folder / find_target(case.target).programs["scn"].name
    find_exporter(case.target).export(graphs, recipe, program, metadata={})
    return open_runtime(case.target, program, [graph.contract for graph in graphs])


def _errors(model: CoCorrRec, config: ModelConfig, runtime: Runtime) -> Iterator[Error]:
    exact = copy.deepcopy(model).double()
    given = answer(config)
    candidates = torch.arange(1, CANDIDATES + 1)[None]
    listed = {"candidates": candidates.int().numpy()}
    corrections = {name: x.numpy() for name, x in given._asdict().items()}
    for kind in KINDS:
        ids = history(kind, config.sequence_length)
        inputs = {"ids": ids.int().numpy()}
        plain = model.user_state(ids, corrected=False)
        for name in runtime.entry_points:
            if name == "step":
                if kind in STREAMS:
                    yield _compared(name, kind, _stream(runtime, ids), exact, model, functools.partial(_users, ids=ids))
                continue
            asked = listed if name in ("rank", "rank_corrected", "score") else {}
            asked = asked | ({"user": plain.numpy()} if name == "score" else inputs)
            asked = asked | (corrections if name == "rank_corrected" else {})
            (actual,) = runtime.run(name, asked).values()
            expected = functools.partial(_expected, name=name, ids=ids, candidates=candidates, given=given, user=plain)
            yield _compared(name, kind, torch.from_numpy(actual), exact, model, expected)


def _expected(m: CoCorrRec, name: str, ids: Tensor, candidates: Tensor, given: Answer, user: Tensor) -> Tensor:
    """What the model answers as an entry point: ``H``, the user, or scores; ``user`` is what ``score`` is given."""
    dtype = m.item_embedding.weight.dtype
    if name == "encode":
        return m.scn.encode(ids)
    if name == "rank_corrected":
        state = m.fuse(ids, type(given)(*(x.to(dtype) for x in given)))
    else:
        state = user.to(dtype) if name == "score" else m.user_state(ids, corrected=False)
    scores: Tensor = state if name == "user" else m.match(state, m.item_vectors(candidates))
    return scores


def _users(m: CoCorrRec, ids: Tensor) -> Tensor:
    """The user ``[L, D]`` after each click of a stream."""
    state, users = m.start_stream(1), []
    for item in ids[0]:
        state, user = m.step(item[None], state)
        users.append(user[0])
    return torch.stack(users)


def _stream(runtime: Runtime, ids: Tensor) -> Tensor:
    """The same from a file."""
    state, users = new_stream(runtime.entry_points["step"]), []
    for item in ids[0]:
        outputs = runtime.run("step", {"item": item[None].int().numpy(), **state})
        users.append(outputs.pop("user")[0])
        state = {name.removesuffix("_next"): x for name, x in outputs.items()}
    return torch.from_numpy(np.stack(users))


def _compared(
    name: str, kind: str, actual: Tensor, exact: CoCorrRec, model: CoCorrRec, expected: Callable[[CoCorrRec], Tensor]
) -> Error:
    true = expected(exact)
    scale = max(1.0, true.abs().max().item())

    def off(found: Tensor) -> float:
        return (found - true).abs().max().item() / scale

    error, allowed = off(actual), max(1e-5, 10 * off(expected(model)))
    if error > allowed:
        allowed = max(allowed, *(10 * off(expected(rounded(exact, seed))) for seed in range(ROUNDINGS)))
    return Error(name, kind, error, allowed)


def rounded(exact: CoCorrRec, seed: int) -> CoCorrRec:
    """The model in float64, each weight off by at most what float32 rounds it by."""
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(exact)
    for weight in model.parameters():
        weight.mul_(1.0 + EPSILON * (2.0 * torch.rand(weight.shape, generator=generator, dtype=torch.float64) - 1.0))
    return model
