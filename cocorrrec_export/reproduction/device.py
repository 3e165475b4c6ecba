"""What each architecture costs on a device: its exported int8 file, timed on this machine by the native runner.

Weights are random, those of norms too, since a converter drops a product with ones: they change neither time nor size.
"""

import dataclasses
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cocorrrec_export.artifact.recipe import choose_recipe
from cocorrrec_export.errors import UsageError, nearest
from cocorrrec_export.export.graphs import gcn_contract
from cocorrrec_export.extras import require
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.store import open_model, save_model
from cocorrrec_export.profiling.machines.host import open_host
from cocorrrec_export.profiling.machines.runs import Machine
from cocorrrec_export.profiling.measure import Settings, Shape, measure_shapes
from cocorrrec_export.profiling.runner.package import ensure_package, host_abi
from cocorrrec_export.profiling.shapes import export_shapes
from cocorrrec_export.targets import find_target, with_runner

TIMED = ("rank", "rank_corrected", "step")
"""Entry points that are timed, of those that the architecture has."""
TURNS = 3
"""Each file is timed as often, with the others' in between; the smallest median is that of the quietest moment."""
_SETTINGS = Settings(iterations=300, warmup=50)
_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class DeviceCost:
    """Of one architecture."""

    bytes: int
    """Of the file, all entry points in it."""
    p50_us: dict[str, float]
    """By entry point: the median of a call, in microseconds, on one thread."""


def random_model(config: ModelConfig) -> Ranker:
    """A model of ``config`` none of whose weights is at its start."""
    generator = torch.Generator().manual_seed(1)
    model = build_model(config, generator=generator)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
    return model


def prepare_device(target: str, progress: Callable[[str], None]) -> None:
    """Build the runner if there is none, so that what is missing for it comes to light before the training.

    Raises:
        CocorrrecError: the target's toolkit is not installed, or the runner cannot be built here.
        UsageError: there is no such target, or its files have no runner.
    """
    if target not in with_runner():
        raise UsageError(f"unknown --target '{target}' ({nearest(target, (*with_runner(), 'none'))})")
    require(find_target(target).extra, "or leave the costs out with --target none")
    ensure_package(target, host_abi(), progress)


def measure_device(
    configs: dict[str, ModelConfig], target: str, *, progress: Callable[[str], None]
) -> tuple[dict[str, DeviceCost], dict[str, Any]]:
    """Export each model in int8, and time it.

    Args:
        configs: by name.
        target: ``executorch`` or ``tflite``.
        progress: receives what is being done.

    Returns:
        The costs by name, and what the machine is.

    Raises:
        CocorrrecError: an export or a run failed.
    """
    recipe = choose_recipe("scn", target, precision="int8")
    package = ensure_package(target, host_abi(), progress)
    with (
        tempfile.TemporaryDirectory(prefix="cocorr-reproduce-") as folder,
        open_host(target, package, timeout_s=_TIMEOUT_S) as host,
    ):
        shapes = {}
        for index, (name, config) in enumerate(configs.items()):
            own = Path(folder) / str(index)
            own.mkdir()
            save_model(own, random_model(config), config, name=f"random-{index}")
            size = [(config.sequence_length, recipe.candidates)]
            progress(f"exporting {name}")
            (shape,) = export_shapes(open_model(own), recipe, size, recipe.entry_points, own, progress=lambda _: None)
            shapes[name] = dataclasses.replace(shape, inputs={k: v for k, v in shape.inputs.items() if k in TIMED})
        timed = [_timed(host, shapes, progress) for _ in range(TURNS)]
        return {
            name: DeviceCost(
                shape.program.bytes, {point: min(turn[name][point] for turn in timed) for point in shape.inputs}
            )
            for name, shape in shapes.items()
        }, host.facts()


def _timed(host: Machine, shapes: dict[str, Shape], progress: Callable[[str], None]) -> dict[str, dict[str, float]]:
    return {
        name: {row["entry_point"]: row["p50_us"] for row in measure_shapes(host, [shape], _SETTINGS, progress)}
        for name, shape in shapes.items()
    }


def wire_bytes(config: ModelConfig) -> tuple[int, int]:
    """Bytes of the tensors that one user's exchange with the cloud sends up and gets back, without headers."""
    contract = gcn_contract(config)
    up, down = (
        sum(4 * math.prod(1 if size == "N" else int(size) for size in spec.shape) for spec in specs)
        for specs in (contract.inputs, contract.outputs)
    )
    return up, down
