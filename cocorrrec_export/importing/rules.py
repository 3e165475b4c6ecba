"""How tensors of one layout become tensors of another, and back, bit for bit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Move = Callable[[list[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Rule:
    """Tensors of ours that tensors of theirs turn into."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_ours: Move
    to_theirs: Move


def same(ours: str, theirs: str) -> Rule:
    """A tensor by another name."""
    return Rule((ours,), (theirs,), list, list)


def layer(ours: str, theirs: str) -> list[Rule]:
    """A layer's weight and bias."""
    return [same(f"{ours}.{part}", f"{theirs}.{part}") for part in ("weight", "bias")]


def shaped(ours: str, theirs: str, *, our_shape: Sequence[int], their_shape: Sequence[int]) -> Rule:
    """The same numbers in another shape."""
    return Rule(
        (ours,), (theirs,), lambda x: [x[0].reshape(tuple(our_shape))], lambda x: [x[0].reshape(tuple(their_shape))]
    )


def unsqueezed(ours: str, theirs: str, *, dim: int) -> Rule:
    """Theirs has one more dimension, of size 1."""
    return Rule((ours,), (theirs,), lambda x: [x[0].squeeze(dim)], lambda x: [x[0].unsqueeze(dim)])


def transposed(ours: str, theirs: str) -> Rule:
    """Rows and columns change places."""
    return Rule((ours,), (theirs,), lambda x: [x[0].T], lambda x: [x[0].T])


def joined(ours: str, theirs: Sequence[str]) -> Rule:
    """Ours holds equal parts of theirs, row below row."""
    return Rule((ours,), tuple(theirs), lambda x: [torch.cat(x)], lambda x: list(x[0].chunk(len(theirs))))


def joined_layer(ours: str, theirs: Sequence[str]) -> list[Rule]:
    """The same of weights and of biases."""
    return [joined(f"{ours}.{part}", [f"{name}.{part}" for name in theirs]) for part in ("weight", "bias")]


def with_last_row(ours: str, row: str, theirs: str) -> Rule:
    """The last row of theirs is a tensor of its own."""
    return Rule(
        (ours, row), (theirs,), lambda x: [x[0][:-1], x[0][-1]], lambda x: [torch.cat((x[0], x[1].unsqueeze(0)))]
    )


def behind_zeros(ours: str, theirs: str) -> Rule:
    """Theirs has a first row of zeros, for padding, that ours does not have."""
    return Rule((ours,), (theirs,), lambda x: [x[0][1:]], lambda x: [torch.cat((torch.zeros_like(x[0][:1]), x[0]))])


def to_ours(rules: Sequence[Rule], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All tensors by our names."""
    found: dict[str, Tensor] = {}
    for rule in rules:
        moved = rule.to_ours([tensors[name] for name in rule.theirs])
        found |= {name: x.contiguous() for name, x in zip(rule.ours, moved, strict=True)}
    return found


def to_theirs(rules: Sequence[Rule], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All tensors by their names."""
    found: dict[str, Tensor] = {}
    for rule in rules:
        moved = rule.to_theirs([tensors[name] for name in rule.ours])
        found |= {name: x.contiguous() for name, x in zip(rule.theirs, moved, strict=True)}
    return found
