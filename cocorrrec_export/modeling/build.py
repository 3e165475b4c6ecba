"""From a config to a model with initialised weights: the only reader of the config's sizes."""

import math
from collections.abc import Callable

import torch
from torch import nn

from cocorrrec_export.modeling.baselines.bert4rec import BERT4Rec
from cocorrrec_export.modeling.baselines.din import DIN
from cocorrrec_export.modeling.baselines.gru4rec import GRU4Rec
from cocorrrec_export.modeling.baselines.mamba4rec import Mamba4Rec
from cocorrrec_export.modeling.baselines.sasrec import SASRec
from cocorrrec_export.modeling.config import PADDING_ID, Architecture, ModelConfig
from cocorrrec_export.modeling.gcn import GCN
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.scn import SCN
from cocorrrec_export.modeling.ttt import CorrectionFusion, TTTLinear


def build_model(config: ModelConfig, *, generator: torch.Generator | None = None) -> Ranker:
    """The model of ``config``, with its start drawn.

    CoCorrRec starts as in the released implementation. In the baselines layers start by Xavier's rule, tables by
    ``init_std``; a Mamba mixer as its authors' does.

    Args:
        config: sizes and options.
        generator: source of the random start; torch's global one by default.
    """
    # The constructors draw from the global generator; what they draw is overwritten, so its state is put back.
    with torch.random.fork_rng(devices=[], enabled=generator is not None):
        model = ARCHITECTURES[config.architecture](config)
    _initialise(model, std=config.init_std, generator=generator)
    return model


def _cocorrrec(config: ModelConfig) -> CoCorrRec:
    ttt = TTTLinear(
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        mini_batch=config.mini_batch,
        inner_loss=config.inner_loss,
    )
    scn = SCN(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        ttt=ttt,
        fusion=CorrectionFusion(remask=config.remask_correction) if config.gcn else None,
        dropout=config.dropout,
    )
    gcn = None
    if config.gcn:
        gcn = GCN(hidden_size=config.hidden_size, num_heads=config.num_heads, mini_batch=config.mini_batch)
    return CoCorrRec(scn=scn, gcn=gcn)


def _by_items(cls: Callable[..., Ranker]) -> Callable[[ModelConfig], Ranker]:
    return lambda config: cls(vocab_size=config.vocab_size, hidden_size=config.hidden_size, dropout=config.dropout)


def _by_positions(cls: Callable[..., Ranker]) -> Callable[[ModelConfig], Ranker]:
    return lambda config: cls(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        sequence_length=config.sequence_length,
        dropout=config.dropout,
    )


ARCHITECTURES: dict[Architecture, Callable[[ModelConfig], Ranker]] = {
    "cocorrrec": _cocorrrec,
    "din": _by_items(DIN),
    "gru4rec": _by_items(GRU4Rec),
    "sasrec": _by_positions(SASRec),
    "bert4rec": _by_positions(BERT4Rec),
    "mamba4rec": _by_items(Mamba4Rec),
}
"""Every architecture, by its name in a config."""


@torch.no_grad()
def _initialise(model: Ranker, *, std: float, generator: torch.Generator | None) -> None:
    for module in model.modules():
        if isinstance(module, nn.Embedding) or (isinstance(module, nn.Linear) and isinstance(model, CoCorrRec)):
            module.weight.normal_(0.0, std, generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.GRU):
            size = module.hidden_size
            for name, parameter in module.named_parameters():
                bound = math.sqrt(6 / (5 * size)) if name.startswith("weight") else 1 / math.sqrt(size)
                parameter.uniform_(-bound, bound, generator=generator)
    model.initialise(std=std, generator=generator)
    model.item_embedding.weight[PADDING_ID].zero_()
