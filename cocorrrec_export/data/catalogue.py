"""The items of a model: internal id, external id and, where known, title."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.files.csv import read_table
from cocorrrec_export.errors import CocorrrecError


def encode_catalogue(item_ids: Sequence[str], *, titles: Path | None, columns: Columns) -> bytes:
    """``id,item`` and, with ``titles``, ``title`` as gzipped CSV; internal ids start at 1.

    Args:
        item_ids: external ids in the order of the internal ones.
        titles: CSV file with a column of item ids and a column ``title``.
        columns: names the item column of ``titles``.

    Raises:
        UsageError: ``titles`` does not exist, or lacks a column.
        CocorrrecError: it is damaged, or has a bad row.
    """
    frame = pl.DataFrame({"id": range(1, len(item_ids) + 1), "item": list(item_ids)})
    if titles is not None:
        item = columns.for_file(titles).item
        named = read_table(titles, [item, "title"]).rename({item: "item"})
        frame = frame.join(named.unique("item", keep="first"), on="item", how="left", maintain_order="left")
    # No time stamp in the gzip header: the same items give the same bytes.
    return gzip.compress(frame.write_csv().encode(), mtime=0)


def read_items(path: Path) -> dict[int, tuple[str, str]]:
    """External id and title, or the external id twice where there is none, of each internal id.

    Raises:
        CocorrrecError: not a file of :func:`encode_catalogue`.
    """
    frame = read_table(path, ["id", "item"], optional=["title"])
    try:
        ids = frame["id"].cast(pl.Int64)
    except pl.exceptions.PolarsError:
        raise CocorrrecError(f"{path}: column id holds values that are not whole numbers") from None
    names = frame["title"].fill_null(frame["item"]) if "title" in frame.columns else frame["item"]
    return dict(zip(ids.to_list(), zip(frame["item"].to_list(), names.to_list(), strict=True), strict=True))


def read_titles(path: Path) -> dict[int, str]:
    """Title, or external id where there is none, of each internal id.

    Raises:
        CocorrrecError: not a file of :func:`encode_catalogue`.
    """
    return {id: title for id, (_, title) in read_items(path).items()}
