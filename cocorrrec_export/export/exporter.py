"""What every exporter is: a module ``export/<target>.py`` with one function."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cocorrrec_export.artifact.recipe import Recipe
from cocorrrec_export.targets import find_target

if TYPE_CHECKING:
    from cocorrrec_export.export.graphs import GraphSpec


class Exporter(Protocol):
    """One target's module."""

    def export(
        self,
        graphs: "Sequence[GraphSpec]",
        recipe: Recipe,
        path: Path,
        *,
        metadata: dict[str, str | int],
        progress: Callable[[str], None] = lambda _: None,
    ) -> dict[str, int]:
        """Write the program.

        Args:
            graphs: entry points over shared weights.
            recipe: what to make of them.
            path: file or folder to write, named as the target's row says.
            metadata: facts about the model, readable from the file in the format's own way.
            progress: receives what is being done.

        Returns:
            Bytes of the arena that each entry point plans for its intermediate tensors; empty where the format plans
            none.

        Raises:
            CocorrrecError: the target's extra is not installed.
        """
        ...


def find_exporter(target: str) -> Exporter:
    """The exporter of a target; its heavy import comes with its first export.

    Raises:
        UsageError: no such target.
    """
    exporter: Exporter = find_target(target).module("export")
    return exporter
