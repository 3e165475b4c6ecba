"""Is this machine ready: what is installed, and does each backend export and run a tiny graph."""

import dataclasses
import importlib.metadata
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement

from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.doctor.check import Check
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.extras import DISTRIBUTION, EXTRAS, require
from cocorrrec_export.isolation import in_child
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.profiling.machines.adb import DeviceError, NoAdbError, attached_devices, find_adb
from cocorrrec_export.runtime.open import open_runtime
from cocorrrec_export.targets import TARGETS, Kind, find_target

TOLERANCE = 1e-4


def checks(progress: Callable[[str], None] = lambda _: None) -> Iterator[Check]:
    """Every check in turn; those of backends take seconds each."""
    yield Check("python", True, platform.python_version())
    packages: dict[str, Check] = {}
    for extra in ("", *EXTRAS):
        for check in _package_checks(extra):
            packages.setdefault(check.name, check)  # an extra may hold another's
    yield from packages.values()
    for row in TARGETS.values():
        for kind in row.programs:
            progress(f"a tiny {kind} for {row.name}")
            yield _backend_check(kind, row.name)
    progress("adb")
    yield _adb_check()


def _package_checks(extra: str) -> Iterator[Check]:
    """The versions of what the package, or one of its extras, requires."""
    for text in importlib.metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        wanted = marker is None if not extra else marker is not None and f"'{extra}'" in str(marker).replace('"', "'")
        if not wanted or requirement.name == DISTRIBUTION:
            continue
        install = f"pip install '{DISTRIBUTION}{f'[{extra}]' if extra else ''}'"
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(requirement.name, False, "not installed", install)
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        detail = version if fits else f"{version}, wanted {requirement.specifier}"
        yield Check(requirement.name, fits, detail, "" if fits else f"{install} --upgrade")


def _backend_check(kind: Kind, target: str) -> Check:
    name = f"{kind} for {target}"
    try:
        require(target)
        return Check(name, True, in_child(f"a tiny export for {target}", export_and_run, kind, target))
    except CocorrrecError as error:
        return Check(name, False, str(error), f"pip install '{DISTRIBUTION}[{target}]' --upgrade --force-reinstall")


def export_and_run(kind: Kind, target: str) -> str:
    """Export one entry point of a tiny model, run the file, and compare it with the model.

    Raises:
        CocorrrecError: it computes something else.
    """
    import torch

    from cocorrrec_export.export.graphs import gcn_graph, scn_graphs
    from cocorrrec_export.modeling.build import build_model

    start = time.monotonic()
    config = ModelConfig(vocab_size=40)
    model = build_model(config, generator=torch.Generator().manual_seed(0)).eval()
    recipe = choose_recipe(kind, target)
    if kind == "gcn":
        graph = gcn_graph(model, config)
    else:
        recipe = dataclasses.replace(recipe, entry_points=("rank",))
        (graph,) = scn_graphs(model, config, recipe)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / find_target(target).programs[kind].name
        find_exporter(target).export([graph], recipe, program, metadata={})
        runtime = open_runtime(target, program, [graph.contract])
        inputs = {spec.name: x.numpy() for spec, x in zip(graph.contract.inputs, graph.example, strict=True)}
        actual = runtime.run(graph.name, inputs)[graph.contract.outputs[0].name]
    with torch.no_grad():
        expected = graph.module(*graph.example)[0].numpy()
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE:
        raise CocorrrecError(f"exports and runs, but differs by {difference:.3g}")
    return f"exports and runs in {time.monotonic() - start:.1f} s, within {difference:.1g} ({runtime.executed_by})"


def _adb_check() -> Check:
    """adb is for phones alone: without one, nothing is wrong."""
    try:
        adb = find_adb()
        devices = attached_devices(adb)
    except NoAdbError:
        return Check("adb", True, "not found: profiles on a phone need it", "apt-get install adb, or Android's SDK")
    except DeviceError as error:
        return Check("adb", False, str(error), "adb kill-server")
    listed = ", ".join(f"{device.serial} ({device.state})" for device in devices) or "no phone connected"
    return Check("adb", True, f"{adb}: {listed}")
