"""One training run, from an interaction file to a model folder."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec

import torch

from cocorrrec_export.data.catalogue import encode_catalogue, has_titles
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.held_out import TEST, VALIDATION, evaluation_set
from cocorrrec_export.data.interactions import MIN_USER_INTERACTIONS, Interactions
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.sources import DataSource, read_source
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.data.statistics import alarms, quality, statistics
from cocorrrec_export.errors import CocorrrecError, UsageError, nearest
from cocorrrec_export.files import is_temporary, own_folder, publish_file
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.store import ModelFolder, save_model
from cocorrrec_export.toml import override, read_toml
from cocorrrec_export.training.checkpoint import RunState, of_refit
from cocorrrec_export.training.cloud import train_cloud
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.loop import NEWEST, Listener, TrainingData, fit
from cocorrrec_export.training.plot import plot_training
from cocorrrec_export.training.references import measure_references
from cocorrrec_export.training.scoring import (
    both_protocols,
    evaluate_controls,
    full_metrics,
    measure_ways,
    sampled_metrics,
)
from cocorrrec_export.training.start import Start

CHECKPOINT = "checkpoint.safetensors"
SETTINGS = "run.json"
CLOUD_CHECKPOINT = "checkpoint-cloud-{}.safetensors"
_TABLES = ("model", "training", "cloud", "data")
_DECIDED = ("seed", "positions", "alone_weight", "evaluation_users", "evaluation_negatives", "evaluation_seed")
"""Settings of the cloud's training that follow from the phone's."""
Options = ParamSpec("Options")


@dataclass(frozen=True)
class RunConfig:
    """A config file: the tables ``[model]``, ``[training]``, ``[cloud]`` and ``[data]``."""

    model: dict[str, Any] = field(default_factory=dict)
    """Keys of :class:`ModelConfig`, but ``vocab_size``, which the data decide."""
    training: TrainConfig = field(default_factory=TrainConfig)
    cloud: dict[str, Any] = field(default_factory=dict)
    """Keys of :class:`TrainConfig` that the cloud model of ``correction = "vector"`` is trained with instead."""
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
            CocorrrecError: the file is not TOML.
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
        decided = [key for key in _DECIDED if key in merged["cloud"]]
        if decided:
            raise UsageError(f"{where}, [cloud]: {', '.join(decided)} follow from [training]; remove them")
        TrainConfig.from_dict(merged["cloud"], where=f"{where}, [cloud]")
        training = TrainConfig.from_dict(merged["training"], where=f"{where}, [training]")
        if training.ahead > 1 and training.positions != "all":
            raise UsageError(
                f"{where}, [training]: ahead {training.ahead} needs positions 'all', they are '{training.positions}'"
            )
        return cls(
            model=merged["model"],
            training=training,
            cloud=merged["cloud"],
            data=DataSource.from_dict(merged["data"], where=f"{where}, [data]"),
        )

    def as_tables(self) -> dict[str, Any]:
        """The same as TOML tables."""
        return {
            "model": self.model,
            "training": dataclasses.asdict(self.training),
            "cloud": self.cloud,
            "data": self.data.as_table(),
        }

    def cloud_training(self) -> TrainConfig:
        """Settings of the cloud's training: the phone's, but for what ``[cloud]`` says."""
        return dataclasses.replace(self.training, **{"alone_weight": 0.0} | self.cloud)


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
        if device.type == "meta":
            raise RuntimeError("it holds no values")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
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
    source: ModelFolder | None = None,
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
        resume: continue from the checkpoint in ``out``.
        source: the model to continue: known items keep their rows, and everything else its weights.
        listener: receives progress.

    Raises:
        UsageError: ``out`` holds something already, or a setting is wrong.
        CocorrrecError: another process trains into ``out``, the data cannot be used, or training diverged.
    """
    checkpoint = out / CHECKPOINT
    listener = listener or Listener()
    _check_folder(out, checkpoint, resume=resume)
    torch_device = resolve_device(device)
    listener.on_work(f"reading {data_file.name}")
    interactions, read_with = read_source(data_file, config.data, progress=listener.on_read)
    config = dataclasses.replace(config, data=read_with)
    listener.on_work(f"holding out clicks of {interactions.num_users:,} users")
    prepared = _prepare(data_file, interactions, config)
    listener.on_data(statistics(prepared.interactions), len(prepared.training.train))
    start = None if source is None else Start.of(source, prepared.interactions)
    continued = [] if start is None else [start.describe()]
    drawn = _describe_drawn(prepared, config)
    for note in (*prepared.interactions.notes, *alarms(quality(prepared.interactions)), *continued, *drawn):
        listener.on_note(note)
    # Before the training, so that a titles file with a fault does not come to light after it.
    item_ids, columns = prepared.interactions.item_ids, config.data.columns
    found: list[str] = []
    if titles is None and source is not None and has_titles(source):
        titles, columns = source.items_path, Columns()
    catalogue = None if weights_only else encode_catalogue(item_ids, titles=titles, columns=columns, notes=found)
    for note in found:
        listener.on_note(note)
    out.mkdir(parents=True, exist_ok=True)
    _remember_settings(out, config, prepared.interactions, source, resume=resume)
    trained = _fit(prepared, config, out, torch_device, start, resume=resume, listener=listener)
    _write_records(out, trained.records)
    with publish_file(out / "training.png") as staging:
        plot_training(trained.phone.records, trained.phone.best_epoch, staging)
    if catalogue is not None:
        prepared.test.save(out / "evaluation.safetensors")
        with publish_file(out / "items.csv.gz") as staging:
            staging.write_bytes(catalogue)
    listener.on_work(f"measuring on {len(prepared.test):,} held-out users")
    before = {} if start is None else {"before": _metrics_before(start, prepared, config)}
    folder = save_model(
        out,
        trained.model.cpu(),
        prepared.model_config,
        name=name,
        data=_provenance(config, prepared),
        training=_settings(config, prepared.model_config, start),
        metrics={"validation": trained.phone.records[trained.phone.best_epoch - 1]}
        | metrics_of(trained.model, prepared.test)
        | before,
    )
    for path in out.glob("checkpoint*.safetensors"):
        path.unlink()
    (out / SETTINGS).unlink()
    return folder


