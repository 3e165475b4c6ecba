"""A run's state in one safetensors file: tensors as they are, numbers as JSON in the header. Nothing is unpickled."""

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cocorrrec_export.arrays import check_header, digest_of
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import publish_file

SECONDS_BETWEEN_CHECKPOINTS = 60.0
_GLOBAL_RNG = "rng.torch"


@dataclass
class RunState:
    """How far a run is. Together with the model and the optimizers it is all that resuming needs."""

    epoch: int = 0
    """Epochs completed."""
    step: int = 0
    """Steps completed in the current epoch."""
    loss_sum: float = 0.0
    """Sum of the losses of those steps."""
    records: list[dict[str, float]] = field(default_factory=list)
    """One row per epoch: loss and validation metrics."""
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best epoch."""
    average: dict[str, Tensor] = field(default_factory=dict)
    """Running average of the weights, in a run that keeps one."""
    threads: int = field(default_factory=torch.get_num_threads)
    """Of the CPU, when the state was saved; 0 in a checkpoint of an earlier version. Sums depend on it."""


def of_refit(path: Path) -> Path:
    """The checkpoint of training again what ``path`` is of."""
    return path.with_stem(f"{path.stem}-refit")


class CheckpointClock:
    """Says when the next checkpoint within an epoch is due."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether a minute has passed since this last said yes."""
        if time.monotonic() - self._last < SECONDS_BETWEEN_CHECKPOINTS:
            return False
        self._last = time.monotonic()
        return True


def save_checkpoint(path: Path, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], state: RunState) -> None:
    """Write everything that :func:`load_checkpoint` needs, whole or not at all."""
    names: dict[Tensor, str] = {x: name for name, x in model.named_parameters()}
    tensors = {f"model.{name}": x for name, x in model.state_dict().items()}
    tensors |= {f"best.{name}": x for name, x in state.best.items()}
    tensors |= {f"average.{name}": x for name, x in state.average.items()}
    for optimizer in optimizers:
        for parameter, moments in optimizer.state.items():
            tensors |= {f"optimizer.{names[parameter]}.{key}": x for key, x in moments.items()}
    tensors[_GLOBAL_RNG] = torch.random.get_rng_state()
    numbers = {
        "epoch": state.epoch,
        "step": state.step,
        "loss_sum": state.loss_sum,
        "records": state.records,
        "best_epoch": state.best_epoch,
        "threads": torch.get_num_threads(),
    }
    said = json.dumps(numbers)
    tensors = _apart({name: x.detach().cpu().contiguous() for name, x in tensors.items()})
    with publish_file(path) as staging:
        try:
            save_file(
                tensors,
                staging,
                metadata={"state": said, "sha256": _digest(said, tensors)},
            )
        except SafetensorError as error:
            raise CocorrrecError(f"{path}: cannot be written: {error}") from None


def load_checkpoint(path: Path, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], state: RunState) -> None:
    """Put model, optimizers, random generator and ``state`` back to where :func:`save_checkpoint` saw them.

    Raises:
        CocorrrecError: no checkpoint, a damaged one, or one of another model.
    """
    if not path.is_file():
        raise CocorrrecError(f"{path}: no checkpoint to resume from; start without --resume")
    check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        strange = metadata.keys() - {"state", "sha256"}  # a damaged name; an older file has no digest at all
        if strange or metadata.get("sha256", digest := _digest(metadata["state"], tensors)) != digest:
            raise ValueError("it was changed after it was written")
        numbers = json.loads(metadata["state"])
        model.load_state_dict(_under(tensors, "model."))
        for optimizer in optimizers:
            _load_optimizer(optimizer, model, _under(tensors, "optimizer."))
        torch.random.set_rng_state(tensors[_GLOBAL_RNG])
        for key in ("epoch", "step", "loss_sum", "records", "best_epoch"):
            setattr(state, key, numbers[key])
        state.threads = int(numbers.get("threads", 0))
        state.best, state.average = _under(tensors, "best."), _under(tensors, "average.")
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CocorrrecError(f"{path}: not a checkpoint of this run: {error}") from None


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, copied where two would be in the same memory, which the file's format does not have."""
    seen: set[int] = set()
    apart = {}
    for name, x in tensors.items():
        place = x.untyped_storage().data_ptr()
        apart[name] = x.clone() if place in seen or x.untyped_storage().nbytes() != x.nbytes else x
        seen.add(place)
    return apart


def _digest(said: str, tensors: dict[str, Tensor]) -> str:
    """Of the numbers and the tensors; a checkpoint of an older version has none."""
    return hashlib.sha256((said + digest_of(tensors)).encode()).hexdigest()


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    names: dict[Tensor, str] = {x: name for name, x in model.named_parameters()}
    moments: dict[int, dict[str, Any]] = {}
    for index, parameter in enumerate(x for group in optimizer.param_groups for x in group["params"]):
        own = _under(tensors, f"{names[parameter]}.")
        if own:
            moments[index] = own
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
