"""From an interaction file to the held-out slice that a model is measured on."""

from pathlib import Path

import torch

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.data.files.detection import AUTO
from cocorrrec_export.data.negatives import NegativeSampler, evaluation_candidates
from cocorrrec_export.data.sources import DataSource, load_source
from cocorrrec_export.data.splits import Examples, leave_last_out
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.modeling.store import ModelFolder


def evaluation_set(examples: Examples, sampler: NegativeSampler, *, negatives: int, seed: int) -> EvaluationSet:
    """One positive among sampled negatives for each example."""
    candidates = evaluation_candidates(examples, sampler, negatives=negatives, seed=seed)
    return EvaluationSet(torch.from_numpy(examples.histories).long(), torch.from_numpy(candidates).long())


def held_out_set(folder: ModelFolder, data_file: Path | None = None) -> EvaluationSet:
    """The test slice of a model: from the user's data file, else the one that the model ships.

    With a file, the slice is made as the model's own was: same filters, same split, same seed of the negatives.

    Raises:
        CocorrrecError: the model ships none and no file is given; or the file holds other items than the model knows.
    """
    if data_file is None:
        if not folder.evaluation_path.is_file():
            raise CocorrrecError(f"model {folder.name} ships no held-out slice: give the interactions with --data FILE")
        return EvaluationSet.load(folder.evaluation_path, vocab_size=folder.config.vocab_size)
    facts = folder.data
    try:
        source = DataSource.from_dict(
            {"format": facts.get("format", AUTO), "columns": facts["columns"], "filters": facts["filters"]},
            where=f"{folder.path / 'model.toml'}, [data]",
        )
        expected, negatives, seed = facts["vocabulary_sha256"], facts["negatives"], facts["evaluation_seed"]
    except KeyError as error:
        raise CocorrrecError(f"{folder.path / 'model.toml'}, [data]: key {error} is missing") from None
    interactions = load_source(data_file, source)
    if interactions.vocabulary_sha256 != expected:
        raise CocorrrecError(
            f"{data_file}: after the model's filters it holds {interactions.vocab_size - 1} items with digest "
            f"{interactions.vocabulary_sha256[:16]}..., model {folder.name} was trained on "
            f"{folder.config.vocab_size - 1} items with digest {expected[:16]}...: this is not its data"
        )
    test = leave_last_out(interactions, sequence_length=folder.config.sequence_length).test
    return evaluation_set(test, NegativeSampler(interactions), negatives=negatives, seed=seed)
