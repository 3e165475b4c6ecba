"""Training recipes: settings that a config does not give, as they rank best or as the released code has them."""

from pathlib import Path
from typing import Any

from cocorrrec_export.errors import UsageError, nearest
from cocorrrec_export.modeling.config import Architecture, ModelConfig
from cocorrrec_export.toml import read_toml
from cocorrrec_export.training.run import RunConfig

RECIPES = ("best", "paper")
Tables = dict[str, dict[str, Any]]

PAPER: Tables = {"model": {}, "training": {}}
"""The released implementation's: the defaults of the tables themselves."""

_BEST_TRAINING: dict[str, Any] = {
    "positions": "all",
    "batch_size": 1000,
    "learning_rate": 0.002,
    "weight_decay": 0.1,
    "average": 0.995,
    "epochs": 40,
    "patience": 5,
}
_HEAD = {"item_side": "dot", "readout": "residual"}
# A user state that is not dropped lets an item's row say more of what follows it: the clicks are dropped more.
_MODEL = _HEAD | {"dropout": 0.6, "user_dropout": False}
_TRAINING = {"weight_decay": 0.3, "monitor": "both:expected:ndcg@10"}
_CLOUD_MODEL = {"cloud_reader": "recall", "cloud_networks": 2}
_CLOUD = {"ahead": 20, "monitor": "expected:ndcg@10", "weight_decay": 0.1, "refit": True}
_CHANGES: dict[Architecture, Tables] = {
    "cocorrrec": {"model": _MODEL, "training": _TRAINING},
    # A candidate reads the clicks again: each of the sample costs as much as a history of the others.
    "din": {"model": {}, "training": {"positions": "last", "batch_size": 128, "sampled_items": 64, "epochs": 12}},
    "gru4rec": {"model": _MODEL, "training": _TRAINING | {"learning_rate": 0.005}},
    "sasrec": {"model": _HEAD | {"position_table": "history"}},  # the other rows are never read
    "bert4rec": {"model": {"attention": "causal"}},
    "mamba4rec": {"model": {}},
}
_ONE_MINI_BATCH = 25
"""Clicks up to which a history is one inner mini-batch: a ranking waits for each, one after the other."""
LAST_CLICK: dict[str, Any] = {"positions": "last", "batch_size": 256}
"""Where a click's state is read from later ones, one click per history can be predicted."""
_KERNEL: dict[str, Any] = LAST_CLICK | {"alone_weight": 1.0}
"""The paper's cloud reads the whole upload, so that one click per history can be predicted."""


def best(
    architecture: Architecture, correction: str | None = None, sequence_length: int = ModelConfig.sequence_length
) -> Tables:
    """The tables of the better recipe.

    Args:
        architecture: what is trained.
        correction: of a cocorrrec; None is the recipe's own.
        sequence_length: L.
    """
    changes = _CHANGES[architecture]
    model = {"objective": "sampled_softmax", "dropout": 0.5} | changes["model"]
    if architecture == "cocorrrec" and sequence_length <= _ONE_MINI_BATCH:
        model["mini_batch"] = max(ModelConfig.mini_batch, sequence_length)
    training = _BEST_TRAINING | changes.get("training", {})
    if architecture != "cocorrrec":
        return {"model": model, "training": training}
    if correction in (None, "vector"):
        return {"model": model | {"correction": "vector"} | _CLOUD_MODEL, "training": training, "cloud": _CLOUD}
    kernel = _KERNEL if correction == "kernel" else {}
    return {"model": model | {"correction": correction}, "training": training | kernel}


def best_of(architecture: str, correction: str) -> Tables:
    """:func:`best`, or the defaults of the tables for an architecture of an installed distribution."""
    known = next((name for name in _CHANGES if name == architecture), None)
    return PAPER if known is None else best(known, correction)


def read_settings(path: Path | None, overrides: dict[str, Any], recipe: str) -> RunConfig:
    """A config file, if any, replaced by ``overrides``, by dotted key, and where neither says anything, the recipe.

    Raises:
        UsageError: no such recipe, unknown tables or keys, or values out of range.
        CocorrrecError: the file is not TOML.
    """
    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe '{recipe}' ({nearest(recipe, RECIPES)})")
    if recipe == "paper":
        return RunConfig.read(path, overrides, defaults=PAPER)
    model = read_toml(path).get("model", {}) if path is not None else {}
    options = {key.removeprefix("model."): value for key, value in overrides.items() if key.startswith("model.")}
    said = (model if isinstance(model, dict) else {}) | options
    architecture = said.get("architecture", "cocorrrec")
    if architecture not in _CHANGES:
        return RunConfig.read(path, overrides)  # which says what is wrong with it
    correction = said.get("correction", "none" if said.get("gcn") is False else None)
    length = said.get("sequence_length")
    known = {"sequence_length": length} if isinstance(length, int) else {}  # else RunConfig says what is wrong with it
    return RunConfig.read(path, overrides, defaults=best(architecture, correction, **known))
