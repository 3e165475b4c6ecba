"""Core ML packages to test with, and ways to damage them."""

import dataclasses
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.artifact.recipe import Recipe, choose_recipe
from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.export import pipeline
from cocorrrec_export.export.graphs import GraphSpec, scn_graphs
from cocorrrec_export.modeling.store import ModelFolder, load_model
from cocorrrec_export.runtime.coreml import CoreMLRuntime
from cocorrrec_export.runtime.mlpackage import Package, open_package, write_model
from tests.models import CONFIG
from tests.once import once

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def recipe(precision: str, item_side: str = "computed") -> Recipe:
    """The shipped recipe, with one or the other item side, for a random model.

    Such a model ranks by differences that quantized weights and float16 do not keep, so the limits of the ranking are
    wide; and not every combination has every entry point, which would take minutes.
    """
    shipped = choose_recipe("scn", "coreml", precision=precision)
    few = precision == "int4" or item_side == "folded"
    wide = {} if precision == "fp32" else {"top10_overlap": 0.6, "metrics_abs": 0.2, "ndcg10_rel": 0.5}
    return dataclasses.replace(
        shipped,
        item_side=item_side,
        entry_points=("encode", "rank", "score") if few else shipped.entry_points,
        limits=dataclasses.replace(shipped.limits, **wide),
    )


class CoreMLExports:
    """Exports one random model, each recipe once."""

    def __init__(self, model: ModelFolder, folder: Path) -> None:
        self.folder = folder
        self.model = model

    def artifact(self, precision: str, item_side: str = "computed") -> Artifact:
        """The published folder."""
        return self._export(precision, item_side)

    @functools.cache  # noqa: B019  # lives as long as the tests
    def _export(self, precision: str, item_side: str) -> Artifact:
        source = pipeline.open_source(str(self.model.path), None)
        chosen, out = recipe(precision, item_side), self.folder / item_side
        return once(out / chosen.folder(self.model.config.architecture), lambda: pipeline.export(source, chosen, out))

    def runtime(self, precision: str, item_side: str = "computed") -> CoreMLRuntime:
        """The file, loaded."""
        artifact = self.artifact(precision, item_side)
        return CoreMLRuntime(artifact.program, artifact.entry_points)

    def graphs(self, precision: str, item_side: str = "computed") -> list[GraphSpec]:
        """What the file was made from."""
        return scn_graphs(load_model(self.model), CONFIG, recipe(precision, item_side))

    def package(self, folder: Path, precision: str = "fp32") -> tuple[Path, tuple[EntryPoint, ...]]:
        """A copy of the package alone, and its contracts."""
        artifact = self.artifact(precision)
        copy = folder / artifact.program.name
        shutil.copytree(artifact.program, copy)
        return copy, artifact.entry_points


def operations(package: Package, function: str) -> Any:
    """The operations of a function, to be changed in place."""
    message = package.model.mlProgram.functions[function]
    return message.block_specializations[message.opset].operations


def change_model(path: Path, change: Callable[[Package], None]) -> None:
    """Change the message in a package."""
    package = open_package(path)
    change(package)
    write_model(package)
