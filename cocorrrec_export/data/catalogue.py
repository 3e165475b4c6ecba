"""The items of a model: internal id, external id and, where known, title."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from cocorrrec_export.data.files.columns import KNOWN, Columns, simplified
from cocorrrec_export.data.files.csv import csv_header, read_table
from cocorrrec_export.data.interactions import vocabulary_digest
from cocorrrec_export.errors import CocorrrecError, UsageError, listed, nearest
from cocorrrec_export.files import sha256_file
from cocorrrec_export.modeling.store import ModelFolder

PADDING_ITEM = "[PAD]"
"""What RecBole calls the item of row 0."""


def encode_catalogue(
    item_ids: Sequence[str], *, titles: Path | None, columns: Columns, notes: list[str] | None = None
) -> bytes:
    """``id,item`` and, with ``titles``, ``title`` as gzipped CSV; internal ids start at 1.

    Args:
        item_ids: external ids in the order of the internal ones.
        titles: CSV file with a column of item ids and a column ``title``.
        columns: names the item column of ``titles``.
        notes: how many titles were found is appended.

    Raises:
        UsageError: ``titles`` does not exist, or lacks a column.
        CocorrrecError: it is damaged, has a bad row, or has no title of any item.
    """
    frame = pl.DataFrame({"id": range(1, len(item_ids) + 1), "item": list(item_ids)})
    if titles is not None:
        frame = frame.with_columns(title=_match_titles(titles, frame["item"], columns, notes))
    # No time stamp in the gzip header: the same items give the same bytes.
    return gzip.compress(frame.write_csv().encode(), mtime=0)


def _match_titles(path: Path, items: pl.Series, columns: Columns, notes: list[str] | None) -> pl.Series:
    """The title of each item, by its id; null where the file has none."""
    header = csv_header(path)
    names = {simplified(name): name for name in reversed(header)}
    item = columns.item if columns.item in header else next((names[n] for n in KNOWN["item"] if n in names), "item")
    named = read_table(path, [item], optional=["title"] if "title" in header else [names.get("title", "title")])
    if named.width < 2:
        raise UsageError(f"{path}: no column 'title' ({nearest('title', header)})")
    table = named.rename(dict(zip(named.columns, ("item", "title"), strict=True)))
    table = table.with_columns(pl.col("item", "title").str.strip_chars()).unique("item", keep="first")
    titles = pl.DataFrame({"item": items}).join(table, on="item", how="left", maintain_order="left")["title"]
    found = int(items.is_in(table["item"].to_list()).sum())
    if not found:
        short = pl.Series(_loosely(table["item"])).is_in(_loosely(items).to_list()).sum()
        hint = f": {short} would fit without leading zeros or a '.0' at the end" if short else ""
        raise CocorrrecError(
            f"{path}: none of its {len(table)} ids, such as {table['item'][0]!r}, is one of the {len(items)} items, "
            f"such as {items[0]!r}{hint}; write the ids as the interactions have them"
        )
    if notes is not None:
        empty = int(titles.is_null().sum()) - (len(items) - found)
        notes.append(
            f"{path.name}: {found} of {len(items)} items found"
            + (f", {empty} of them with an empty title, which are shown by id" if empty else "")
        )
    return titles


def _loosely(ids: pl.Series) -> pl.Series:
    return ids.str.replace(r"\.0$", "").str.strip_chars_start("0")


def read_catalog(path: Path, *, columns: Columns) -> tuple[list[str], bool]:
    """External ids in the order of the internal ones, by the column ``id`` where there is one, else by the rows.

    A row for padding, with the id 0 or the item ``[PAD]``, is left out.

    Args:
        path: CSV file with a column ``item``, or with that of the interactions.
        columns: names that of the interactions.

    Returns:
        The ids, and whether there is a column ``title``.

    Raises:
        UsageError: the file does not exist, or lacks a column of the items.
        CocorrrecError: it is damaged, ids are not 1, 2, 3 and so on, or an item is empty or there twice.
    """
    column = item_column(path, columns)
    frame = read_table(path, [column], optional=["id", "title"]).rename({column: "item"})
    if "id" in frame.columns:
        numbers = frame["id"].cast(pl.Int64, strict=False)
        if numbers.null_count():
            raise CocorrrecError(f"{path}: column id holds values that are not whole numbers")
        frame = frame.with_columns(numbers.alias("id")).filter(pl.col("id") != 0).sort("id")
        if frame["id"].to_list() != list(range(1, len(frame) + 1)):
            raise CocorrrecError(f"{path}: column id must hold each number from 1 to the number of items once")
    elif frame["item"][0] == PADDING_ITEM:
        frame = frame.slice(1)
    if twice := frame["item"].filter(frame["item"].is_duplicated()).unique().sort().to_list():
        raise CocorrrecError(f"{path}: items are there more than once: {listed(twice, count=3)}")
    return frame["item"].to_list(), "title" in frame.columns


def items_of_model(folder: ModelFolder) -> tuple[list[str], bool]:
    """External ids of a model's items in the order of its rows, and whether it has titles.

    Raises:
        UsageError: the model came without them.
        CocorrrecError: the file is damaged, or not the model's.
    """
    path = folder.items_path
    if not path.is_file():
        raise UsageError(f"model {folder.name} came without the external ids of its items")
    if folder.files.get(path.name, digest := sha256_file(path)) != digest:
        raise CocorrrecError(
            f"{path}: damaged or replaced: its digest is not the one in model.toml; copy the model again"
        )
    ids, titled = read_catalog(path, columns=Columns())
    expected = folder.data.get("vocabulary_sha256")
    if expected is not None and expected != vocabulary_digest(ids):
        raise CocorrrecError(f"{path}: holds other items than model {folder.name} was made with; copy the model again")
    if len(ids) != folder.config.vocab_size - 1:
        raise CocorrrecError(f"{path}: holds {len(ids)} items, the model has {folder.config.vocab_size - 1}")
    return ids, titled


def has_titles(folder: ModelFolder) -> bool:
    """Whether a model names its items."""
    return folder.items_path.is_file() and items_of_model(folder)[1]


def item_column(path: Path, columns: Columns) -> str:
    """The column of the items in a catalog: that of the interactions if it is there, else ``item``."""
    own = [columns.item] if columns.item else []
    return own[0] if own and own[0] in read_table(path, [], optional=own).columns else "item"


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
