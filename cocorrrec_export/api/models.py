"""Load, train and evaluate a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocorrrec_export.extras import require
from cocorrrec_export.modeling.store import ModelFolder, find_model, open_model

if TYPE_CHECKING:
    from cocorrrec_export.modeling.ranker import Ranker
    from cocorrrec_export.training.evaluation import Evaluation
    from cocorrrec_export.training.loop import Listener

Model = str | Path | ModelFolder | None
"""A ready model's name, a model's folder, or what ``train`` returned; None is the default ready model."""


def name_of(model: Model) -> str | None:
    """A model as the commands take it after ``--model``."""
    if isinstance(model, ModelFolder):
        return str(model.path)
    return None if model is None else str(model)


def load_model(model: Model = None, *, architecture: str | None = None) -> "Ranker":
    """Load a model as a torch module, in evaluation mode, on the CPU.

    Called with ``ids [U, L]`` int64, the last clicks, oldest first, right-padded with 0, and ``candidates [U, C]``
    int64, it gives the scores ``[U, C]`` float32; larger is better.

    Args:
        model: a ready model's name, or a folder; None is the default ready model.
        architecture: what it must be, such as ``sasrec``; alone it picks the ready model of that architecture.

    Returns:
        The module, with weights whose digest was checked.

    Raises:
        UsageError: there is no such model, or it is of another architecture.
        CocorrrecError: torch is not installed, or the folder is damaged.
    """
    require("train")
    from cocorrrec_export.modeling.store import load_model as load

    return load(open_model(find_model(name_of(model), architecture)))


def train(
    data: str | Path,
    out: str | Path,
    *,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    source: Model = None,
    name: str | None = None,
    titles: str | Path | None = None,
    weights_only: bool = False,
    device: str = "auto",
    resume: bool = False,
    listener: "Listener | None" = None,
) -> ModelFolder:
    """Train a model on a file of interactions, and write its folder.

    Each user's last item is held out for testing, and the one before for choosing the epoch.

    Args:
        data: interactions: CSV, Parquet, JSON, RecBole ``.inter`` and others, with one click per row.
        out: folder of the model; new or empty, unless ``resume``.
        config: TOML file with the tables ``model``, ``training``, ``cloud`` and ``data``.
        settings: single settings by dotted key, such as ``{"training.epochs": 3, "data.columns.user": "userId"}``;
            they replace those of ``config``.
        recipe: what neither of them gives: ``best``, or ``paper`` as the authors released it; None is ``best``, or with
            ``source`` what that was trained with.
        source: a model to continue on newer data: items that it knows, by their ids, keep their rows, new ones start at
            the mean of all, and every other weight continues from where it is.
        name: of the model; None takes the name of ``out``.
        titles: CSV file with the item column and ``title``, for readable rankings.
        weights_only: leave the held-out users and the item ids out of the folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        resume: continue from the checkpoint in ``out``, on the CPU bit for bit as if it had not been interrupted.
        listener: receives progress, loss and validation metrics of every epoch.

    Returns:
        The folder; ``.metrics`` has test metrics from 0 to 1, without the cloud (``alone``) and with it.

    Raises:
        UsageError: a setting is unknown or out of range or contradicts ``source``, or ``out`` holds files already.
        CocorrrecError: torch or polars is not installed, the data cannot be used, or training diverged.
    """
    require("train")
    from cocorrrec_export.training import run
    from cocorrrec_export.training.continuation import read_run_settings

    folder, old = Path(out), None if source is None else open_model(find_model(name_of(source)))
    path = Path(config) if config is not None else None
    return run.train(
        Path(data),
        read_run_settings(old, Path(data), path, dict(settings or {}), recipe),
        folder,
        name=name or folder.resolve().name,
        device=device,
        titles=Path(titles) if titles is not None else None,
        weights_only=weights_only,
        resume=resume,
        source=old,
        listener=listener,
    )


def evaluate(
    model: Model = None,
    *,
    data: str | Path | None = None,
    architecture: str | None = None,
    controls: bool = False,
    late_rates: Sequence[float] = (),
    draws: int = 20,
    seed: int = 0,
) -> "Evaluation":
    """Rank a model's held-out users: the right item among sampled ones, and in the whole catalog.

    Args:
        model: a ready model's name, or a folder; None is the default ready model.
        data: interactions; None takes the held-out users that the model's folder has.
        architecture: what the model must be; None takes any.
        controls: also rank with another user's answer of the cloud, with the mean one, and others.
        late_rates: shares of late answers to measure, each from 0 to 1.
        draws: with ``late_rates``: how often it is drawn who is late.
        seed: of these draws.

    Returns:
        Metrics from 0 to 1: ``.metrics["alone"]["ndcg@10"]``, ``.full`` in the whole catalog; ``.as_dict()`` for JSON.

    Raises:
        UsageError: there is no such model, no held-out users, or controls of a model without a cloud model.
        CocorrrecError: torch is not installed, or model and data are damaged or do not belong together.
    """
    require("train")
    from cocorrrec_export.training.evaluation import evaluate as measure

    return measure(
        open_model(find_model(name_of(model), architecture)),
        Path(data) if data is not None else None,
        controls=controls,
        late_rates=late_rates,
        draws=draws,
        seed=seed,
    )
