"""Settings of a run that continues a model: what the model was made with, but for what is said."""

import dataclasses
from pathlib import Path
from typing import Any

from cocorrrec_export.data.held_out import source_of
from cocorrrec_export.data.prepared import is_cut
from cocorrrec_export.errors import UsageError, nearest
from cocorrrec_export.modeling.config import TRANSFORMERS, ModelConfig
from cocorrrec_export.modeling.store import ModelFolder
from cocorrrec_export.toml import read_toml
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.recipes import LAST_CLICK, PAPER, RECIPES, best_of, read_settings
from cocorrrec_export.training.run import RunConfig

_FREE = ("dropout", "user_dropout", "cloud_dropout", "objective", "init_std")
"""Keys of a config that decide how a model is trained, not what its weights compute."""


def read_run_settings(
    source: ModelFolder | None, data_file: Path, path: Path | None, overrides: dict[str, Any], recipe: str | None
) -> RunConfig:
    """Settings of a run that continues ``source``, or of a new one, whose recipe is ``best`` unless another is named.

    Raises:
        UsageError: as :func:`read_continued_settings`.
        CocorrrecError: as there.
    """
    if source is None:
        return read_settings(path, overrides, recipe or "best")
    return read_continued_settings(source, data_file, path, overrides, recipe)


def read_continued_settings(
    folder: ModelFolder, data_file: Path, path: Path | None, overrides: dict[str, Any], recipe: str | None
) -> RunConfig:
    """Settings of a run that continues ``folder``.

    The architecture is the model's. How it is trained, and how files are read, is what a config file or ``overrides``
    say, then the recipe if one is asked for, then as the model was made; an imported model takes the recipe ``best``.

    Args:
        folder: the model.
        data_file: the newer interactions; a prepared data set brings its own filters.
        path: a config file, if any.
        overrides: by dotted key.
        recipe: of the training, or None.

    Raises:
        UsageError: an option of the architecture contradicts the model; or as :meth:`RunConfig.read`.
        CocorrrecError: the file is not TOML.
    """
    if recipe is not None and recipe not in RECIPES:
        raise UsageError(f"unknown recipe '{recipe}' ({nearest(recipe, RECIPES)})")
    tables = read_toml(path) if path is not None else {}
    model = tables.get("model", {})
    said = dict(model) if isinstance(model, dict) else {}
    said |= {key.removeprefix("model."): value for key, value in overrides.items() if key.startswith("model.")}
    _check_said(folder, said)
    defaults = _training_of(folder, recipe)
    defaults["model"] = _model_of(folder.config) | defaults["model"]
    if folder.data and not is_cut(data_file):
        defaults["data"] = source_of(folder).as_table()
    return RunConfig.from_tables(tables, overrides, where=str(path) if path else "options", defaults=defaults)


def _check_said(folder: ModelFolder, said: dict[str, Any]) -> None:
    fixed = _model_of(folder.config)
    wrong = [
        f"{key} is {fixed[key]!r} there, {value!r} was asked for"
        for key, value in said.items()
        if key in fixed and key not in _FREE and value != fixed[key]
    ]
    if wrong:
        raise UsageError(
            f"model {folder.name} cannot be continued with another architecture: {'; '.join(wrong)}; leave the options "
            "out, or train without --from"
        )


def _model_of(config: ModelConfig) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(config).items() if key != "vocab_size"}


def _training_of(folder: ModelFolder, recipe: str | None) -> dict[str, dict[str, Any]]:
    """The tables of the training: the model's own, or a recipe's for its architecture."""
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    own = {key: value for key, value in folder.training.items() if key in known}
    if own and recipe is None:
        return {"model": {}, "training": own, "cloud": folder.training.get("cloud", {})}
    if recipe == "paper":
        return {"model": {}, "training": PAPER["training"], "cloud": {}}
    config = folder.config
    tables = best_of(config.architecture, config.correction)
    training = tables["training"]
    if config.architecture in TRANSFORMERS and config.attention == "both":
        training = training | LAST_CLICK
    model = {key: value for key, value in tables["model"].items() if key in _FREE}
    return {"model": model, "training": training, "cloud": tables.get("cloud", {})}
