"""From a model folder to a published artifact, and the check of one that exists."""

import dataclasses
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cocorrrec_export import __version__
from cocorrrec_export.artifact.copies import checked_copy
from cocorrrec_export.artifact.manifest import (
    ITEMS,
    VECTORS,
    Artifact,
    describe_entry_points,
    open_artifact,
    owned_files,
    write_manifest,
)
from cocorrrec_export.artifact.recipe import Recipe
from cocorrrec_export.contract import ID_RULE, PART_PREFIX, TENSOR_NAMES, EntryPoint, ParityLimits
from cocorrrec_export.data.catalogue import items_of_model
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.data.held_out import held_out_set
from cocorrrec_export.errors import CocorrrecError, ParityError, UsageError
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.export.flops import entry_flops, per_token_of
from cocorrrec_export.export.graphs import GraphSpec, fit_recipe, gcn_graph, part_bytes, scn_graphs
from cocorrrec_export.export.vectors import check_vectors
from cocorrrec_export.extras import quiet
from cocorrrec_export.files import publish_directory, sha256_file
from cocorrrec_export.forms.quantizer import Calibrated
from cocorrrec_export.modeling.flops import gcn_flops, scn_flops
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.store import ModelFolder, find_model, load_model, open_model, shipped_models
from cocorrrec_export.parity.cases import gcn_cases, scn_cases
from cocorrrec_export.parity.outcome import Verdict, require_tensors
from cocorrrec_export.parity.tensors import tensor_parity
from cocorrrec_export.parity.vectors import Case, write_vectors
from cocorrrec_export.parity.verdict import judge
from cocorrrec_export.runtime.base import Arrays
from cocorrrec_export.runtime.open import open_runtime
from cocorrrec_export.runtime.seal import KEY as SEAL_KEY
from cocorrrec_export.runtime.seal import PLACEHOLDER as SEAL_PLACEHOLDER
from cocorrrec_export.runtime.seal import seal
from cocorrrec_export.targets import find_target


@dataclass(frozen=True)
class Source:
    """What an export reads."""

    folder: ModelFolder
    model: Ranker
    held_out: EvaluationSet | None
    calibrated: Calibrated | None = None
    """Codes of the item table that were fitted to clicks, for a recipe of product quantization."""


