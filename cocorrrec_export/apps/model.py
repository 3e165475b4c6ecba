"""What an app has to know of an export, and the items that go with it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocorrrec_export.artifact.inspect import inspect
from cocorrrec_export.artifact.manifest import Artifact, open_artifact
from cocorrrec_export.contract import TensorSpec
from cocorrrec_export.data.catalogue import items_of_model, read_items
from cocorrrec_export.errors import UsageError
from cocorrrec_export.modeling.store import ModelFolder, find_model, open_model

_VERSION_DIGITS = 16
_LISTS = ("ids", "candidates")


@dataclass(frozen=True)
class AppModel:
    """An exported on-device model, checked by its hashes."""

    artifact: Artifact
    metadata: dict[str, str | int]
    """What the program reports about itself."""
    items: list[tuple[str, str]]
    """The app's own id and the title of each item; the program's ids are places in the list, from 1."""
    has_titles: bool

    @property
    def version(self) -> str:
        """Names the weights: a server with others refuses."""
        return str(self.artifact.manifest["model"]["sha256"])[:_VERSION_DIGITS]

    @property
    def correction_tensors(self) -> tuple[TensorSpec, ...]:
        """What ``rank_corrected`` takes besides ids and candidates; empty without that entry point."""
        found = [entry for entry in self.artifact.entry_points if entry.name == "rank_corrected"]
        return tuple(spec for entry in found for spec in entry.inputs if spec.name not in _LISTS)

    @property
    def correction(self) -> str:
        """``kernel``, ``vector`` or ``none``."""
        names = [spec.name for spec in self.correction_tensors]
        return "none" if not names else "vector" if names == ["vector"] else "kernel"

    @property
    def items_note(self) -> str:
        """What ``items.json`` has, for a bundle's page."""
        return (
            "`items.json`: your ids and titles" if self.has_titles else "`items.json`: numbers, as the model has none"
        )

    @property
    def items_json(self) -> str:
        """``items.json`` of a bundle: the digest of the weights that its ids belong to, and the items."""
        facts: dict[str, Any] = {"model_sha256": self.artifact.manifest["model"]["sha256"], "items": self.items}
        return json.dumps(facts, ensure_ascii=False, separators=(",", ":")) + "\n"


def open_app_model(path: Path, *, targets: tuple[str, ...], system: str, model: str | None) -> AppModel:
    """Check an export by its hashes, and find the items that its ids mean.

    Args:
        path: folder of an exported SCN or baseline.
        targets: of those that the system runs.
        system: its name, for the error.
        model: name or folder of the model that was exported; by default the shipped one of the same name.

    Raises:
        UsageError: another kind or target, or ``model`` is another model than the exported one.
        CocorrrecError: a file is missing or changed.
    """
    artifact = open_artifact(path)
    if artifact.kind != "scn" or artifact.target not in targets:
        raise UsageError(
            f"{path} holds a {artifact.kind} for {artifact.target}: {system} runs what "
            f"'cocorr-export scn --target {' or --target '.join(targets)}' wrote"
        )
    metadata = inspect(path).facts.metadata
    vocab_size = int(metadata["vocab_size"])
    folder = _model_of(artifact, model)
    has_items = folder is not None and folder.items_path.is_file()
    if folder is None or not has_items:
        return AppModel(artifact, metadata, [(str(i), str(i)) for i in range(1, vocab_size)], has_titles=False)
    items_of_model(folder)
    items = read_items(folder.items_path)
    if sorted(items) != list(range(1, vocab_size)):
        raise UsageError(f"{folder.items_path} does not name the items 1 to {vocab_size - 1} of {path}")
    return AppModel(artifact, metadata, [items[i] for i in range(1, vocab_size)], has_titles=True)


def _model_of(artifact: Artifact, given: str | None) -> ModelFolder | None:
    exported = artifact.manifest["model"]
    try:
        folder = open_model(find_model(given or exported["name"]))
    except UsageError:
        if given is not None:
            raise
        return None
    if folder.sha256 != exported["sha256"]:
        raise UsageError(
            f"{artifact.path} was exported from other weights ({exported['sha256'][:16]}) than those of {folder.path} "
            f"({folder.sha256[:16]}): export it again, or name the exported model's folder with --model"
        )
    return folder
