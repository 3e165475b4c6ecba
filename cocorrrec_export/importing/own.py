"""Weights by our own names: with the config in the file's header where we wrote it, else of a model as released."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.store import with_todays_names

PLAIN = "plain"
CONFIG_ENTRY = "cocorrrec_config"
"""Entry of a safetensors header: the config as JSON."""


def config_entry(config: ModelConfig) -> dict[str, str]:
    """The header's entry of a model."""
    return {CONFIG_ENTRY: json.dumps(dataclasses.asdict(config), sort_keys=True)}


def own_config(path: Path, tensors: dict[str, Tensor], options: dict[str, Any]) -> ModelConfig | None:
    """The config of weights by our own names, or None where the names are not ours.

    Raises:
        UsageError: options for weights that carry their config.
        CocorrrecError: the header's config is damaged, or is of other tensors.
    """
    config = _header(path)
    if config is not None:
        if options:
            given = ", ".join("--" + key.replace("_", "-") for key in options)
            raise UsageError(f"{path} says its config itself: leave {given} out")
        if not _fits(tensors, config):
            raise CocorrrecError(f"{path}: its tensors are not those of the config in its header")
        return config
    table = tensors.get("scn.item_embedding.weight", tensors.get("item_embedding.weight"))
    if table is None or table.ndim != 2:
        return None
    for values in _as_released(tensors):
        try:
            config = ModelConfig(vocab_size=table.shape[0], hidden_size=table.shape[1], **(values | options))
        except UsageError:
            continue
        if _fits(tensors, config):
            return config
    return None


def _header(path: Path) -> ModelConfig | None:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(CONFIG_ENTRY)
    except (SafetensorError, OSError):
        return None
    if text is None:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise CocorrrecError(f"{path}: its header's entry {CONFIG_ENTRY} is not a JSON object")
    return ModelConfig.from_dict(values, where=f"{path}, {CONFIG_ENTRY}")


def _as_released(tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = [{"architecture": name} for name in ("din", "gru4rec", "sasrec", "mamba4rec")]
    if "position_embedding.weight" in tensors:
        values.append({"architecture": "bert4rec", "sequence_length": len(tensors["position_embedding.weight"])})
    if {"scn.ttt.W1", "scn.ttt.token_offset"} <= tensors.keys():
        heads, mini_batch = len(tensors["scn.ttt.W1"]), len(tensors["scn.ttt.token_offset"])
        sizes = {"num_heads": heads, "mini_batch": mini_batch, "sequence_length": mini_batch}
        values.append(sizes | {"gcn": any(name.startswith("gcn.") for name in tensors)})
    return values


def _fits(tensors: dict[str, Tensor], config: ModelConfig) -> bool:
    model = build_model(config)
    ours, expected = with_todays_names(tensors, model), model.state_dict()
    return ours.keys() == expected.keys() and all(ours[name].shape == x.shape for name, x in expected.items())
