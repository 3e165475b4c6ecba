"""Make clicks of any number, the same for the same seed, as a prepared data set: items follow Zipf's law.

    python benchmarks/clicks.py --clicks 10000000 --users 200000 --items 1000000 --out clicks.cut
    python benchmarks/clicks.py --clicks 3000000 --users 1000000 --heavy 100000 --items 1000000 --out few.cut
    python benchmarks/clicks.py --clicks 10000000 --users 200000 --items 1000000 --out folder --csv

Users have three clicks each and share the rest by chance, so that their numbers differ as a geometric law's do; with
``--heavy N`` a last user of N clicks is added. ``--csv`` writes a folder of files as an export of a warehouse is: of a
few million rows each, with some clicks of every user.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from cocorrrec_export.data.interactions import MIN_USER_INTERACTIONS, Interactions
from cocorrrec_export.data.prepared import write_cut
from cocorrrec_export.data.sources import DataSource

ZIPF = 0.9
_BLOCK = 1 << 22
_FIRST = 1_500_000_000
"""Seconds since 1970 of the first click in a CSV file: of a date that a reader believes."""
_ORIGIN = "made by benchmarks/clicks.py"


def zipf_clicks(items: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Items 1 .. ``items`` by Zipf's law."""
    share = np.cumsum(1.0 / np.arange(1, items + 1) ** ZIPF)
    drawn = np.empty(int(np.prod(shape)), dtype=np.int32)
    for start in range(0, len(drawn), _BLOCK):
        part = drawn[start : start + _BLOCK]
        part[:] = np.searchsorted(share, rng.random(len(part)) * share[-1]).clip(max=items - 1) + 1
    return drawn.reshape(shape)


def make_clicks(clicks: int, users: int, items: int, *, heavy: int = 0, seed: int = 0) -> Interactions:
    """``clicks`` of ``users``, and ``heavy`` ones of one more; times are seconds, a click after the other."""
    if clicks < MIN_USER_INTERACTIONS * users:
        raise SystemExit(f"{users} users need {MIN_USER_INTERACTIONS * users} clicks or more")
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, clicks - MIN_USER_INTERACTIONS * users + 1, users - 1))
    counts = np.diff(cuts, prepend=0, append=clicks - MIN_USER_INTERACTIONS * users) + MIN_USER_INTERACTIONS
    counts = np.append(counts, heavy) if heavy else counts
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    times = np.arange(offsets[-1], dtype=np.int64) * 1_000_000_000
    rows = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    names = [str(item) for item in range(1, items + 1)]
    drawn = zipf_clicks(items, (int(offsets[-1]),), rng)
    return Interactions(
        drawn, offsets, names, [str(user) for user in range(len(counts))], times=times, rows=rows, dated=True
    )


def write_csv(folder: Path, made: Interactions) -> None:
    """The same clicks in files of a few million rows."""
    assert made.times is not None
    folder.mkdir()
    user = np.repeat(np.arange(made.num_users, dtype=np.int32), np.diff(made.offsets))
    files = -(-len(made.items) // _BLOCK)
    for part in range(files):
        own = slice(part, None, files)
        seconds = made.times[own] // 1_000_000_000 + _FIRST
        table = pl.DataFrame({"user": user[own], "item": made.items[own], "timestamp": seconds})
        table.write_csv(folder / f"part-{part:04}.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, required=True)
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--heavy", type=int, default=0, help="clicks of one user more")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", action="store_true", help="write a folder of CSV files")
    parser.add_argument("--out", type=Path, required=True, help="the prepared data set, or the folder")
    options = parser.parse_args()
    made = make_clicks(options.clicks, options.users, options.items, heavy=options.heavy, seed=options.seed)
    if options.csv:
        write_csv(options.out, made)
        return
    origin = {"toolkit_version": "", "file": {"name": _ORIGIN}, "data": DataSource().as_table()}
    write_cut(options.out, made, origin, user_ids=False)


if __name__ == "__main__":
    main()
