"""From an interaction file to the held-out slice that a model is measured on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cocorrrec_export.data.catalogue import items_of_model
from cocorrrec_export.data.evaluation_set import Compared, EarlierClicks, EvaluationSet
from cocorrrec_export.data.files.detection import AUTO
from cocorrrec_export.data.files.streaming import OnBytes
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.negatives import NegativeSampler, evaluation_candidates
from cocorrrec_export.data.sources import DataSource, load_source
from cocorrrec_export.data.splits import Split, leave_last_out
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.modeling.store import ModelFolder

CATALOG = "catalog"
"""``item_order`` of a model's data: its items are numbered as in its own catalog, not by their sorted ids."""
VALIDATION, TEST = 1, 0
"""Clicks of a user after the validation and after the test target."""


def evaluation_set(
    interactions: Interactions,
    split: Split,
    sampler: NegativeSampler,
    *,
    part: int,
    negatives: int,
    seed: int,
    users: int = 0,
) -> EvaluationSet:
    """One positive among sampled negatives for each user.

    Args:
        interactions: what was split.
        split: its parts.
        sampler: of the negatives.
        part: :data:`VALIDATION` or :data:`TEST`; each draws negatives of its own, so that an epoch that happens to
            suit the one's negatives gains nothing in the other.
        negatives: how many per user.
        seed: of the negatives, and of who is drawn.
        users: the most, drawn where there are more: the same ones in each part; 0 takes all.

    Raises:
        CocorrrecError: no user has so many items without a click.
    """
    examples = split.validation if part == VALIDATION else split.test
    rng = np.random.default_rng([seed, part] if part else seed)
    earlier = EarlierClicks.before_last(interactions, part + 1)
    kept = sampler.free(examples.who) >= negatives
    if not kept.any():
        raise CocorrrecError(
            f"no user is left to evaluate: each has fewer than {negatives} items without a click, of "
            f"{interactions.vocab_size - 1}; use fewer evaluation_negatives"
        )
    if 0 < users < np.count_nonzero(kept):
        drawn = np.random.default_rng(seed).choice(np.flatnonzero(kept), users, replace=False)
        kept = np.isin(np.arange(len(kept)), drawn)
    if not kept.all():
        examples = examples.only(kept)
        earlier = EarlierClicks(earlier.items, earlier.starts[kept], earlier.stops[kept])
    candidates = evaluation_candidates(examples, sampler, negatives=negatives, rng=rng)
    return EvaluationSet(torch.from_numpy(examples.all().histories), torch.from_numpy(candidates), earlier)


def source_of(folder: ModelFolder) -> DataSource:
    """How the interactions of a model were read and filtered.

    Raises:
        CocorrrecError: its ``[data]`` table lacks a key.
        UsageError: or has one of the wrong type.
    """
    facts, where = folder.data, f"{folder.path / 'model.toml'}, [data]"
    try:
        tables = {
            "format": facts.get("format", AUTO),
            "columns": facts["columns"],
            "filters": facts["filters"],
            "reading": facts.get("reading", {"ties": "file"}),  # earlier versions kept the order of the file
        }
    except KeyError as error:
        raise CocorrrecError(f"{where}: key {error} is missing") from None
    return DataSource.from_dict(tables, where=where)


def interactions_of(folder: ModelFolder, data_file: Path, progress: OnBytes | None = None) -> Interactions:
    """A data file read as a model's own was: same filters, same items in the same order.

    Args:
        folder: the model.
        data_file: the interactions.
        progress: receives the bytes read.

    Raises:
        CocorrrecError: the file holds other items than the model knows, or the model does not know their ids.
        UsageError: the file does not exist, or cannot be read so.
    """
    if not folder.data:
        raise CocorrrecError(
            f"model {folder.name} does not know the external ids of its items, so {data_file} cannot be read for it: "
            "import it again with --items FILE"
        )
    source = source_of(folder)
    expected = _fact(folder, "vocabulary_sha256")
    interactions = load_source(data_file, source, progress=progress)
    if folder.data.get("item_order") == CATALOG:
        interactions = interactions.in_order_of(items_of_model(folder)[0])
    if interactions.vocabulary_sha256 != expected:
        raise CocorrrecError(
            f"{data_file}: after the model's filters it holds {interactions.vocab_size - 1} items with digest "
            f"{interactions.vocabulary_sha256[:16]}..., model {folder.name} was trained on "
            f"{folder.config.vocab_size - 1} items with digest {expected[:16]}...: this is not its data"
        )
    return interactions


def _fact(folder: ModelFolder, key: str) -> Any:
    try:
        return folder.data[key]
    except KeyError:
        raise CocorrrecError(f"{folder.path / 'model.toml'}, [data]: key '{key}' is missing") from None


def _count(folder: ModelFolder, key: str) -> int:
    value = _fact(folder, key)
    if type(value) is not int or value < 0:
        where = folder.path / "model.toml"
        raise CocorrrecError(f"{where}, [data]: {key} must be a whole number from 0, got {value!r}")
    return value


def held_out_set(folder: ModelFolder, data_file: Path | None = None) -> EvaluationSet:
    """The test slice of a model: from the user's data file, else the one that the model ships.

    With a file, the slice is made as the model's own was: same filters, same split, same seed of the negatives; its
    ``compared`` says whether the model was trained on these interactions.

    Raises:
        CocorrrecError: the model ships none and no file is given; or the file holds other items than the model knows.
    """
    if data_file is None:
        if not folder.evaluation_path.is_file():
            raise CocorrrecError(f"model {folder.name} ships no held-out slice: give the interactions with --data FILE")
        path = folder.evaluation_path
        return EvaluationSet.load(path, vocab_size=folder.config.vocab_size, sha256=folder.files.get(path.name))
    interactions = interactions_of(folder, data_file)
    negatives, seed = _count(folder, "negatives"), _count(folder, "evaluation_seed")
    split = leave_last_out(interactions, sequence_length=folder.config.sequence_length)
    sampler = NegativeSampler(interactions)
    users = _count(folder, "evaluation_users") if "evaluation_users" in folder.data else 0  # earlier versions took all
    held_out = evaluation_set(interactions, split, sampler, part=TEST, negatives=negatives, seed=seed, users=users)
    trained_on = folder.data.get("interactions_sha256")
    compared: Compared = "unknown" if trained_on is None else "same" if trained_on == interactions.sha256 else "other"
    return replace(held_out, compared=compared)