def take_part(
    data_file: Path,
    config: RunConfig,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    source: ModelFolder | None = None,
) -> None:
    """Train in a process that is not the first of its run: nothing is written.

    Args:
        data_file: interactions.
        config: settings.
        out: the folder of the first process, which a process of another machine must see too in order to resume.
        device: as of :func:`train`.
        resume: continue from the checkpoint in ``out``.
        source: as of :func:`train`.

    Raises:
        UsageError: as :func:`train`.
        CocorrrecError: as :func:`train`.
    """
    torch_device = resolve_device(device)
    interactions, read_with = read_source(data_file, config.data)
    config = dataclasses.replace(config, data=read_with)
    prepared = _prepare(data_file, interactions, config)
    start = None if source is None else Start.of(source, prepared.interactions)
    _fit(prepared, config, out, torch_device, start, resume=resume, listener=Listener())


@dataclass(frozen=True)
class _Trained:
    """Both halves, and how it went."""

    model: Ranker
    phone: RunState
    records: list[dict[str, float]]
    """Of all epochs, the cloud's behind the phone's."""


def _fit(
    prepared: "_Prepared",
    config: RunConfig,
    out: Path,
    device: torch.device,
    start: Start | None,
    *,
    resume: bool,
    listener: Listener,
) -> _Trained:
    """Train the phone's model; then, where its cloud answers with a vector, the cloud's."""
    whole = prepared.model_config
    two_stages = whole.correction == "vector"
    first = dataclasses.replace(whole, correction="none") if two_stages else whole

    def run(
        data: TrainingData, checkpoint: Path, *, resume: bool, epochs: int | None = None
    ) -> tuple[Ranker, RunState]:
        """Train a model from its start: by validation, or for ``epochs``."""
        model = _started(first, config, start).to(device)
        state = fit(
            model,
            data,
            config.training,
            objective=whole.objective,
            checkpoint=checkpoint,
            resume=resume,
            listener=listener,
            epochs=epochs,
        )
        return model, state

    if two_stages:
        listener.on_stage("on-device model", config.training.epochs)
    model, state = run(prepared.training, out / CHECKPOINT, resume=resume)

    def refit() -> Ranker:
        listener.on_stage(("on-device model" if two_stages else "model") + NEWEST, state.best_epoch)
        path = of_refit(out / CHECKPOINT)
        newest = prepared.training.newest()
        again, _ = run(newest, path, resume=resume and path.is_file(), epochs=state.best_epoch)
        return again

    refitted = refit if config.training.refit else None
    if not two_stages:
        return _Trained(refitted() if refitted else model, state, state.records)
    assert isinstance(model, CoCorrRec)
    joint, records = train_cloud(
        model,
        whole,
        prepared.training,
        config.cloud_training(),
        start=start,
        checkpoints=lambda index: out / CLOUD_CHECKPOINT.format(index + 1),
        resume=resume,
        listener=listener,
        refitted=refitted,
    )
    return _Trained(joint, state, state.records + records)


def _started(model_config: ModelConfig, config: RunConfig, start: Start | None) -> Ranker:
    """The model before its first step: drawn, then as far as it continues another set to that."""
    model = build_model(model_config, generator=torch.Generator().manual_seed(config.training.seed))
    if start is not None:
        start.apply(model)
    return model


