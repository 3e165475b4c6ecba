"""Train the cloud model of ``correction = "vector"``: on its own, in the frozen item table of a trained phone model."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker, last_position
from cocorrrec_export.modeling.vector import VectorCloud, VectorReader
from cocorrrec_export.training.checkpoint import RunState, of_refit
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.loop import (
    NEWEST,
    WITHOUT,
    Listener,
    TrainingData,
    fit,
    monitored,
    reads_catalog,
    record_of,
)
from cocorrrec_export.training.scoring import BATCH, Measured, catalog_places_of_sums, measure, read_users
from cocorrrec_export.training.start import Start

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0)
"""Shares of the cloud's vector that are tried on validation; with 0 the cloud changes nothing."""


class CloudTrainee(Ranker):
    """One reader, as a ranker of its own: it scores items of the phone's table, which it does not change.

    Args:
        phone: trained; it is not a submodule, so that the loop neither trains nor saves it.
        reader: to be trained.
    """

    def __init__(self, phone: CoCorrRec, reader: VectorReader) -> None:
        super().__init__()
        self.gcn = None
        self.reader = reader
        object.__setattr__(self, "_phone", phone)

    _phone: CoCorrRec

    @property
    def item_embedding(self) -> nn.Embedding:  # type: ignore[override]
        """The phone's table."""
        return self._phone.item_embedding

    def read_rows(self, ids: Tensor, clicks: Tensor, *, corrected: bool = True) -> Tensor:  # noqa: ARG002
        """The vector ``[B, D]`` after the last click."""
        vector: Tensor = self.reader(ids, clicks, last_position(ids))
        return vector

    def states(self, ids: Tensor, clicks: Tensor) -> Tensor:
        """The vector after each click, ``[B, L, D]``."""
        vectors: Tensor = self.reader(ids, clicks)
        return vectors

    def item_side(self, rows: Tensor) -> Tensor:
        """The phone's."""
        return self._phone.item_side(rows)


def train_cloud(
    phone: CoCorrRec,
    config: ModelConfig,
    data: TrainingData,
    training: TrainConfig,
    *,
    checkpoints: Callable[[int], Path],
    resume: bool,
    listener: Listener,
    start: Start | None = None,
    refitted: Callable[[], Ranker] | None = None,
) -> tuple[CoCorrRec, list[dict[str, float]]]:
    """Train every network of the cloud, and choose how much of their mean vector the phone adds.

    Args:
        phone: the trained on-device model.
        config: of the whole model, with ``correction = "vector"``.
        data: as the phone's; the validation slice must have the users' earlier clicks.
        training: settings of each network; ``positions`` is ``"all"``, and each network has a seed of its own.
        checkpoints: the file of network i; that of its second training is named after it.
        resume: continue from the checkpoints that exist.
        listener: receives progress.
        start: what the networks continue, if anything.
        refitted: trains the on-device model again, with the newest clicks, when the weight is chosen; the networks are
            then trained again in its table.

    Returns:
        The whole model, in evaluation mode; the validated epochs of all networks, each with its ``network``.
    """
    generator = torch.Generator().manual_seed(training.seed)
    device = phone.item_embedding.weight.device
    model = build_model(config, generator=generator)
    assert isinstance(model, CoCorrRec)
    if start is not None:
        start.apply(model)
    model = model.to(device)
    missing = model.load_state_dict(phone.state_dict(), strict=False)
    assert not missing.unexpected_keys
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.eval()
    assert isinstance(model.gcn, VectorCloud)
    cloud, table = model.gcn, model.item_embedding
    untrained = copy.deepcopy(cloud.networks.state_dict())
    blend = _Blend(model, data.validation, training.monitor)

    def run(index: int, name: str, data: TrainingData, path: Path, epochs: int | None = None) -> RunState:
        """Train network ``index``: by validation, or for ``epochs``."""
        reader = cloud.networks[index]
        assert isinstance(reader, VectorReader)
        trainee = CloudTrainee(model, reader.requires_grad_(True))
        listener.on_stage(f"cloud network {index + 1} of {len(cloud.networks)}{name}", epochs or training.epochs)
        state = fit(
            trainee,
            data,
            dataclasses.replace(training, positions="all", seed=training.seed * 100 + index),
            objective=config.objective,
            checkpoint=path,
            resume=resume and path.is_file(),
            listener=listener,
            length=config.cloud_length,
            validate=lambda: blend.record(trainee),
            epochs=epochs,
        )
        reader.requires_grad_(False)
        return state

    states = [run(index, "", data, checkpoints(index)) for index in range(len(cloud.networks))]
    vectors = blend.vectors(lambda ids: cloud.mean(ids, table(ids)))
    weight, _ = blend.best(vectors)
    cloud.weight.fill_(weight)
    if refitted is not None:
        model.load_state_dict(refitted().state_dict(), strict=False)
    if training.refit or refitted is not None:
        cloud.networks.load_state_dict(untrained)
        newest = data.newest()
        for index, state in enumerate(states):
            run(index, NEWEST, newest, of_refit(checkpoints(index)), state.best_epoch)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model, [{"network": i + 1.0} | record for i, state in enumerate(states) for record in state.records]


class _Blend:
    """What the phone ranks like with some share of some vectors; 256 bytes per user are kept."""

    @torch.no_grad()
    def __init__(self, model: CoCorrRec, held_out: EvaluationSet, monitor: str) -> None:
        assert isinstance(model.gcn, VectorCloud)
        self._model, self._held_out, self._monitor, self._length = model, held_out, monitor, model.gcn.length
        parts = [read_users(model, held_out, rows, corrected=False) for rows in held_out.batches(BATCH)]
        self._users = torch.cat(parts)  # [U, D]
        alone = self.measure(torch.zeros_like(self._users), 0.0, full=True)
        self.alone = {name + WITHOUT: value for name, value in record_of(alone, monitor).items()}

    @torch.no_grad()
    def vectors(self, read: Callable[[Tensor], Tensor]) -> Tensor:
        """The vectors ``[U, D]`` that ``read`` makes of the users' last L_cloud clicks."""
        parts = []
        for rows in self._held_out.batches(BATCH):
            memory = self._held_out.memory(rows, self._length)
            assert memory is not None
            parts.append(read(memory.to(self._users.device)))
        return torch.cat(parts)

    def record(self, trainee: CloudTrainee) -> dict[str, float]:
        """The metrics of an epoch of one network."""
        weight, measured = self.best(self.vectors(trainee.user_state))
        return record_of(measured, self._monitor) | self.alone | {"weight": weight}

    def measure(self, vectors: Tensor, weight: float, *, full: bool) -> Measured:
        """Both protocols, or the sampled one, with ``weight`` of the vectors."""
        users = self._users + weight * vectors
        return measure(self._model, self._held_out, full=full, user=lambda rows: users[rows])

    def best(self, vectors: Tensor) -> tuple[float, Measured]:
        """The weight of :data:`WEIGHTS` with the best monitored value, the least of equals, and all metrics with it."""
        found = {weight: self.measure(vectors, weight, full=False) for weight in WEIGHTS}
        if reads_catalog(self._monitor):
            full = catalog_places_of_sums(self._model, self._held_out, self._users, vectors, WEIGHTS)
            found = {w: Measured(found[w].sampled, places) for w, places in zip(WEIGHTS, full, strict=True)}
        values = {w: monitored(record_of(measured, self._monitor), self._monitor) for w, measured in found.items()}
        weight = max(WEIGHTS, key=lambda each: (values[each], -each))
        best = found[weight]
        return weight, best if best.full is not None else self.measure(vectors, weight, full=True)
