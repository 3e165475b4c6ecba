"""The processes that train one model together, started by ``torchrun``: each has a share of every batch.

Every process has the whole model and the whole optimizer, and applies the sum of all gradients, so that the weights are
the same everywhere and nothing else has to be exchanged. The first process alone validates and writes.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from cocorrrec_export.errors import CocorrrecError

PATIENCE = timedelta(days=1)
"""How long a process waits for the others: the first one validates, and writes, while they do."""
_STARTED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> "Ranks":
        """What :func:`joined` made, or a process of its own."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that validates and writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of ``count`` rows; empty where there are fewer rows than processes."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, *tensors: Tensor) -> None:
        """Replace each tensor, which has the same shape in every process, by the sum over the processes."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([x.reshape(-1) for x in tensors])
        distributed.all_reduce(flat)
        for x, total in zip(tensors, flat.split([x.numel() for x in tensors]), strict=True):
            x.copy_(total.view_as(x))

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """The same of the dense gradients of ``parameters``."""
        if self.size > 1:
            self.sum(*(x.grad for x in parameters if x.grad is not None and not x.grad.is_sparse))

    def of_first(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns in the first process, which alone does it."""
        if self.size == 1:
            return work()
        answer: list[Result | None] = [work() if self.first else None]
        distributed.broadcast_object_list(answer, src=0)
        assert answer[0] is not None
        return answer[0]


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started with this one, if it did, for as long as the block runs.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``, as of a training; with CUDA each process takes a GPU of its own.

    Raises:
        CocorrrecError: the others cannot be reached.
    """
    if any(name not in os.environ for name in _STARTED) or os.environ["WORLD_SIZE"] == "1":
        yield Ranks()
        return
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        distributed.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:  # ValueError: a variable of torchrun's that is not a number
        raise CocorrrecError(
            f"the {os.environ['WORLD_SIZE']} processes of torchrun do not find each other: {str(error).splitlines()[0]}"
        ) from None
    try:
        yield Ranks.here()
    finally:
        distributed.destroy_process_group()
