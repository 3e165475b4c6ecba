"""How far exported files are from the model in float64: mini-batches, lengths, head sizes, weights, targets, histories.

Each case exports one float32 file and runs all its entry points, as tests/export/test_drift.py does for a sample of the
cases. Each is a line of the output file as soon as it is done; with the same output file a later run does what is
missing. A case that fails, or takes longer than the limit, is written down as such. The target "graph" is what all
others are converted from, run by torch: all of its cases take a minute or two. Ends with a table of the worst error for
each target, size of mini-batch, and length, and with exit status 1 if one is too large or not computed.

    python -m benchmarks.drift --out drift.jsonl --limit 300
"""

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.drift import FORMS, GRAPH, HIDDEN, KINDS, Case, Error, errors

TARGETS = (GRAPH, "executorch", "tflite", "onnx", "coreml")
MINI_BATCHES = (10, 2, 1)
LENGTHS = (10, 50, 200)
HEAD_SIZES = (2, 4, 8, 16, 32)
WEIGHTS = ("untrained", "trained")
CASES_OF_A_WORKER = 30
"""Then a new one takes over: compilers of four toolkits do not give back all their memory."""


def grid() -> list[Case]:
    """All cases: of each mini-batch and length one for each target, the cheapest first, then the next, ten times.

    So a run that is ended early has seen some of everything. The two forms of the model take turns.
    """
    sizes = list(itertools.product(enumerate(MINI_BATCHES), enumerate(LENGTHS)))
    sizes.sort(key=lambda x: -(-x[1][1] // x[0][1]))
    heads_and_weights = list(itertools.product(HEAD_SIZES, WEIGHTS))
    forms, cases = tuple(FORMS), []
    for turn in range(len(heads_and_weights)):
        for (i, mini_batch), (j, length) in sizes:
            # 3 and 10 have no divisor in common: each turn another pair, in each cell from another one on.
            head, weights = heads_and_weights[3 * (turn + i + j) % len(heads_and_weights)]
            form = forms[(turn + i + j) // len(WEIGHTS) % len(forms)]
            cases += [Case(target, weights, mini_batch, length, HIDDEN // head, form) for target in TARGETS]
    return cases


def key(case: Case) -> dict[str, Any]:
    """What a line says of a case."""
    return {
        "target": case.target,
        "mini_batch": case.mini_batch,
        "length": case.length,
        "head_size": HIDDEN // case.heads,
        "weights": case.weights,
        "form": case.form,
    }


def measure(case: Case) -> dict[str, Any]:
    """The worst of each entry point, and over all of them the largest error and the largest share of the allowed."""
    with tempfile.TemporaryDirectory() as folder:
        found = errors(case, Path(folder))
    by_name: dict[str, list[Error]] = {}
    for each in found:
        by_name.setdefault(each.entry_point, []).append(each)
    worst = {name: dataclasses.asdict(max(some, key=lambda x: x.share)) for name, some in by_name.items()}
    return {"error": max(x.error for x in found), "share": max(x.share for x in found), "worst": worst}


def work(connection: Connection) -> None:
    """Of a worker: a case in, its line out, until it is stopped."""
    while True:
        case = connection.recv()
        try:
            connection.send(measure(case))
        except Exception as error:  # of a converter or a runtime: the next case may do better
            connection.send({"failed": f"{type(error).__name__}: {str(error).splitlines()[:1]}"})


class Worker:
    """A process that measures cases, made again after one that does not end."""

    def __init__(self) -> None:
        self.cases = 0

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self) -> None:
        if self.cases:
            self.process.kill()
            self.process.join()
        self.cases = 0

    def __call__(self, case: Case, limit: float) -> dict[str, Any]:
        if self.cases == 0:
            self.start()
        self.cases += 1
        self.connection.send(case)
        try:
            if self.connection.poll(limit):
                result: dict[str, Any] = self.connection.recv()
            else:
                result = {"failed": f"took longer than {limit:g} s"}
                self.stop()
        except EOFError:
            result = {"failed": "its process died"}
            self.stop()
        if self.cases == CASES_OF_A_WORKER:
            self.stop()
        return result


def done(path: Path) -> list[dict[str, Any]]:
    """What earlier runs wrote, of each case the last line."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return list({identity(line): line for line in lines}.values())


def identity(line: dict[str, Any]) -> tuple[Any, ...]:
    """By which lines of one case are told to be that."""
    return tuple(line[name] for name in key(grid()[0]))


def cell(lines: Iterable[dict[str, Any]]) -> str:
    """Of some cases the worst error, the largest share of what is allowed, how many, and what was not computed."""
    lines = list(lines)
    measured = [line for line in lines if "error" in line]
    worst = [max((line[name] for line in measured), default=0.0) for name in ("error", "share")]
    words = [f"{worst[0]:.1e}, {worst[1]:.2f} of the limit ({len(measured)})"] if measured else []
    if too_large := sum(line["share"] > 1 for line in measured):
        words.append(f"{too_large} too large")
    if failed := len(lines) - len(measured):
        words.append(f"{failed} not computed")
    return ", ".join(words) or "-"


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Targets in rows; sizes of mini-batch and lengths in columns."""
    sizes = list(itertools.product(MINI_BATCHES, LENGTHS))
    yield "| target | " + " | ".join(f"K = {K}, L = {L}" for K, L in sizes) + " |"
    yield "|---" * (1 + len(sizes)) + "|"
    for target in TARGETS:
        of_target = [line for line in lines if line["target"] == target]
        cells = (cell(x for x in of_target if (x["mini_batch"], x["length"]) == size) for size in sizes)
        yield f"| {target} | " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of lines of JSON, one per case")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that a case may take")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--most-mini-batches", type=int, default=200, help="leave out the cases with more of them")
    parser.add_argument("--again", action="store_true", help="also what failed before")
    parser.add_argument("--table", action="store_true", help="compute nothing, print the table")
    arguments = parser.parse_args()
    lines = done(arguments.out)
    if arguments.again:
        lines = [line for line in lines if "error" in line]
    known, worker = {identity(line) for line in lines}, Worker()
    for case in [] if arguments.table else grid():
        left_out = -(-case.length // case.mini_batch) > arguments.most_mini_batches
        if left_out or case.target not in arguments.targets or identity(key(case)) in known:
            continue
        start = time.perf_counter()
        line = key(case) | worker(case, arguments.limit) | {"seconds": round(time.perf_counter() - start, 1)}
        lines.append(line)
        with arguments.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print({name: line[name] for name in line if name != "worst"}, flush=True)
    worker.stop()
    print(f"{len(lines)} of {len(grid())} cases, each on {len(KINDS)} histories", *table(lines), sep="\n")
    return int(any("error" not in line or line["share"] > 1 for line in lines))


if __name__ == "__main__":
    sys.exit(main())
