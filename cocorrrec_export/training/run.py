"""One training run, from an interaction file to a model folder."""

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec

import torch

from cocorrrec_export.data.catalogue import encode_catalogue
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.data.held_out import evaluation_set
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.sources import DataSource, load_source, resolve_source
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.data.statistics import statistics
from cocorrrec_export.errors import CocorrrecError, UsageError, nearest
from cocorrrec_export.files import is_temporary, own_folder, publish_file
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.store import ModelFolder, save_model
from cocorrrec_export.toml import override, read_toml
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.loop import Listener, TrainingData, fit
from cocorrrec_export.training.plot import plot_training
from cocorrrec_export.training.scoring import evaluate_model

CHECKPOINT = "checkpoint.safetensors"
SETTINGS = "run.json"
_TABLES = ("model", "training", "data")
Options = ParamSpec("Options")


@dataclass(frozen=True)
class RunConfig:
    """A config file: the tables ``[model]``, ``[training]`` and ``[data]``."""

    model: dict[str, Any] = field(default_factory=dict)
    """Keys of :class:`ModelConfig`, but ``vocab_size``, which the data decide."""
    training: TrainConfig = field(default_factory=TrainConfig)
    data: DataSource = field(default_factory=DataSource)

    @classmethod
    def read(
        cls,
        path: Path | None,
        overrides: dict[str, Any] | None = None,
        *,
        defaults: dict[str, dict[str, Any]] | None = None,
    ) -> "RunConfig":
        """Read ``path``, if any, and let ``overrides``, by dotted key, replace what it says.

        ``defaults``, tables as in the file, are for what neither says.

        Raises:
            UsageError: unknown tables or keys, or values out of range.
            CocorrrecError: the file is no TOML.
        """
        tables = read_toml(path) if path is not None else {}
        where = str(path) if path is not None else "options"
        return cls.from_tables(tables, overrides or {}, where=where, defaults=defaults)

    @classmethod
    def from_tables(
        cls,
        tables: dict[str, Any],
        overrides: dict[str, Any],
        *,
        where: str,
        defaults: dict[str, dict[str, Any]] | None = None,
    ) -> "RunConfig":
        """The same of tables that were read already; ``where`` names them in errors.

        Raises:
            UsageError: unknown tables or keys, or values out of range.
        """
        unknown = [f"unknown table [{name}] ({nearest(name, _TABLES)})" for name in tables if name not in _TABLES]
        if unknown:
            raise UsageError(f"{where}: " + "; ".join(unknown))
        no_tables = [f"[{name}] must be a table" for name, table in tables.items() if not isinstance(table, dict)]
        if no_tables:
            raise UsageError(f"{where}: " + "; ".join(no_tables))
        merged: dict[str, dict[str, Any]] = {
            name: (defaults or {}).get(name, {}) | tables.get(name, {}) for name in _TABLES
        }
        override(merged, overrides, where=where)
        if "vocab_size" in merged["model"]:
            raise UsageError(f"{where}, [model]: vocab_size is decided by the data; remove it")
        ModelConfig.from_dict(merged["model"] | {"vocab_size": 2}, where=f"{where}, [model]")
        return cls(
            model=merged["model"],
            training=TrainConfig.from_dict(merged["training"], where=f"{where}, [training]"),
            data=DataSource.from_dict(merged["data"], where=f"{where}, [data]"),
        )

    def as_tables(self) -> dict[str, Any]:
        """The same as TOML tables."""
        return {
            "model": self.model,
            "training": dataclasses.asdict(self.training),
            "data": self.data.as_table(),
        }


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA, else Apple's GPU, else the CPU.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device '{name}' cannot be used here ({reason}); use auto, cpu, cuda or mps") from None
    return device


def _alone(train: Callable[Options, ModelFolder]) -> Callable[Options, ModelFolder]:
    """``train`` as the only process that has the folder ``out``."""

    @functools.wraps(train)
    def run(*args: Options.args, **kwargs: Options.kwargs) -> ModelFolder:
        with own_folder(inspect.signature(train).bind(*args, **kwargs).arguments["out"]):
            return train(*args, **kwargs)

    return run


