"""What keeps the memory of an export near the size of its tables."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cocorrrec_export.forms.weights import Table

LARGE = 1 << 20
"""Bytes of a tensor from which on it is a table."""
TALL = 1 << 14
"""Rows from which on a table has a stand-in."""
_ROWS = 64


@contextlib.contextmanager
def one_copy_of_tables() -> Iterator[None]:
    """Inside, a copy of something that holds a large constant shares it.

    Tracers and converters copy whole programs, for each entry point and stage; they change graphs, not constants.
    """
    from torch._dynamo.variables import builder  # which makes two copies of every constant that it meets

    with contextlib.ExitStack() as stack:
        for kind in (Tensor, nn.Parameter):
            stack.enter_context(_replaced(kind, "__deepcopy__", _sharing(kind.__deepcopy__)))
        if hasattr(builder, "clone_input"):
            stack.enter_context(_replaced(builder, "clone_input", _sharing(builder.clone_input)))
        yield


@dataclass(frozen=True)
class StandIn:
    """A few rows in the place of a table."""

    rows: NDArray[Any]  # [_ROWS, n] found again by their bytes
    table: NDArray[Any]  # [V, n]


@contextlib.contextmanager
def stand_ins(modules: Iterable[nn.Module]) -> Iterator[list[StandIn]]:
    """Inside, the large tables of ``modules`` have a few rows of noise: what converts them writes those.

    Rows of a table are looked up and nothing else, so that its height is of no matter to a graph. Converters hold up to
    five copies of a constant; who calls this puts the tables themselves into the file.
    """
    made: dict[int, tuple[Tensor, StandIn]] = {}
    replaced: list[tuple[nn.Module, str, Tensor]] = []
    for owner in {id(x): x for module in modules for x in module.modules()}.values():
        for name, table in list(owner.named_buffers(recurse=False)):
            if not isinstance(owner, Table) or not _is_table(table) or len(table) < TALL:
                continue
            if id(table) not in made:
                noise = np.random.default_rng(len(made)).integers(1, 120, (_ROWS, *table.shape[1:]))
                rows = torch.from_numpy(noise).to(table.dtype)
                made[id(table)] = rows, StandIn(rows.numpy(), table.numpy())
            replaced.append((owner, name, table))
    try:
        for owner, name, table in replaced:
            setattr(owner, name, made[id(table)][0])
        yield [stand_in for _, stand_in in made.values()]
    finally:
        for owner, name, table in replaced:
            setattr(owner, name, table)


def _is_table(x: Tensor) -> bool:
    plain = type(x) in (Tensor, nn.Parameter) and not x.requires_grad and x.device.type == "cpu"
    return plain and x.numel() * x.element_size() >= LARGE


def _sharing(copy: Callable[..., Any]) -> Callable[..., Any]:
    def shared(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return x if _is_table(x) else copy(x, *args, **kwargs)

    return shared


@contextlib.contextmanager
def _replaced(owner: Any, name: str, new: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, original)
