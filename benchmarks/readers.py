"""Read a large file of reviews: ours next to what one writes first, each in a fresh process.

    python benchmarks/readers.py

It makes files as Yelp and Amazon hand them out in a temporary folder (7 GB, removed at the end), reads them in turns,
and writes docs/readers.md. Every way ends with the same filtered interactions, which is checked. Seconds are those of
reading, filtering and numbering; memory is the peak of the whole process (VmHWM). Needs Linux.
"""

import argparse
import gzip
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pages
import polars as pl

from cocorrrec_export.data.interactions import Filters, Interactions, load_interactions, prepare
from cocorrrec_export.data.sources import DataSource, load_source, make_cut

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "readers.md"
FILTERS = Filters(min_item_interactions=10, min_user_interactions=10)
BATCH = 100_000
SOME_TEXT = (
    "the and a I to was of it for in is my with that but this we they on place food good great service not had you "
    "have at so were be are as there really just time back like all out very get one would if from here their only "
    'when our me or more what up restaurant delicious naïve café friendly staff \\\\ "recommend" order\n\n price! menu,'
)
WORDS = SOME_TEXT.split(" ")


def generate(reviews: int, *, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Batches of user, item, stars, time: 3.5 reviews per user and 46 a business, as Yelp has, most of them of few."""
    rng = np.random.default_rng(seed)
    users, items = reviews // 3 + 1, reviews // 46 + 1
    for start in range(0, reviews, BATCH):
        count = min(BATCH, reviews - start)
        user, item = ((size * rng.random(count) ** power).astype(np.int64) for size, power in ((users, 4), (items, 3)))
        yield user, item, rng.integers(1, 6, count), rng.integers(1_100_000_000, 1_650_000_000, count)


def names(count: int, prefix: str, length: int, *, seed: int) -> list[str]:
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
    drawn = np.random.default_rng(seed).choice(letters, size=(count, length - len(prefix)))
    return [prefix + "".join(row) for row in drawn]


def write_yelp(path: Path, reviews: int) -> None:
    rng = np.random.default_rng(1)
    sizes = np.clip(rng.lognormal(4.3, 0.85, 5000), 5, 900).astype(int)
    texts = [json.dumps(" ".join(rng.choice(WORDS, size=size)), ensure_ascii=False) for size in sizes]
    users, items = names(reviews // 3 + 1, "", 22, seed=2), names(reviews // 46 + 1, "", 22, seed=3)
    with path.open("w") as file:
        for user, item, stars, seconds in generate(reviews, seed=4):
            dates = np.datetime_as_string(seconds.astype("datetime64[s]"))
            file.writelines(
                f'{{"review_id":"{users[-u]}","user_id":"{users[u]}","business_id":"{items[i]}","stars":{s}.0,'
                f'"useful":{s},"funny":0,"cool":1,"text":{texts[(u * 7 + i) % 5000]},"date":"{d.replace("T", " ")}"}}\n'
                for u, i, s, d in zip(user.tolist(), item.tolist(), stars.tolist(), dates.tolist(), strict=True)
            )


def write_ratings(path: Path, reviews: int) -> None:
    users, items = names(reviews // 3 + 1, "A", 14, seed=2), names(reviews // 46 + 1, "B0", 10, seed=3)
    with path.open("w") as file:
        for columns in generate(reviews, seed=4):
            rows = zip(*(column.tolist() for column in columns), strict=True)
            file.writelines(f"{items[i]},{users[u]},{s}.0,{t}\n" for u, i, s, t in rows)


def gzipped(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    with path.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return packed


def ours(path: Path) -> Interactions:
    return load_interactions(path, filters=FILTERS)


def a_cut(path: Path) -> Interactions:
    return load_source(path, DataSource())


def opened(path: Path) -> "gzip.GzipFile | object":
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def json_loads(path: Path) -> Interactions:
    with opened(path) as file:  # type: ignore[attr-defined]
        rows = [json.loads(line) for line in file]
    columns = {"user": "user_id", "item": "business_id", "time": "date"}
    frame = pl.DataFrame({name: [row[key] for row in rows] for name, key in columns.items()})
    return prepare(frame.with_columns(to_time()), filters=FILTERS)


def read_ndjson(path: Path) -> Interactions:
    with opened(path) as file:  # type: ignore[attr-defined]
        frame = pl.read_ndjson(file)
    return prepare(
        frame.select(user="user_id", item="business_id", time="date").with_columns(to_time()), filters=FILTERS
    )


def scan_ndjson(path: Path) -> Interactions:
    schema = dict.fromkeys(("user_id", "business_id", "date"), pl.String)
    lazy = pl.scan_ndjson(path, schema=schema).select(user="user_id", item="business_id", time="date")
    return prepare(lazy.with_columns(to_time()).collect(engine="streaming"), filters=FILTERS)


def read_csv(path: Path) -> Interactions:
    frame = pl.read_csv(path, has_header=False, new_columns=["item", "user", "rating", "time"])
    return prepare(frame.select("user", "item", "time"), filters=FILTERS)


def to_time() -> pl.Expr:
    return pl.col("time").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us").cast(pl.Int64)


WAYS: dict[str, Callable[[Path], Interactions]] = {
    "ours": ours,
    "a prepared data set of it": a_cut,
    "json.loads of each line": json_loads,
    "polars.read_ndjson": read_ndjson,
    "polars.scan_ndjson": scan_ndjson,
    "polars.read_csv": read_csv,
}


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def child(way: str, path: Path) -> None:
    idle, start = peak_bytes(), time.perf_counter()
    made = WAYS[way](path)
    seconds = time.perf_counter() - start
    digest = f"{made.vocabulary_sha256} {made.num_users} {len(made.items)} {made.items[:1000].tolist()}"
    print(json.dumps({"seconds": seconds, "peak": peak_bytes(), "idle": idle, "made": digest}))


def measure(way: str, path: Path) -> dict:
    command = [sys.executable, __file__, "--way", way, "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way} of {path.name} failed: {done.stderr}")
    return json.loads(done.stdout)


def side_by_side(title: str, path: Path, ways: list[str], rounds: int) -> list[dict]:
    cut = path.with_name("of.cut")
    make_cut(path, DataSource(filters=FILTERS), cut)
    samples: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            samples[way].append(measure(way, cut if way == "a prepared data set of it" else path))
            print(f"{title}, {way}: {samples[way][-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    made = {sample["made"] for each in samples.values() for sample in each}
    assert len(made) == 1, f"{title}: the ways do not give the same interactions: {made}"
    return [
        {
            "file": f"{title}, {path.stat().st_size / 1e6:,.0f} MB",
            "way": f"{way}, {cut.stat().st_size / 1e6:.0f} MB" if way == "a prepared data set of it" else way,
            "seconds": [sample["seconds"] for sample in each],
            "peak": [sample["peak"] for sample in each],
            "idle": [sample["idle"] for sample in each],
        }
        for way, each in samples.items()
    ]


def blocks(rows: list[dict], machine: str) -> dict[str, list[str]]:
    """What the page has between its marks."""
    idle = min(min(row["idle"]) for row in rows)
    lines = ["| file | way | seconds | peak memory MB |", "|---|---|---|---|"]
    for row in rows:
        seconds, peak = statistics.median(row["seconds"]), statistics.median(row["peak"])
        lines.append(f"| {row['file']} | {row['way']} | {seconds:.2f} | {peak / 1e6:,.0f} |")
    return {"machine": [f"{machine} Before it reads, a process has {idle / 1e6:.0f} MB."], "files": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=1_000_000, help="of the files that every way reads")
    parser.add_argument("--large", type=int, default=7_500_000, help="of the file that ours alone reads; 0: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--json", type=Path, help="file for all raw samples")
    parser.add_argument("--output", type=Path, default=PAGE, help="page whose figures are filled in")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        child(options.way, options.file)
        return
    rows: list[dict] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        yelp, amazon = folder / "yelp_academic_dataset_review.json", folder / "All_Beauty.csv"
        count = f"{options.reviews:,}"
        write_yelp(yelp, options.reviews)
        eager = ["ours", "a prepared data set of it", "json.loads of each line", "polars.read_ndjson"]
        rows += side_by_side(f"{count} Yelp reviews", yelp, [*eager, "polars.scan_ndjson"], options.rounds)
        packed = gzipped(yelp)
        rows += side_by_side("the same, gzipped", packed, ["ours", *eager[2:]], options.rounds)
        write_ratings(amazon, options.reviews)
        rows += side_by_side(f"{count} Amazon ratings", amazon, ["ours", "polars.read_csv"], options.rounds)
        if options.large:
            packed.unlink()
            write_yelp(yelp, options.large)
            rows += side_by_side(f"{options.large:,} Yelp reviews", yelp, ["ours", "a prepared data set of it"], 1)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
    pages.fill(options.output, blocks(rows, f"{system}polars {pl.__version__}."))
    print(options.output.read_text())


if __name__ == "__main__":
    main()
