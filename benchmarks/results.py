"""The results of the ready models, side by side: the table of the README.

    python benchmarks/results.py measure    # ranks, exports (ExecuTorch, int8) and profiles each model on this host
    python benchmarks/results.py render     # writes the table into README.md

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
WAYS = {"alone": "phone alone", "corrected": "with the cloud"}


def ask(name: str, *arguments: str, cwd: Path) -> Any:
    """The one JSON object that a command prints."""
    program = Path(sys.executable).parent / f"cocorr-{name}"
    return json.loads(subprocess.check_output([program, *arguments, "--json"], cwd=cwd))


def measure_model(row: dict[str, Any]) -> dict[str, Any]:
    """Ranking, size and latency of one ready model."""
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        ranked = ask("export", "evaluate", "--model", row["name"], cwd=cwd)
        made = ask(
            "export",
            "scn",
            "--target",
            "executorch",
            "--precision",
            "int8",
            "--model",
            row["name"],
            "--out",
            ".",
            cwd=cwd,
        )
        profile = ask("profile", made["path"], "--host", "--iterations", "2000", cwd=cwd)
    latency = {entry["name"]: entry["runs"][0]["p50_us"] for entry in profile["entry_points"]}
    return {
        "model": row["name"],
        "architecture": row["architecture"],
        "sha256": row["sha256"],
        "users": ranked["users"],
        "sampled": {way: metrics["ndcg@10"] for way, metrics in ranked["metrics"].items()},
        "full": {way: metrics["ndcg@10"] for way, metrics in ranked["full"].items()},
        "bytes": profile["artifact"]["bytes"],
        "rank_us": latency["rank"],
        "step_us": latency.get("step"),
        "machine": f"{profile['machine']['soc']}, {profile['machine']['os']}",
        "runtime": profile["runner"]["runtime"],
    }


def measure() -> None:
    """Measure every ready model that ships its held-out users, one after the other."""
    known = {row["model"]: row for row in read()}
    rows = []
    for row in ask("export", "models", cwd=ROOT):
        if not row["held_out_users"]:
            continue
        found = known.get(row["name"])
        if found is None or found["sha256"] != row["sha256"]:
            print(row["name"], file=sys.stderr, flush=True)
            found = measure_model(row)
        rows.append(found)
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
        full = f"{row['full'][way]:.4f}" if way in row["full"] else "not measured"
        step = "none" if row["step_us"] is None else f"{row['step_us']:.0f}"
        cells = (name, f"{sampled:.4f}", full, f"{row['bytes'] / 1e6:.2f}", f"{row['rank_us']:.0f}", step)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


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
