"""From a file of weights to a model folder, and from a model folder back to a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocorrrec_export.data.catalogue import encode_catalogue, item_column, read_catalog
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.held_out import CATALOG, held_out_set
from cocorrrec_export.data.interactions import vocabulary_digest
from cocorrrec_export.data.sources import DataSource, resolve_source
from cocorrrec_export.errors import CocorrrecError, UsageError, nearest
from cocorrrec_export.files import publish_directory, publish_file, sha256_file
from cocorrrec_export.importing.files import read_weights, write_weights
from cocorrrec_export.importing.layouts import LAYOUTS
from cocorrrec_export.importing.own import PLAIN, config_entry
from cocorrrec_export.importing.recognition import Recognized, layout_names, recognize
from cocorrrec_export.importing.rules import to_theirs
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.store import ModelFolder, load_model, save_model, with_todays_names

EVALUATION_NEGATIVES, EVALUATION_SEED = 100, 0


@dataclass(frozen=True)
class Imported:
    """What an import made, and what it had to assume."""

    path: Path
    layout: str
    title: str
    architecture: str
    assumed: dict[str, Any]
    parameters: int
    users: int
    """Held-out users."""


@dataclass(frozen=True)
class Items:
    """The external ids of a model's items, and how to read interactions with them."""

    file: Path
    """CSV with a column of items, in the order of the model's rows from 1 on, or with their rows in a column ``id``."""
    source: DataSource
    interactions: Path | None = None
    """To hold users out of, with which exports are ranked."""


def import_model(
    path: Path,
    out: Path,
    options: dict[str, Any],
    *,
    layout: str | None = None,
    architecture: str | None = None,
    name: str | None = None,
    items: Items | None = None,
    evaluation: Path | None = None,
) -> Imported:
    """Make a model folder of a file of weights.

    Args:
        path: a ``.safetensors`` file, or a state_dict that torch saved.
        out: the new folder.
        options: keys of a config that no tensor tells.
        layout: the only one to try; None tries all.
        architecture: the only one to try.
        name: the model's; None takes that of ``out``.
        items: the external ids; None leaves them out.
        evaluation: held-out users by internal ids, as ``evaluation.safetensors`` of a model folder.

    Raises:
        UsageError: ``out`` holds something, or an option has no meaning.
        CocorrrecError: the file cannot be read or is of no known layout, or the items are not the model's.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} exists already: give another --out")
    found = recognize(path, read_weights(path), options, layout=layout, architecture=architecture)
    model = build_model(found.config)
    model.load_state_dict(with_todays_names(found.tensors, model))
    item_ids, titled = ([], False) if items is None else _item_ids(items, found)
    facts = {} if items is None else _data_facts(items, item_ids)
    with publish_directory(out, lambda _: None) as staging:
        if items is not None:
            named = Columns(item=item_column(items.file, items.source.columns))
            titles = items.file if titled else None
            with publish_file(staging / "items.csv.gz") as file:
                file.write_bytes(encode_catalogue(item_ids, titles=titles, columns=named))
        described = ModelFolder(
            path=staging, name=name or out.resolve().name, config=found.config, sha256="", weights_sha256="", data=facts
        )
        held_out = _held_out(described, found, items, evaluation)
        if held_out is not None:
            held_out.save(described.evaluation_path)
        save_model(
            staging,
            model.eval(),
            found.config,
            name=described.name,
            data=facts,
            training={"imported": _origin(path, found)},
        )
    parameters = sum(x.numel() for x in model.parameters())
    users = 0 if held_out is None else len(held_out)
    return Imported(out, found.layout, found.title, found.config.architecture, found.assumed, parameters, users)


def _origin(path: Path, found: Recognized) -> dict[str, Any]:
    return {"file": path.name, "sha256": sha256_file(path), "layout": found.layout, "assumed": found.assumed}


def _item_ids(items: Items, found: Recognized) -> tuple[list[str], bool]:
    item_ids, titled = read_catalog(items.file, columns=items.source.columns)
    expected = found.config.vocab_size - 1
    if len(item_ids) != expected:
        raise CocorrrecError(
            f"{items.file}: holds {len(item_ids)} items, the model has {expected} behind its row of padding"
        )
    return item_ids, titled


def _data_facts(items: Items, item_ids: list[str]) -> dict[str, Any]:
    source = items.source if items.interactions is None else resolve_source(items.interactions, items.source)
    return source.as_table() | {
        "item_order": CATALOG,
        "vocabulary_sha256": vocabulary_digest(item_ids),
        "negatives": min(EVALUATION_NEGATIVES, max(1, len(item_ids) // 2)),
        "evaluation_seed": EVALUATION_SEED,
    }


def _held_out(
    folder: ModelFolder, found: Recognized, items: Items | None, evaluation: Path | None
) -> EvaluationSet | None:
    if evaluation is not None:
        held_out = EvaluationSet.load(evaluation, vocab_size=found.config.vocab_size)
        length = held_out.histories.shape[1]
        if length != found.config.sequence_length:
            raise CocorrrecError(
                f"{evaluation}: histories have {length} places, the model reads {found.config.sequence_length}"
            )
        return held_out
    if items is None or items.interactions is None:
        return None
    return held_out_set(folder, items.interactions)


def export_weights(folder: ModelFolder, layout: str, out: Path) -> None:
    """Write a model's weights by the names of another library.

    Raises:
        UsageError: no such layout, or the model is not what the library has; ``out`` exists or has another ending.
        CocorrrecError: the model is damaged, or the disk is full.
    """
    if layout not in layout_names():
        raise UsageError(f"unknown layout '{layout}' ({nearest(layout, layout_names())})")
    config, tensors = folder.config, load_model(folder).state_dict()
    if layout == PLAIN:
        write_weights(tensors, out, metadata=config_entry(config))
        return
    fitting = [row for row in LAYOUTS if row.fits(config)]
    row = next((row for row in fitting if layout in (row.name, *row.aliases)), None)
    if row is None:
        names = sorted({PLAIN, *(row.name for row in fitting)})
        raise UsageError(
            f"model {folder.name}, a {config.architecture} with other layers, cannot be written in the layout "
            f"'{layout}': it can be as {', '.join(names)}"
        )
    write_weights(to_theirs(row.rules(config), tensors), out)
