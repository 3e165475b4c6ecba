"""The items of an export by the app's own ids: what is between them and the numbers in the program."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.errors import CocorrrecError, UsageError, listed
from cocorrrec_export.runtime.base import Arrays, Runtime, score_list


class ItemIds:
    """The app's ids of a model's items, in the order of the model's numbers, which start at 1.

    Args:
        ids: each once.
        titles: of the same items, or none.
    """

    def __init__(self, ids: Sequence[str], titles: Sequence[str] = ()) -> None:
        self.ids, self.titles = tuple(ids), tuple(titles)
        self._numbers = {item: number for number, item in enumerate(self.ids, start=1)}

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.ids)

    def numbers(self, items: Sequence[str]) -> NDArray[np.int32]:
        """What the program calls these items, ``[n]``.

        Raises:
            UsageError: the model does not know one; the message names those.
        """
        unknown = [item for item in items if item not in self._numbers]
        if unknown:
            raise UsageError(f"the model does not know {len(unknown)} of {len(items)} items: {listed(unknown)}")
        return np.array([self._numbers[item] for item in items], dtype=np.int32)

    def history(self, items: Sequence[str], length: int) -> NDArray[np.int32]:
        """The last ``length`` known clicks, oldest first, padded on the right: ``ids [1, length]``.

        A click on an item that the model does not know is left out: a history may be older than the model.
        """
        known = [self._numbers[item] for item in items if item in self._numbers][-length:]
        return np.array([known + [0] * (length - len(known))], dtype=np.int32)


def open_items(artifact: Artifact) -> ItemIds:
    """The items of an export.

    Raises:
        UsageError: it was made from a model that came without its items.
        CocorrrecError: the file is damaged.
    """
    said = artifact.manifest.get("items")
    if said is None:
        raise UsageError(f"{artifact.path} has no item ids: the model that it was made from came without them")
    return read_item_file(artifact.path / said["file"])


def read_item_file(path: Path) -> ItemIds:
    """``id,item`` and perhaps ``title`` as gzipped CSV, in the order of ``id``, from 1 on.

    Raises:
        CocorrrecError: it is damaged, has a gap, or names an item twice.
    """
    try:
        rows = list(_rows(path))
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        raise CocorrrecError(f"{path}: not a list of items: {error}") from None
    items = ItemIds([row[0] for row in rows], [row[1] for row in rows if len(row) > 1])
    if len(items._numbers) != len(items):
        raise CocorrrecError(f"{path}: names an item twice")
    return items


def _rows(path: Path) -> Iterator[tuple[str, ...]]:
    """Item, and title where there is such a column: of an item without one, the item."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        columns = reader.fieldnames or []
        if list(columns[:2]) != ["id", "item"]:
            raise ValueError(f"its columns are {listed(columns)}, expected id, item")
        for number, row in enumerate(reader, start=1):
            if row["id"] != str(number) or None in row.values():
                raise ValueError(f"row {number} is {listed(str(x) for x in row.values())}, expected id {number}")
            yield (row["item"], row["title"] or row["item"]) if "title" in row else (row["item"],)


def score_items(
    runtime: Runtime, entry_point: str, inputs: Arrays, items: ItemIds, candidates: Sequence[str]
) -> dict[str, float]:
    """The score of each candidate, by the app's ids; see :func:`cocorrrec_export.runtime.base.score_list`.

    Args:
        runtime: a loaded export.
        entry_point: one that takes ``candidates [1, C]``.
        inputs: its other inputs; ``ids`` is what :meth:`ItemIds.history` gives.
        items: those of the export: :func:`open_items`.
        candidates: their ids.

    Raises:
        UsageError: the model does not know one of them; the message names it.
    """
    scores = score_list(runtime, entry_point, inputs, items.numbers(candidates))
    return dict(zip(candidates, scores.tolist(), strict=True))