def open_source(
    model: str | None,
    data: Path | None,
    *,
    architecture: str | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> Source:
    """A model by name or path, with its held-out users: its own, or those of the interaction file ``data``.

    Args:
        model: None takes the shipped one of the architecture.
        data: interactions; None takes what the model's folder holds.
        architecture: what the model must be; None takes any.
        notice: receives what is to be known of ``data``.

    Raises:
        UsageError: no such model, or it is of another architecture.
        CocorrrecError: the model or the data are damaged, or do not belong together.
    """
    folder = open_model(find_model(model, architecture))
    has_users = data is not None or folder.evaluation_path.is_file()
    held_out = held_out_set(folder, data) if has_users else None
    if data is not None and held_out is not None:
        notice(held_out.describe_compared())
    return Source(folder, load_model(folder), held_out)


def export(source: Source, recipe: Recipe, out: Path, *, progress: Callable[[str], None] = lambda _: None) -> Artifact:
    """Export one half of a model, prove parity, and publish the folder ``out/<kind>-<target>-<precision>``.

    A baseline's folder starts with its architecture instead.

    Args:
        source: the model.
        recipe: what to make of it.
        out: parent of the artifact's folder.
        progress: receives what is being done.

    Raises:
        ParityError: the file is beyond the recipe's limits; nothing is published.
        UsageError: the model has no such half or entry point.
        CocorrrecError: an extra is missing, or the disk is full.
    """
    config = source.folder.config
    recipe = fit_recipe(recipe, config)
    destination = out / recipe.folder(config.architecture)
    with publish_directory(destination, owned_files) as staging:
        graphs = _graphs(source, recipe)
        entry_points = tuple(graph.contract for graph in graphs)
        probability = recipe.scores == "probability"
        cases = _cases(source, entry_points, probability=probability)
        by_name = {entry.name: entry for entry in entry_points}
        progress("parity of the export graph")
        hop = tensor_parity(GraphRuntime(graphs).run, cases, by_name)
        require_tensors("the export graph, before export,", hop, recipe.limits)
        program = staging / find_target(recipe.target).programs[recipe.kind].name
        metadata = _metadata(source.folder, recipe, graphs)
        planned = find_exporter(recipe.target).export(graphs, recipe, program, metadata=metadata, progress=progress)
        seal(program)
        write_vectors(staging / VECTORS, cases, by_name)
        runtime = open_runtime(recipe.target, program, entry_points)
        try:
            verdict = judge(
                runtime,
                source.model,
                config,
                cases,
                recipe.limits,
                source.held_out,
                graph=GraphRuntime(graphs),
                two_tables=recipe.item_side == "folded",
                probability=probability,
                progress=progress,
            )
        except ParityError:
            # The hop between: where torch already traced something else, the converter is not to blame.
            traced = tensor_parity(GraphRuntime([_traced(graph) for graph in graphs]).run, cases, by_name)
            require_tensors("the traced program, before conversion,", traced, recipe.limits)
            raise
        progress("writing the manifest")
        facts = _facts(source, recipe, entry_points, planned, verdict) | _copy_items(source.folder, recipe, staging)
        artifact = write_manifest(staging, facts)
    return Artifact(path=destination, manifest=artifact.manifest)


def _copy_items(folder: ModelFolder, recipe: Recipe, staging: Path) -> dict[str, Any]:
    """Put the item ids next to the on-device model, where the model came with them: the manifest's ``items``.

    Raises:
        CocorrrecError: the file is damaged, or not the model's.
    """
    if recipe.kind != "scn" or not folder.items_path.is_file():
        return {}
    items_of_model(folder)
    path = staging / ITEMS
    shutil.copyfile(folder.items_path, path)
    return {"items": {"file": ITEMS, "sha256": sha256_file(path), "order": "id"}}


def export_each(
    source: Source, recipes: Sequence[Recipe], out: Path, *, progress: Callable[[str], None] = lambda _: None
) -> tuple[list[Artifact], dict[str, str]]:
    """Export by several recipes; one that fails does not stop the others.

    Returns:
        What was published, and the error of each recipe that failed, by its target.
    """
    made: list[Artifact] = []
    failed: dict[str, str] = {}

    def named(target: str) -> Callable[[str], None]:
        return lambda step: progress(f"{target}: {step}")

    for recipe in recipes:
        try:
            made.append(export(source, recipe, out, progress=named(recipe.target)))
        except (CocorrrecError, OSError) as error:
            failed[recipe.target] = str(error)
    return made, failed


def check(
    path: Path,
    *,
    model: str | None,
    data: Path | None,
    architecture: str | None = None,
    limits: ParityLimits | None = None,
    catalog_users: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Check an artifact again: its hashes, then levels 1 and 2 from the file through its runtime.

    Args:
        path: the artifact's folder.
        model: the model it was made from; by default the shipped one of the manifest's name.
        data: interactions, for the ranking of a model that ships no held-out users.
        architecture: of which artifact and model must be; None takes any.
        limits: what must hold; None takes those of the recipe that ships for such a file.
        catalog_users: as in :func:`~cocorrrec_export.parity.ranking.scn_ranking`.
        progress: receives what is being done.
        notice: receives what is to be known of ``data``.

    Raises:
        ParityError: the file is beyond the limits.
        UsageError: artifact or model is of another architecture, or the model is another one than it was made from.
        CocorrrecError: a file is missing, changed or damaged.
    """
    progress("checking hashes")
    artifact = open_artifact(path, architecture=architecture)
    source = open_source(model or _shipped_model_of(artifact), data, architecture=architecture, notice=notice)
    made_from = artifact.manifest["model"]["sha256"]
    if source.folder.sha256 != made_from:
        raise UsageError(
            f"{path} was made from a model with sha256 {made_from[:16]}..., {source.folder.path} has "
            f"{source.folder.sha256[:16]}...: give the right one with --model"
        )
    with checked_copy(artifact) as program:
        runtime, _ = check_vectors(artifact, program, progress, limits=limits)
        # The vectors came with the file; what the model says of it is computed again.
        probability = artifact.manifest["recipe"].get("scores") == "probability"
        return judge(
            runtime,
            source.model,
            source.folder.config,
            _cases(source, artifact.entry_points, probability=probability),
            limits or artifact.limits,
            source.held_out,
            graph=_remade(source, artifact),
            two_tables=artifact.recipe.item_side == "folded",
            probability=probability,
            catalog_users=catalog_users,
            progress=progress,
        )


def _graphs(source: Source, recipe: Recipe) -> list[GraphSpec]:
    config = source.folder.config
    if recipe.kind == "gcn":
        return [gcn_graph(source.model, config)]
    codes = None if source.calibrated is None else source.calibrated.codes
    return scn_graphs(source.model, config, recipe, codes=codes)


def _remade(source: Source, artifact: Artifact) -> "GraphRuntime | None":
    """What a file was converted from; None for calibrated codes, which the model alone does not give again."""
    return None if "calibration" in artifact.manifest else GraphRuntime(_graphs(source, artifact.recipe))


def _shipped_model_of(artifact: Artifact) -> str:
    name = artifact.manifest["model"]["name"]
    shipped = shipped_models()
    if name not in shipped:  # not taken for a path: a manifest may come from anyone
        raise UsageError(f"{artifact.path} was made from model '{name}', which does not ship: give it with --model")
    return name


def _cases(source: Source, entry_points: Sequence[EntryPoint], *, probability: bool) -> list[Case]:
    config = source.folder.config
    by_name = {entry.name: entry for entry in entry_points}
    if "correct" in by_name:
        return gcn_cases(source.model, config, source.held_out)
    return scn_cases(source.model, config, by_name, source.held_out, probability=probability)


class GraphRuntime:
    """Export graphs, run as torch modules: what a file holds before conversion.

    Args:
        graphs: of one recipe.
    """

    executed_by = "torch"

    def __init__(self, graphs: Sequence[GraphSpec]) -> None:
        self._graphs = {graph.name: graph for graph in graphs}
        self.entry_points = {graph.name: graph.contract for graph in graphs}

    @torch.no_grad()
    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        """Run one entry point; see :class:`cocorrrec_export.runtime.base.Runtime`."""
        graph = self._graphs[entry_point]
        outputs = graph.module(*(torch.from_numpy(inputs[spec.name]) for spec in graph.contract.inputs))
        return {spec.name: x.numpy() for spec, x in zip(graph.contract.outputs, outputs, strict=True)}


def _traced(graph: GraphSpec) -> GraphSpec:
    """The entry point as torch traces it for a converter."""
    with quiet():
        program = torch.export.export(graph.module, graph.example, dynamic_shapes=graph.dynamic_shapes)
        return dataclasses.replace(graph, module=program.module())


def _metadata(folder: ModelFolder, recipe: Recipe, graphs: Sequence[GraphSpec]) -> dict[str, str | int]:
    """What an app can read from the file itself."""
    contracts = [graph.contract for graph in graphs]
    names = {x.name: ([spec.name for spec in x.inputs], [spec.name for spec in x.outputs]) for x in contracts}
    facts: dict[str, str | int] = {
        "kind": recipe.kind,
        "precision": recipe.precision,
        "model_name": folder.name,
        "model_sha256": folder.sha256,
        "toolkit_version": __version__,
        "vocab_size": folder.config.vocab_size,
        "id_rule": ID_RULE,
        "sequence_length": folder.config.sequence_length,
        "entry_points": ",".join(names),
        TENSOR_NAMES: json.dumps(names, separators=(",", ":")),
        SEAL_KEY: SEAL_PLACEHOLDER,
    }
    facts |= {f"{PART_PREFIX}{part}": size for part, size in part_bytes(graphs, recipe.activations).items()}
    facts["correction"] = folder.config.correction
    if recipe.kind == "scn":
        facts |= {"candidates": recipe.candidates, "item_side": recipe.item_side, "scores": recipe.scores}
    return facts


def _facts(
    source: Source, recipe: Recipe, entry_points: tuple[EntryPoint, ...], planned: dict[str, int], verdict: Verdict
) -> dict[str, Any]:
    """The manifest, but for what :func:`write_manifest` adds."""
    config, model = source.folder.config, source.model
    cloud = 0 if model.gcn is None else sum(x.numel() for x in model.gcn.parameters())
    parameters = cloud if recipe.kind == "gcn" else sum(x.numel() for x in model.parameters()) - cloud
    paper = (scn_flops(config) if recipe.kind == "scn" else gcn_flops(config)).paper
    flops = entry_flops(config, recipe)
    calibration = {} if source.calibrated is None else {"calibration": source.calibrated.facts}
    packages = ("torch", *find_target(recipe.target).distributions)
    return {
        "kind": recipe.kind,
        "target": recipe.target,
        "precision": recipe.precision,
        "recipe": recipe.as_table(),
        "toolkit_version": __version__,
        "backends": {name: importlib.metadata.version(name) for name in packages},
        "model": {
            "name": source.folder.name,
            "architecture": config.architecture,
            "parameters": parameters,
            "sha256": source.folder.sha256,
        },
        "entry_points": describe_entry_points(entry_points),
        "parity": verdict.as_dict(),
        "flops_per_token": {"paper": paper, "all": per_token_of(flops)},
        "flops": {entry.name: entry.as_dict() for entry in flops},
        "memory": {"planned_bytes": planned},
    } | calibration
