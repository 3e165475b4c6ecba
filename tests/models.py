"""Small models with random weights, on disk, for tests that export."""

import dataclasses
from pathlib import Path

import torch

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.store import ModelFolder, save_model

CONFIG = ModelConfig(vocab_size=60)


def random_ranker(config: ModelConfig = CONFIG, *, seed: int = 1) -> Ranker:
    """A model whose every parameter is random, so that nothing hides behind a zero."""
    model = build_model(config, generator=torch.Generator().manual_seed(seed)).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        model.item_embedding.weight[0].zero_()
    return model


def random_model(config: ModelConfig = CONFIG, *, seed: int = 1) -> CoCorrRec:
    """The same, of a CoCorrRec config."""
    model = random_ranker(config, seed=seed)
    assert isinstance(model, CoCorrRec)
    return model


def random_users(config: ModelConfig = CONFIG, *, users: int = 40, negatives: int = 20) -> EvaluationSet:
    """Held-out users with histories of every length."""
    generator = torch.Generator().manual_seed(5)
    length = config.sequence_length
    histories = torch.randint(1, config.vocab_size, (users, length), generator=generator)
    clicks = 1 + torch.arange(users) % length
    histories *= torch.arange(length) < clicks[:, None]
    candidates = torch.stack(
        [1 + torch.randperm(config.vocab_size - 1, generator=generator)[: 1 + negatives] for _ in range(users)]
    )
    return EvaluationSet(histories, candidates)


def model_folder(path: Path, *, users: bool = True, **options: object) -> ModelFolder:
    """A random model on disk."""
    config = dataclasses.replace(CONFIG, **options)  # type: ignore[arg-type]
    path.mkdir(parents=True)
    if users:
        random_users(config).save(path / "evaluation.safetensors")
    return save_model(path, random_ranker(config), config, name="tiny")
