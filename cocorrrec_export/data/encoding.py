"""Ids as small integers, so that millions of interactions stay small in memory."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cocorrrec_export.errors import CocorrrecError

MAX_ROWS = 1 << 28
"""Most interactions of one file: 4 GiB of them. All of Amazon's reviews up to 2018 are 233 million."""


def collect(path: Path, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """One table of the parts of a file, with ``user`` and ``item`` turned from str into categories at once.

    Raises:
        CocorrrecError: there are more than :data:`MAX_ROWS`, or what ``parts`` raises.
    """
    # Categories of their own: the global ones would keep the ids of every file that was ever read.
    kinds = {name: pl.Categorical(pl.Categories.random()) for name in ("user", "item")}
    encoded, rows = [], 0
    for part in parts:
        rows += len(part)
        if rows > MAX_ROWS:
            raise CocorrrecError(f"{path}: holds more than {MAX_ROWS} interactions")
        encoded.append(part.with_columns(pl.col(name).cast(kind) for name, kind in kinds.items()))
    return pl.concat(encoded, how="vertical_relaxed")  # times of whole numbers here, of floats there


def encode(ids: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Codes of ids, str or categories, and the id of each code."""
    if ids.dtype != pl.Categorical:
        ids = ids.cast(pl.Categorical(pl.Categories.random()))
    distinct = ids.unique()
    order = distinct.to_physical().arg_sort()
    return ids.to_physical(), distinct.cast(pl.String).gather(order)


class Numbering(NamedTuple):
    """Consecutive numbers instead of codes."""

    numbers: NDArray[np.int32]  # of each code; 0 where no click has it
    ids: list[str]
    """In the order of the numbers."""


def numbering(present: pl.Series, names: pl.Series, *, start: int) -> Numbering:
    """Numbers from ``start`` for the codes ``present``, in the order of their ids.

    The order is by number where all ids are whole numbers, else by their characters. Ids that no code names are left
    out.
    """
    present = present.sort()
    ids = names.gather(present)
    order = ids.arg_sort().to_numpy()
    numbers = ids.cast(pl.Int64, strict=False)
    if not numbers.null_count():
        order = order[numbers.to_numpy()[order].argsort(kind="stable")]
    numbered = np.zeros(len(names), dtype=np.int32)
    numbered[present.to_numpy()[order]] = np.arange(start, start + len(order))
    return Numbering(numbered, ids.gather(order).to_list())


def number(codes: pl.Series, names: pl.Series, *, start: int) -> tuple[pl.Series, list[str]]:
    """Int32 numbers instead of codes, and their ids, as :func:`numbering` has them."""
    found = numbering(codes.unique(), names, start=start)
    return pl.Series(found.numbers[codes.to_numpy()]), found.ids