def _metrics_before(start: Start, prepared: "_Prepared", config: RunConfig) -> dict[str, Any]:
    """The old model on the same test users, its new items as they start, by both protocols."""
    measured = measure_ways(_started(prepared.model_config, config, start).eval(), prepared.test)
    return sampled_metrics(measured) | {"full": full_metrics(measured)}


def _settings(config: RunConfig, model: ModelConfig, start: Start | None) -> dict[str, Any]:
    cloud = {"cloud": config.cloud} if model.correction == "vector" else {}
    continued = {} if start is None else {"continued": start.facts()}
    return dataclasses.asdict(config.training) | cloud | continued


def metrics_of(model: Ranker, test: EvaluationSet) -> dict[str, Any]:
    """What a model's folder says of it: both protocols, the controls of its cloud, and what it must beat.

    Returns:
        ``corrected`` and ``alone`` among sampled negatives, ``full`` with the same in the whole catalog,
        ``references`` by name with ``sampled`` and ``full``; with a cloud model also ``controls`` and ``paired``.
    """
    measured = measure_ways(model, test)
    found: dict[str, Any] = sampled_metrics(measured) | {"full": full_metrics(measured)}
    references = measure_references(test, vocab_size=model.item_embedding.num_embeddings)
    found["repeated_test"] = test.repeated_share()
    found["references"] = {name: both_protocols(each) for name, each in references.items()}
    if isinstance(model, CoCorrRec) and model.gcn is not None:
        controls, paired = evaluate_controls(model, test, measured["alone"], measured["corrected"])
        found["controls"] = {name: both_protocols(each) for name, each in controls.items()}
        found["paired"] = {name: {key: list(pair) for key, pair in each.items()} for name, each in paired.items()}
    return found


@dataclass(frozen=True)
class _Prepared:
    """What a run reads, made from its data file."""

    interactions: Interactions
    model_config: ModelConfig
    training: TrainingData
    test: EvaluationSet


def _prepare(data_file: Path, interactions: Interactions, config: RunConfig) -> _Prepared:
    model_config = ModelConfig.from_dict(config.model | {"vocab_size": interactions.vocab_size}, where="[model]")
    split = leave_last_out(interactions, sequence_length=model_config.sequence_length)
    if not len(split.train):
        raise CocorrrecError(
            f"{data_file}: every one of the {interactions.num_users} users has {MIN_USER_INTERACTIONS} clicks: one for "
            f"testing, one for validation, and none before the one that is left to be predicted; at least one user "
            f"needs {MIN_USER_INTERACTIONS + 1}"
        )
    sampler = NegativeSampler(interactions)
    # A user with every item has no negative; with another objective than "bce" none is asked for.
    free = sampler.free(split.train.who) > 0
    train = split.train if free.all() or model_config.objective != "bce" else split.train.only(free)
    validation, test = (
        evaluation_set(
            interactions,
            split,
            sampler,
            part=part,
            users=config.training.evaluation_users,
            negatives=config.training.evaluation_negatives,
            seed=config.training.evaluation_seed,
        )
        for part in (VALIDATION, TEST)
    )
    return _Prepared(interactions, model_config, TrainingData(interactions, train, sampler, validation), test)


def _describe_drawn(prepared: _Prepared, config: RunConfig) -> list[str]:
    """That some users are measured and others not, if so."""
    users, most = prepared.interactions.num_users, config.training.evaluation_users
    if not 0 < most < users:
        return []
    return [
        f"{len(prepared.test):,} of {users:,} users are drawn to measure the model on: each is ranked in the whole "
        "catalog; training.evaluation_users = 0 takes all"
    ]


def _provenance(config: RunConfig, prepared: _Prepared) -> dict[str, Any]:
    """The ``[data]`` table of ``model.toml``: enough to make the held-out slice again from the same file."""
    return config.data.as_table() | {
        "vocabulary_sha256": prepared.interactions.vocabulary_sha256,
        "interactions_sha256": prepared.interactions.sha256,
        "evaluation_users": config.training.evaluation_users,
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
        what = "an unfinished run: continue with --resume, or" if unfinished else "files already:"
        raise UsageError(f"{out} holds {what} give another --out")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder")


def _remember_settings(
    out: Path, config: RunConfig, interactions: Interactions, source: ModelFolder | None, *, resume: bool
) -> None:
    """Keep what the run was started with, and refuse to resume with anything else."""
    tables = config.as_tables() | ({} if source is None else {"from": source.sha256})
    now = json.loads(json.dumps(tables | {"interactions_sha256": interactions.sha256}))
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
