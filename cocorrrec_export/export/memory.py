"""What keeps the memory of an export near the size of its tables."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor

LARGE = 1 << 20
"""Bytes of a tensor from which on it is a table."""


@contextlib.contextmanager
def one_copy_of_tables() -> Iterator[None]:
    """Inside, a deep copy of something that holds a large constant shares it.

    Converters copy whole programs, one for each entry point and stage, and change graphs, not constants.
    """
    original = Tensor.__deepcopy__

    def shared(self: Tensor, memo: dict[int, Any]) -> Any:
        plain = type(self) is Tensor and not self.requires_grad and self.device.type == "cpu"
        if plain and self.numel() * self.element_size() >= LARGE:
            memo[id(self)] = self
            return self
        return original(self, memo)

    Tensor.__deepcopy__ = shared  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.__deepcopy__ = original  # type: ignore[method-assign]
