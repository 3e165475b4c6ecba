"""From a config to a model with initialised weights: the only reader of the config's sizes."""

import math

import torch
from torch import nn

from cocorrrec_export.modeling.config import PADDING_ID, ModelConfig
from cocorrrec_export.modeling.gcn import GCN
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.scn import SCN
from cocorrrec_export.modeling.ttt import CorrectionFusion, TTTLinear


def build_model(config: ModelConfig, *, generator: torch.Generator | None = None) -> CoCorrRec:
    """The joint model of ``config``, initialised as in the released implementation.

    Args:
        config: sizes and options.
        generator: source of the random start; torch's global one by default.
    """
    # The constructors draw from the global generator; what they draw is overwritten, so its state is put back.
    with torch.random.fork_rng(devices=[], enabled=generator is not None):
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
    model = CoCorrRec(scn=scn, gcn=gcn)
    _initialise(model, std=config.init_std, generator=generator)
    return model


@torch.no_grad()
def _initialise(model: CoCorrRec, *, std: float, generator: torch.Generator | None) -> None:
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, std, generator=generator)
        if isinstance(module, nn.GRU):
            size = module.hidden_size
            for name, parameter in module.named_parameters():
                bound = math.sqrt(6 / (5 * size)) if name.startswith("weight") else 1 / math.sqrt(size)
                parameter.uniform_(-bound, bound, generator=generator)
    for layer in model.scn.item_mlp:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
    model.scn.ttt.W1.normal_(0.0, std, generator=generator)
    model.scn.ttt.lr_weight.normal_(0.0, std, generator=generator)
    model.scn.item_embedding.weight[PADDING_ID].zero_()