@_alone
def train(
    data_file: Path,
    config: RunConfig,
    out: Path,
    *,
    name: str,
    device: str = "auto",
    titles: Path | None = None,
    weights_only: bool = False,
    resume: bool = False,
    listener: Listener | None = None,
) -> ModelFolder:
    """Train a model and write its folder.

    Args:
        data_file: interactions.
        config: settings.
        out: the model's folder; while training it holds the checkpoint.
        name: the model's name.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        titles: CSV file with the columns of the item ids and ``title``, for readable rankings.
        weights_only: leave out the held-out slice and the item ids, where the data's terms forbid passing them on.
        resume: go on from the checkpoint in ``out``.
        listener: hears of progress.

    Raises:
        UsageError: ``out`` holds something already, or a setting is wrong.
        CocorrrecError: another process trains into ``out``, the data cannot be used, or training diverged.
    """
    checkpoint = out / CHECKPOINT
    _check_folder(out, checkpoint, resume=resume)
    torch_device = resolve_device(device)
    config = dataclasses.replace(config, data=resolve_source(data_file, config.data))
    prepared = _prepare(data_file, config)
    if listener is not None:
        listener.on_data(statistics(prepared.interactions), len(prepared.training.train))
    # Before the training, so that a titles file with a fault does not come to light after it.
    item_ids, columns = prepared.interactions.item_ids, config.data.columns
    catalogue = None if weights_only else encode_catalogue(item_ids, titles=titles, columns=columns)
    out.mkdir(parents=True, exist_ok=True)
    _remember_settings(out, config, prepared.interactions, resume=resume)
    model = build_model(prepared.model_config, generator=torch.Generator().manual_seed(config.training.seed))
    state = fit(
        model.to(torch_device),
        prepared.training,
        config.training,
        objective=prepared.model_config.objective,
        checkpoint=checkpoint,
        resume=resume,
        listener=listener,
    )
    _write_records(out, state.records)
    with publish_file(out / "training.png") as staging:
        plot_training(state.records, state.best_epoch, staging)
    if catalogue is not None:
        prepared.test.save(out / "evaluation.safetensors")
        with publish_file(out / "items.csv.gz") as staging:
            staging.write_bytes(catalogue)
    folder = save_model(
        out,
        model.cpu(),
        prepared.model_config,
        name=name,
        data=_provenance(config, prepared),
        training=dataclasses.asdict(config.training),
        metrics={"validation": state.records[state.best_epoch - 1]} | evaluate_model(model, prepared.test),
    )
    checkpoint.unlink()
    (out / SETTINGS).unlink()
    return folder


@dataclass(frozen=True)
class _Prepared:
    """What a run reads, made from its data file."""

    interactions: Interactions
    model_config: ModelConfig
    training: TrainingData
    test: EvaluationSet


def _prepare(data_file: Path, config: RunConfig) -> _Prepared:
    interactions = load_source(data_file, config.data)
    model_config = ModelConfig.from_dict(config.model | {"vocab_size": interactions.vocab_size}, where="[model]")
    split = leave_last_out(interactions, sequence_length=model_config.sequence_length)
    sampler = NegativeSampler(interactions)
    validation, test = (
        evaluation_set(
            part, sampler, negatives=config.training.evaluation_negatives, seed=config.training.evaluation_seed
        )
        for part in (split.validation, split.test)
    )
    return _Prepared(interactions, model_config, TrainingData(split.train, sampler, validation), test)


def _provenance(config: RunConfig, prepared: _Prepared) -> dict[str, Any]:
    """The ``[data]`` table of ``model.toml``: enough to make the held-out slice again from the same file."""
    return config.data.as_table() | {
        "vocabulary_sha256": prepared.interactions.vocabulary_sha256,
        "negatives": config.training.evaluation_negatives,
        "evaluation_seed": config.training.evaluation_seed,
        "statistics": dataclasses.asdict(statistics(prepared.interactions)),
        "training_examples": len(prepared.training.train),
    }


def _check_folder(out: Path, checkpoint: Path, *, resume: bool) -> None:
    if resume and not checkpoint.is_file():
        raise UsageError(f"{out} holds no checkpoint to resume from; start without --resume")
    # A run that was stopped before its first checkpoint left its settings alone: nothing that would be lost.
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    held = {name for name in names if name != SETTINGS and not is_temporary(name)}
    if held and not resume:
        unfinished = CHECKPOINT in held
        what = "an unfinished run: go on with --resume, or" if unfinished else "files already:"
        raise UsageError(f"{out} holds {what} give another --out")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder")


def _remember_settings(out: Path, config: RunConfig, interactions: Interactions, *, resume: bool) -> None:
    """Keep what the run was started with, and refuse to resume with anything else."""
    tables = config.as_tables()
    digest = hashlib.sha256(interactions.items.tobytes() + interactions.offsets.tobytes()).hexdigest()
    now = json.loads(json.dumps(tables | {"interactions_sha256": digest, "vocabulary": interactions.vocabulary_sha256}))
    path = out / SETTINGS
    if not resume:
        with publish_file(path) as staging:
            staging.write_text(json.dumps(now, indent=2))
        return
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CocorrrecError(f"{path}: the settings of the run to resume cannot be read: {error}") from None
    changed = sorted(_changes(before, now))
    if changed:
        raise UsageError(f"{out}: the run to resume was started with other settings or data: " + "; ".join(changed))


def _changes(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in before.keys() | now.keys():
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _changes(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {old!r}, is {new!r}")
    return found


def _write_records(out: Path, records: list[dict[str, float]]) -> None:
    with publish_file(out / "metrics.jsonl") as staging:
        staging.write_text("".join(json.dumps(record) + "\n" for record in records))
