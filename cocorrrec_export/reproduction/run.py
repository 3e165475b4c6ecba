"""One run: train a model, measure it on the held-out users, keep each user's places and drop the weights."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cocorrrec_export.data.held_out import held_out_set
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.files import publish_file
from cocorrrec_export.metrics import FULL_METRICS, METRICS, Places
from cocorrrec_export.modeling.store import count_parameters, load_model, open_model, read_tensors, write_tensors
from cocorrrec_export.reproduction.plan import Run
from cocorrrec_export.training import run as training
from cocorrrec_export.training.loop import Listener, monitored
from cocorrrec_export.training.scoring import Measured, measure, ways

RESULT = "result.json"
PLACES = "places.safetensors"
MODEL = "model"
_BEFORE: dict[str, Any] = {
    "training": {"table_optimizer": "adamw"},
    "data": {"reading": {"ties": "file"}},
}
"""Settings that earlier versions did not have and whose default is not what they did: what they did. A model's are not
here: its defaults stay those of the released implementation."""


@dataclass(frozen=True)
class Result:
    """What a run found."""

    run: Run
    facts: dict[str, Any]
    """``settings``, ``parameters``, ``best_epoch``, ``epochs`` run, ``validation`` metrics, ``negatives``, ``seconds``,
    ``references``, ``data``.
    """
    places: dict[str, NDArray[np.int64]]
    """``<way>.above`` and ``<way>.tied``, each ``[users]``; the ways are ``corrected`` and ``alone``. Of the recipe
    ``best`` also ``<way>.full.above`` and so on, and ``<way>.full.negatives``: the same in the whole catalog."""

    @property
    def validation(self) -> float:
        """What the learning rate is chosen by."""
        return float(monitored(self.facts["validation"], self.facts["settings"]["training"]["monitor"]))

    def has_cloud(self) -> bool:
        """Whether the model has a cloud half, whose answer is one of the two ways."""
        return "corrected.above" in self.places

    def per_user(self, way: str | None = None, *, full: bool = False) -> dict[str, NDArray[np.float64]]:
        """Each metric ``[users]``, without those that every order would earn, with so few negatives.

        Args:
            way: ``corrected`` or ``alone``; by default with the cloud's correction where the model has a GCN.
            full: in the whole catalog, not among sampled negatives; with the mean reciprocal rank.
        """
        prefix = (way or ("corrected" if self.has_cloud() else "alone")) + (".full" if full else "")
        negatives = self.places[f"{prefix}.negatives"] if full else self.facts["negatives"]
        found = Places(self.places[f"{prefix}.above"], self.places[f"{prefix}.tied"], negatives)
        values = found.per_user()
        return {name: values[name] for name in found.meaningful(FULL_METRICS if full else METRICS)}


def read_result(run: Run, folder: Path, settings: dict[str, Any], data: str) -> Result | None:
    """The result of a run that was done before; None where there is none.

    Args:
        run: which.
        folder: of the run.
        settings: that it must have been trained with.
        data: digest of the file that it must have been trained on.

    Raises:
        UsageError: it was trained with other settings or data.
        CocorrrecError: its files are damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        same = as_trained(facts["settings"], path) == settings and facts["data"] == data
    except (ValueError, KeyError, TypeError) as error:
        raise CocorrrecError(f"{path}: damaged ({error}): remove the folder, and it is run again") from None
    if not same:
        raise UsageError(f"{folder} is of other settings or data: give another --out")
    tensors = read_tensors(folder / PLACES)
    return Result(run, facts, {name: tensor.numpy().astype(np.int64) for name, tensor in tensors.items()})


def as_trained(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """Settings of a result as this version writes them: a key that an earlier one did not have is at what that one did.

    Args:
        settings: of the result.
        path: of its file, for errors.

    Raises:
        UsageError: unknown tables or keys, or values out of range.
    """
    return settings_of(training.RunConfig.from_tables(_filled(settings, _BEFORE), {}, where=f"{path}, settings"))


def _filled(table: dict[str, Any], missing: dict[str, Any]) -> dict[str, Any]:
    """``table`` with what it does not say, in the tables within it too."""
    return table | {
        key: _filled(table.get(key, {}), value) if isinstance(value, dict) else table.get(key, value)
        for key, value in missing.items()
    }


def perform(
    run: Run,
    folder: Path,
    config: training.RunConfig,
    data_file: Path,
    *,
    data: str,
    keep_model: bool,
    listener: Listener,
) -> None:
    """Train and measure, going on where an earlier try was stopped; the result's files are written at the end.

    Args:
        run: which.
        folder: of the run.
        config: settings, the run's own included.
        data_file: interactions.
        data: digest of that file.
        keep_model: leave the trained model in ``folder``.
        listener: receives progress.

    Raises:
        CocorrrecError: as in training.
    """
    started = time.monotonic()
    out = folder / MODEL
    if not (out / "model.toml").is_file():
        checkpoint = (out / training.CHECKPOINT).is_file()
        if out.exists() and not checkpoint:
            shutil.rmtree(out)  # stopped in its first minute, or while it wrote its last files
        training.train(
            data_file,
            config,
            out,
            name=run.name,
            device="cpu",
            weights_only=True,
            resume=checkpoint,
            listener=listener,
        )
    model_folder = open_model(out)
    held_out = held_out_set(model_folder, data_file)
    if held_out.compared == "other":
        raise CocorrrecError(f"{data_file}: changed while {run.name} was trained: give it again as it was")
    model = load_model(model_folder)
    tensors: dict[str, torch.Tensor] = {}
    for way, corrected in ways(model).items():
        measured = measure(model, held_out, corrected=corrected, full=run.recipe == "best")
        tensors |= _tensors(way, measured)
    write_tensors(tensors, folder / PLACES)
    log = (out / "metrics.jsonl").read_text(encoding="utf-8")
    with publish_file(folder / "metrics.jsonl") as staging:
        staging.write_text(log, encoding="utf-8")
    facts = {
        "settings": settings_of(config),
        "data": data,
        "statistics": model_folder.data["statistics"],
        "training_examples": model_folder.data["training_examples"],
        "parameters": count_parameters(model_folder),
        "epochs": len(log.splitlines()),
        "best_epoch": int(model_folder.metrics["validation"]["epoch"]),
        "validation": model_folder.metrics["validation"],
        "test": {way: model_folder.metrics[way] for way in ("corrected", "alone") if way in model_folder.metrics},
        "references": model_folder.metrics["references"],
        "negatives": held_out.candidates.shape[1] - 1,
        "seconds": round(time.monotonic() - started, 1),
    }
    with publish_file(folder / RESULT) as staging:
        staging.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    if not keep_model:
        shutil.rmtree(out)


def _tensors(way: str, measured: Measured) -> dict[str, torch.Tensor]:
    """The places of a way, as :attr:`Result.places` names them, in the smallest type that holds them."""
    found = {f"{way}.above": measured.sampled.above, f"{way}.tied": measured.sampled.tied}
    if (full := measured.full) is not None:
        whole = {"above": full.above, "tied": full.tied, "negatives": np.asarray(full.negatives)}
        found |= {f"{way}.full.{name}": values for name, values in whole.items()}
    return {
        name: torch.from_numpy(values.astype(np.int16 if values.max() < 1 << 15 else np.int32))
        for name, values in found.items()
    }


def settings_of(config: training.RunConfig) -> dict[str, Any]:
    """The settings as they are read back from JSON."""
    tables: dict[str, Any] = json.loads(json.dumps(config.as_tables()))
    return tables
