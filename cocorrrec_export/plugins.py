"""Architectures from outside the package: entry points of installed distributions, loaded when they are asked for."""

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cocorrrec_export.errors import CocorrrecError, UsageError

ARCHITECTURES = "cocorrrec_export.architectures"
"""Group of entry points: a function from a config to a ranker, by the architecture's name."""
FORMS = "cocorrrec_export.forms"
"""Group of entry points: a form for its export, by the same name."""


@functools.cache
def _found(group: str) -> dict[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=group)}


def architecture_names() -> tuple[str, ...]:
    """The architectures that installed distributions bring."""
    return tuple(sorted(_found(ARCHITECTURES)))


def load(group: str, name: str) -> Any:
    """What the entry point ``name`` of a group names.

    Raises:
        UsageError: no installed distribution has it.
        CocorrrecError: it cannot be imported.
    """
    found = _found(group).get(name)
    if found is None:
        raise UsageError(f"architecture '{name}': no installed distribution has the entry point '{name}' of {group}")
    try:
        return found.load()
    except (ImportError, AttributeError) as error:
        raise CocorrrecError(f"architecture '{name}': {found.value} cannot be imported: {error}") from None
