"""From a file of interactions to the paper's tables and figures."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cocorrrec_export.data.files.streaming import check_file
from cocorrrec_export.data.sources import resolve_source
from cocorrrec_export.errors import UsageError, listed, nearest
from cocorrrec_export.files import is_temporary, own_folder
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.reproduction.comparison import Comparison, write_comparison
from cocorrrec_export.reproduction.costs import inference_times, measure_costs
from cocorrrec_export.reproduction.device import DeviceCost, measure_device, prepare_device
from cocorrrec_export.reproduction.paper import TABLE_2
from cocorrrec_export.reproduction.plan import MINI_BATCH_ROW, Plan
from cocorrrec_export.reproduction.report import RESULTS, Findings, write_report
from cocorrrec_export.reproduction.schedule import RUNS, Results, Watcher, Workers, train_all


def reproduce(
    plan: Plan,
    data_file: Path,
    out: Path,
    *,
    paper_data: str | None = None,
    target: str | None = None,
    jobs: int = 1,
    ray: str | None = None,
    keep_models: bool = False,
    watcher: Watcher | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train what ``plan`` asks for, measure costs, and write the report into ``out``.

    Args:
        plan: models, seeds and learning rates.
        data_file: interactions.
        out: folder; what is done already in it is not done again.
        paper_data: the paper's data set that the file is a prepared data set of.
        target: with the recipe ``best``, what the models are exported to and timed as; None leaves that out.
        jobs: runs at a time.
        ray: address of a Ray cluster that the runs are spread over, as of :func:`~.ray.cluster`; None: this machine.
        keep_models: leave the weights of each run.
        watcher: receives the runs.
        progress: receives what is being done after them.

    Returns:
        What ``results.json`` says.

    Raises:
        UsageError: no such file, ``out`` holds other files, or runs of other settings or data, or an unknown data set
            of the paper.
        CocorrrecError: the data cannot be used, or a run failed.
    """
    if paper_data is not None and paper_data not in TABLE_2:
        raise UsageError(f"unknown data set of the paper: '{paper_data}' ({nearest(paper_data, TABLE_2)})")
    check_file(data_file)
    _check_folder(out)
    if target is not None:
        prepare_device(target, progress)
    # A prepared data set says itself what it was made with, and the report has to say it too.
    plan = plan.with_data(resolve_source(data_file, plan.config.data))
    name = data_file.name.split(".")[0]
    with own_folder(out), _workers(ray) as workers:
        results = train_all(plan, data_file, out, jobs=jobs, keep_models=keep_models, watcher=watcher, workers=workers)
        if plan.recipe == "best":
            return _write_comparison(plan, results, out, name, target, progress)
        return _write_paper(plan, results, out, name, paper_data, progress)


def _check_folder(out: Path) -> None:
    """A report could replace files of a folder: they must be those of an earlier one."""
    held = {path.name for path in out.iterdir() if not is_temporary(path.name)} if out.is_dir() else set()
    if held - {RUNS} and not _has_results(out):
        strange = listed(sorted(held - {RUNS}), count=3)
        raise UsageError(f"{out} holds files that this command did not write ({strange}): give another --out")


def _has_results(out: Path) -> bool:
    try:
        facts = json.loads((out / RESULTS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and {"toolkit_version", "settings", "seeds"} <= facts.keys()


@contextmanager
def _workers(ray: str | None) -> Iterator[Workers | None]:
    if ray is None:
        yield None
        return
    from cocorrrec_export.reproduction.ray import cluster

    with cluster(ray) as workers:
        yield workers


def _write_paper(
    plan: Plan, results: Results, out: Path, name: str, paper_data: str | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    configs = _configs(plan, results)
    costs = measure_costs(configs, progress=progress)
    inference_ms: dict[int, float] = {}
    if results.mini_batches:
        progress("time by mini-batch")
        inference_ms = inference_times(configs[MINI_BATCH_ROW], list(results.mini_batches))
    progress("writing the report")
    return write_report(Findings(plan, results, costs, inference_ms, name, paper_data), out)


def _write_comparison(
    plan: Plan, results: Results, out: Path, name: str, target: str | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    configs = _configs(plan, results)
    costs: dict[str, DeviceCost] = {}
    machine: dict[str, Any] = {}
    if target is not None:
        costs, machine = measure_device(configs, target, progress=progress)
    progress("writing the report")
    return write_comparison(Comparison(plan, results, configs, name, target, costs, machine), out)


def _configs(plan: Plan, results: Results) -> dict[str, ModelConfig]:
    """Of every row."""
    vocab_size = next(iter(results.rows.values()))[0].facts["statistics"]["items"] + 1
    return {
        row: ModelConfig.from_dict(plan.settings(own[0].run).model | {"vocab_size": vocab_size}, where=row)
        for row, own in results.rows.items()
    }
