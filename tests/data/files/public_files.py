"""Small files as Amazon and Yelp hand them out, of the same interactions."""

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    user: str
    item: str
    rating: float
    time: int  # seconds since 1970


def rows(count: int = 300, *, books: int = 0) -> list[Row]:
    rng = np.random.default_rng(0)
    users = [f"A{i:013X}" for i in rng.integers(1 << 40, size=20)]
    items = [f"B{i:09X}" for i in rng.integers(1 << 32, size=30)] + ["0123456789", "130466578X"]
    items += [f"{i:010}" for i in range(books)]
    return [
        Row(users[rng.zipf(1.5) % 20], items[rng.integers(len(items))], float(rng.integers(1, 6)), int(t))
        for t in rng.integers(1_300_000_000, 1_400_000_000, size=count)
    ]


def _amazon_2014(row: Row) -> str:
    return f"{row.user},{row.item},{row.rating},{row.time}"


def _amazon_2018(row: Row) -> str:
    return f"{row.item},{row.user},{row.rating},{row.time}"


def _amazon_2023(row: Row) -> str:
    return f"{row.user},{row.item},{row.rating},{row.time * 1000}"


TEXT = 'Très bon: "really", \\ said {she}, [1,\n2] \U0001f600 ' * 8


def _review_2014(row: Row) -> str:
    facts = {"reviewerID": row.user, "asin": row.item, "reviewerName": "A. 'B'", "helpful": [2, 3]}
    return json.dumps(facts | {"reviewText": TEXT, "overall": row.rating, "unixReviewTime": row.time})


def _review_2023(row: Row) -> str:
    facts = {"rating": row.rating, "text": TEXT, "images": [{"small_image_url": "https://x"}], "asin": "B000OTHER1"}
    facts |= {"parent_asin": row.item, "user_id": row.user, "timestamp": row.time * 1000, "verified_purchase": True}
    return json.dumps(facts, ensure_ascii=False)


def date(row: Row) -> str:
    return datetime.fromtimestamp(row.time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def yelp_review(row: Row) -> str:
    facts = {"review_id": "r", "user_id": row.user, "business_id": row.item, "stars": row.rating, "useful": 1}
    return json.dumps(facts | {"funny": 0, "cool": 0, "text": TEXT, "date": date(row)})


class Release(NamedTuple):
    file: str
    format: str
    line: Callable[[Row], str]
    header: str = ""


RELEASES = {
    "amazon ratings 2014": Release("ratings_Beauty.csv", "amazon-ratings", _amazon_2014),
    "amazon ratings 2018": Release("All_Beauty.csv", "amazon-ratings", _amazon_2018),
    "amazon ratings 2023": Release(
        "All_Beauty.csv", "amazon-ratings", _amazon_2023, "user_id,parent_asin,rating,timestamp\n"
    ),
    "amazon ratings, kaggle": Release(
        "ratings_Beauty.csv", "amazon-ratings", _amazon_2014, "UserId,ProductId,Rating,Timestamp\n"
    ),
    "amazon reviews 2014": Release("reviews_Beauty_5.json", "amazon-reviews", _review_2014),
    "amazon reviews 2023": Release("All_Beauty.jsonl", "amazon-reviews", _review_2023),
    "yelp reviews": Release("yelp_academic_dataset_review.json", "yelp-reviews", yelp_review),
}


def write(path: Path, text: str | bytes) -> Path:
    """The file, gzipped where its name says so."""
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def write_release(folder: Path, release: Release, made: list[Row], *, suffix: str = "") -> Path:
    text = release.header + "".join(release.line(row) + "\n" for row in made)
    return write(folder / (release.file + suffix), text)


def csv_lines(made: list[Row]) -> Iterator[str]:
    """The same as a CSV file with a header."""
    yield "user,item,rating,timestamp\n"
    yield from (f"{row.user},{row.item},{row.rating},{row.time}\n" for row in made)
