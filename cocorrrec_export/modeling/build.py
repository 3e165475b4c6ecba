"""From a config to a model with initialized weights: the only reader of the config's sizes."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cocorrrec_export import plugins
from cocorrrec_export.modeling.baselines.din import DIN
from cocorrrec_export.modeling.baselines.gru4rec import GRU4Rec
from cocorrrec_export.modeling.baselines.mamba4rec import Mamba4Rec
from cocorrrec_export.modeling.baselines.transformer import Transformer
from cocorrrec_export.modeling.config import PADDING_ID, ModelConfig
from cocorrrec_export.modeling.gcn import GCN
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.scn import SCN
from cocorrrec_export.modeling.ttt import CorrectionFusion, TTTLinear
from cocorrrec_export.modeling.vector import VectorCloud


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
    model.architecture = config.architecture
    _initialize(model, std=config.init_std, generator=generator)
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
        fusion=CorrectionFusion(remask=config.remask_correction) if config.correction == "kernel" else None,
        **_head(config),
        dropout=config.dropout,
        user_dropout=config.user_dropout,
    )
    return CoCorrRec(scn=scn, gcn=_cloud(config))


def _cloud(config: ModelConfig) -> GCN | VectorCloud | None:
    if config.correction == "kernel":
        return GCN(hidden_size=config.hidden_size, num_heads=config.num_heads, mini_batch=config.mini_batch)
    if config.correction == "vector":
        return VectorCloud(
            hidden_size=config.hidden_size,
            num_heads=config.num_heads,
            reader=config.cloud_reader,
            phone_length=config.sequence_length,
            length=config.cloud_length,
            networks=config.cloud_networks,
            dropout=config.cloud_dropout,
        )
    return None


def _head(config: ModelConfig) -> dict[str, bool]:
    return {"item_layers": config.item_side == "mlp", "residual": config.readout == "residual"}


def _sizes(config: ModelConfig) -> dict[str, Any]:
    return {"vocab_size": config.vocab_size, "hidden_size": config.hidden_size, "dropout": config.dropout}


def _transformer(config: ModelConfig) -> Transformer:
    released = config.architecture == "sasrec" and config.click_projection
    block: dict[str, Any] = {
        "num_heads": config.num_heads,
        "inner_size": config.inner_size,
        "hidden_act": config.hidden_act,
        "norm": config.norm,
        "layer_norm_eps": config.layer_norm_eps,
        "norm_position": config.norm_position,
        "fused": released,
    }
    return Transformer(
        **_sizes(config),
        **_head(config),
        sequence_length=config.sequence_length,
        block=block,
        num_layers=config.num_layers,
        causal=config.attention == "causal",
        padding=config.padding,
        position_table=config.position_table,
        click_projection=released,
        embedding_norm=config.embedding_norm,
        scale_embedding=config.scale_embedding,
        head=config.head,
        mask_token=config.mask_token,
        output_bias=config.output_bias,
    )


def _gru4rec(config: ModelConfig) -> GRU4Rec:
    return GRU4Rec(
        **_sizes(config),
        **_head(config),
        gru_size=config.inner_size,
        user_dropout=config.user_dropout,
        num_layers=config.num_layers,
        bias=config.gru_bias,
        click_projection=config.click_projection,
        head=config.head,
        layer_norm_eps=config.layer_norm_eps,
    )


def _mamba4rec(config: ModelConfig) -> Mamba4Rec:
    return Mamba4Rec(
        **_sizes(config),
        num_layers=config.num_layers,
        state_size=config.state_size,
        conv_kernel=config.conv_kernel,
        expand=config.expand,
        layer_norm_eps=config.layer_norm_eps,
    )


class _Builders(dict[str, Callable[[ModelConfig], Ranker]]):
    """Those of the package, and behind them those of entry points."""

    def __missing__(self, name: str) -> Callable[[ModelConfig], Ranker]:
        builder: Callable[[ModelConfig], Ranker] = plugins.load(plugins.ARCHITECTURES, name)
        return builder


ARCHITECTURES = _Builders(
    {
        "cocorrrec": _cocorrrec,
        "din": lambda config: DIN(**_sizes(config)),
        "gru4rec": _gru4rec,
        "sasrec": _transformer,
        "bert4rec": _transformer,
        "mamba4rec": _mamba4rec,
    }
)
"""The package's architectures, by its name in a config."""


@torch.no_grad()
def _initialize(model: Ranker, *, std: float, generator: torch.Generator | None) -> None:
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
    model.initialize(std=std, generator=generator)
    model.item_embedding.weight[PADDING_ID].zero_()
