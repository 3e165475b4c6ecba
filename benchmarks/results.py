"""The results of the ready models, side by side: the table of the README.

    python benchmarks/results.py measure    # exports (ExecuTorch, int8) and profiles each ready model here
    python benchmarks/results.py render     # writes the table into README.md; benchmarks/pictures.py draws it

``measure`` keeps its figures in ``docs/results.json`` and continues where it was stopped; a model whose weights changed
is measured again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- results -->\n", "<!-- /results -->"
MISSING = "not measured"
WAYS = {"alone": "phone alone", "corrected": "with the cloud"}


def ask(name: str, *arguments: str, cwd: Path) -> Any:
    """The one JSON object that a command prints."""
    program = Path(sys.executable).parent / f"cocorr-{name}"
    return json.loads(subprocess.check_output([program, *arguments, "--json"], cwd=cwd))


def ranking(row: dict[str, Any]) -> dict[str, Any]:
    """How a ready model ranks, as its card has it: a test holds the cards to the weights."""
    return {
        "model": row["name"],
        "architecture": row["architecture"],
        "sha256": row["sha256"],
        "sampled": {way: row["metrics"][way]["ndcg@10"] for way in WAYS if way in row["metrics"]},
        "full": {way: found["ndcg@10"] for way, found in row["metrics"].get("full", {}).items() if way in WAYS},
    }


def cost(name: str) -> dict[str, Any]:
    """Size and latency of a ready model's int8 file."""
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        recipe = ("--target", "executorch", "--precision", "int8")
        made = ask("export", "scn", *recipe, "--model", name, "--out", ".", cwd=cwd)
        profile = ask("profile", made["path"], "--host", "--iterations", "2000", cwd=cwd)
    latency = {entry["name"]: entry["runs"][0]["p50_us"] for entry in profile["entry_points"]}
    return {
        "bytes": profile["artifact"]["bytes"],
        "rank_us": latency["rank"],
        "step_us": latency.get("step"),
        "machine": f"{profile['machine']['soc']}, {profile['machine']['os']}",
        "runtime": profile["runner"]["runtime"],
        "iterations": profile["settings"]["iterations"],
    }


def measure() -> None:
    """Collect the rankings, then measure the cost of every ready model that ships its held-out users, one by one."""
    known = {row["sha256"]: row["cost"] for row in read()}
    rows = [ranking(row) for row in ask("export", "models", cwd=ROOT) if row["held_out_users"]]
    for row in rows:
        row["cost"] = known.get(row["sha256"])
    write(rows)
    for row in rows:
        if row["cost"] is None:
            print(row["model"], file=sys.stderr, flush=True)
            row["cost"] = cost(row["model"])
            write(rows)


def write(rows: list[dict[str, Any]]) -> None:
    """Keep the figures."""
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def read() -> list[dict[str, Any]]:
    """The figures that were measured."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []


def table(rows: list[dict[str, Any]]) -> str:
    """The table, the best ranking first; per model one row for each way of ranking."""
    lines = [
        "| model | NDCG@10, 1 of 101 | NDCG@10, whole catalog | int8 MB | `rank` µs | `step` µs |",
        "|---|---|---|---|---|---|",
    ]
    flat = [(row["sampled"][way], way, row) for row in rows for way in row["sampled"]]
    for sampled, way, row in sorted(flat, key=lambda x: -x[0]):
        name = row["model"] if len(row["sampled"]) == 1 else f"{row['model']}, {WAYS[way]}"
        full = f"{row['full'][way]:.4f}" if way in row["full"] else MISSING
        lines.append(f"| {' | '.join((name, f'{sampled:.4f}', full, *costs(row['cost'])))} |")
    return "\n".join(lines) + "\n"


def costs(cost: dict[str, Any] | None) -> tuple[str, str, str]:
    """The cells of size, ``rank`` and ``step``."""
    if cost is None:
        return MISSING, MISSING, MISSING
    step = "none" if cost["step_us"] is None else f"{cost['step_us']:.0f}"
    return f"{cost['bytes'] / 1e6:.2f}", f"{cost['rank_us']:.0f}", step


def rendered(readme: str, rows: list[dict[str, Any]]) -> str:
    """The README with the table between its marks."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + table(rows) + END + rest.split(END, 1)[1]


def main() -> None:
    """Parse, and do one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "render"))
    if parser.parse_args().what == "measure":
        measure()
        return
    README.write_text(rendered(README.read_text(encoding="utf-8"), read()), encoding="utf-8")


if __name__ == "__main__":
    main()
