"""MIND's ``behaviors.tsv``: a user's history in every row, and what the user then clicked of what was shown."""

import re

import polars as pl

from cocorrrec_export.data.files.columns import Raw
from cocorrrec_export.errors import CocorrrecError

FORMAT = "mind"
_ROW = re.compile(r"\d+\tU\d+\t\d+/\d+/\d+ \d+:\d+:\d+ [AP]M\t")


def is_mind(first_line: str) -> bool:
    """Whether a file begins as MIND's does."""
    return _ROW.match(first_line) is not None


def unfold(raw: Raw, notes: list[str]) -> Raw:
    """One row per click: the history of each user's first row, then the clicked impressions of every row.

    The clicks of a history have no times of their own; they get those of the seconds before the first row.

    Raises:
        CocorrrecError: there are not five columns.
    """
    if raw.frame.width != 5:
        raise CocorrrecError(f"{raw.where}: {raw.frame.width} columns, behaviors of MIND have 5")
    frame = raw.frame.rename(
        dict(zip(raw.frame.columns, ("impression", "user", "time", "history", "shown"), strict=True))
    )
    parsed = frame["time"].str.to_datetime("%m/%d/%Y %I:%M:%S %p", strict=False, time_unit="ns")
    if parsed.null_count():
        row = int(parsed.is_null().arg_true()[0])
        raise CocorrrecError(
            f"{raw.locate(row)}: time is {frame['time'][row]!r}, expected one as 11/11/2019 9:05:58 AM"
        )
    frame = frame.with_columns(time=parsed, row=pl.int_range(pl.len(), dtype=pl.UInt32))
    first = frame.sort("time", maintain_order=True).unique("user", keep="first", maintain_order=True)
    histories = first.with_columns(item=pl.col("history").str.split(" ")).explode("item").drop_nulls("item")
    histories = histories.filter(pl.col("item") != "").with_columns(
        back=pl.len().over("user") - pl.int_range(pl.len()).over("user")
    )
    histories = histories.with_columns(
        time=(pl.col("time") - pl.duration(seconds=pl.col("back"))).cast(pl.Datetime("ns"))
    )
    shown = frame.with_columns(item=pl.col("shown").str.split(" ")).explode("item").drop_nulls("item")
    clicks = shown.filter(pl.col("item").str.ends_with("-1")).with_columns(item=pl.col("item").str.strip_suffix("-1"))
    names = ["user", "item", "time", "row"]
    table = pl.concat([histories.select(names), clicks.select(names)])
    rows = table["row"]
    notes.append(f"MIND: {len(histories)} clicks of histories, {len(clicks)} clicked impressions")
    return Raw(raw.where, table.drop("row"), True, lambda row: raw.locate(int(rows[row])))
