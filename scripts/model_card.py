"""Print the tables of a model's card from its ``model.toml``: both protocols, the cloud's answer, what it must beat.

python scripts/model_card.py models/cocorrrec-movielens
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

SAMPLED = ("uauc", "ndcg@5", "ndcg@10", "ndcg@20", "hr@5", "hr@10", "hr@20")
FULL = (*SAMPLED, "mrr")
ANSWERS = {
    "own": "the user's own",
    "other": "another user's",
    "mean": "the mean of all users'",
    "short": "the user's own, to the phone's clicks alone",
}
DIFFERENCES = ("sampled:ndcg@10", "sampled:hr@10", "sampled:uauc", "full:ndcg@10", "full:hr@10")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def metrics_table(names: tuple[str, ...], ways: dict[str, dict[str, float]]) -> str:
    """One row per way of ranking."""
    return table(["", *names], [[way, *(f"{found[name]:.4f}" for name in names)] for way, found in ways.items()])


def card(metrics: dict[str, Any]) -> str:
    """The tables."""
    labels = {"corrected": "with the cloud's answer", "alone": "the phone alone"}
    own = {labels[way]: metrics[way] for way in labels if way in metrics}
    full = {labels[way]: found for way, found in metrics["full"].items()}
    references = metrics.get("references", {})
    parts = [
        "One item among 100 sampled ones:\n",
        metrics_table(SAMPLED, own | {name: found["sampled"] for name, found in references.items()}),
        "One item in the whole catalog, without what the user had before:\n",
        metrics_table(FULL, full | {name: found["full"] for name, found in references.items()}),
    ]
    if "paired" in metrics:
        rows = [
            [label, *("{:+.4f} ± {:.4f}".format(*metrics["paired"][way][name]) for name in DIFFERENCES)]
            for way, label in ANSWERS.items()
        ]
        parts += [
            "What the cloud's answer changes, and what another one in its place does (difference from the phone alone, "
            "paired standard error over users):\n",
            table(["answer", *DIFFERENCES], rows),
        ]
    return "\n".join(parts)


if __name__ == "__main__":
    print(card(tomllib.loads((Path(sys.argv[1]) / "model.toml").read_text(encoding="utf-8"))["metrics"]))
