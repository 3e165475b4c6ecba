"""The layouts of weights that are known, each by the names of its tensors: one row per library and architecture."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cocorrrec_export.importing.rules import (
    Rule,
    behind_zeros,
    joined_layer,
    layer,
    same,
    shaped,
    transposed,
    unsqueezed,
    with_last_row,
)
from cocorrrec_export.modeling.config import Architecture, ModelConfig

Tensors = Mapping[str, Tensor]

_RECBOLE_BLOCK = r"trm_encoder\.layer\.(\d+)\..*"
_RECBOLE_GRU = r"gru_layers\.(?:weight|bias)_[ih]h_l(\d+)"
_PMIXER_BLOCK = r"(?:attention|forward)_layers\.(\d+)\..*"
_MAMBA_BLOCK = r"mamba_layers\.(\d+)\..*"
_RELEASE_GRU = r"_gru_cell\.(?:weight|bias)_[ih]h_l(\d+)"
_RELEASE_BLOCK = r"transformer_blocks\.(\d+)\..*"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The weights of one architecture as one library names them."""

    name: str
    """What ``--layout`` and reports call it."""
    architecture: Architecture
    title: str
    table: str
    """Tensor ``[rows, D]`` of the items."""
    fixed: dict[str, Any]
    """Keys of a config that make the architecture the library's."""
    sizes: Callable[[Tensors], dict[str, Any]]
    """Further keys, from tensors whose names all fit; KeyError or IndexError where one is missing."""
    assumed: dict[str, Any]
    """Keys that no tensor tells, with the library's defaults."""
    rules: Callable[[ModelConfig], list[Rule]]
    numbered: str = ""
    """Regular expression of the tensors of a layer, whose number is its group; empty where there is one."""
    ignored: str = r"$^"
    """Regular expression of tensors that need not be there and are not read."""
    choices: tuple[str, ...] = ()
    """Keys that sizes decide, and a user may know better."""
    aliases: tuple[str, ...] = ()
    """Further names of the layout."""

    def layers(self, tensors: Tensors) -> dict[str, int]:
        """The key of a config for how many layers there are, as far as names tell."""
        return {"num_layers": max(1, _count(tensors, self.numbered))} if self.numbered else {}

    def names(self, config: ModelConfig) -> set[str]:
        """All tensors of a model with ``config``."""
        return {name for rule in self.rules(config) for name in rule.theirs}

    def fits(self, config: ModelConfig) -> bool:
        """Whether a model of ours can be written in this layout."""
        return config.architecture == self.architecture and all(
            getattr(config, key) in (value if isinstance(value, tuple) else (value,))
            for key, value in self.fixed.items()
        )


def _count(tensors: Tensors, pattern: str) -> int:
    """How many numbers follow each other from 0 where ``pattern`` has its group."""
    found = {int(match[1]) for name in tensors if (match := re.fullmatch(pattern, name))}
    count = 0
    while count in found:
        count += 1
    return count


def _table(tensors: Tensors, name: str) -> dict[str, Any]:
    rows, features = tensors[name].shape
    return {"vocab_size": rows, "hidden_size": features}


# RecBole


def _recbole_blocks(tensors: Tensors) -> dict[str, Any]:
    return {
        "sequence_length": len(tensors["position_embedding.weight"]),
        "num_layers": _count(tensors, _RECBOLE_BLOCK),
        "inner_size": len(tensors["trm_encoder.layer.0.feed_forward.dense_1.weight"]),
    }


def _recbole_sasrec_sizes(tensors: Tensors) -> dict[str, Any]:
    return _table(tensors, "item_embedding.weight") | _recbole_blocks(tensors)


def _recbole_bert4rec_sizes(tensors: Tensors) -> dict[str, Any]:
    table = _table(tensors, "item_embedding.weight")
    with_head = "output_ffn.weight" in tensors  # version 1.2 on
    head = {"head": "mlm" if with_head else "none", "output_bias": with_head}
    return table | {"vocab_size": table["vocab_size"] - 1} | _recbole_blocks(tensors) | head


def _recbole_transformer_rules(config: ModelConfig) -> list[Rule]:
    table = "item_embedding.weight"
    rules = [with_last_row(table, "mask_embedding", table)] if config.mask_token else [same(table, table)]
    rules += [same("position_embedding.weight", "position_embedding.weight"), *layer("embedding_norm", "LayerNorm")]
    for i in range(config.num_layers):
        ours, theirs = f"blocks.{i}", f"trm_encoder.layer.{i}"
        attention, feed_forward = f"{theirs}.multi_head_attention", f"{theirs}.feed_forward"
        rules += joined_layer(f"{ours}.attention.in_proj", [f"{attention}.{x}" for x in ("query", "key", "value")])
        rules += layer(f"{ours}.attention.out_proj", f"{attention}.dense")
        rules += layer(f"{ours}.attention_norm", f"{attention}.LayerNorm")
        rules += layer(f"{ours}.ffn.0", f"{feed_forward}.dense_1") + layer(f"{ours}.ffn.2", f"{feed_forward}.dense_2")
        rules += layer(f"{ours}.ffn_norm", f"{feed_forward}.LayerNorm")
    if config.head == "mlm":
        rules += layer("user_mlp.0", "output_ffn") + layer("user_mlp.2", "output_ln")
    if config.output_bias:
        rules.append(same("item_bias", "output_bias"))
    return rules


def _recbole_gru4rec_sizes(tensors: Tensors) -> dict[str, Any]:
    return _table(tensors, "item_embedding.weight") | {
        "inner_size": tensors["gru_layers.weight_hh_l0"].shape[1],
        "num_layers": _count(tensors, _RECBOLE_GRU),
        "gru_bias": "gru_layers.bias_hh_l0" in tensors,
        "head": "linear" if "dense.weight" in tensors else "none",
    }


def _recbole_gru4rec_rules(config: ModelConfig) -> list[Rule]:
    rules = [same("item_embedding.weight", "item_embedding.weight"), *_gru(config, "gru_layers")]
    return rules + (layer("user_mlp.0", "dense") if config.head == "linear" else [])


def _gru(config: ModelConfig, theirs: str) -> list[Rule]:
    parts = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if config.gru_bias else [])
    return [same(f"gru.{part}_l{i}", f"{theirs}.{part}_l{i}") for i in range(config.num_layers) for part in parts]


_RECBOLE_BLOCKS = {
    "item_side": "dot",
    "readout": "norm",
    "norm": "layer",
    "norm_position": "post",
    "position_table": "history",
    "embedding_norm": True,
    "scale_embedding": False,
}
_RECBOLE_DEFAULTS = {"num_heads": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
_RECBOLE_LENGTH = {"sequence_length": 50}


# pmixer/SASRec.pytorch


def _pmixer_sizes(tensors: Tensors) -> dict[str, Any]:
    positions = tensors["pos_emb.weight"]
    # Since February 2024 row 0 is padding's, and stays zero; before, all rows were positions.
    padding_row = not bool(positions[0].any())
    return _table(tensors, "item_emb.weight") | {
        "sequence_length": len(positions) - padding_row,
        "num_layers": _count(tensors, _PMIXER_BLOCK),
        "inner_size": len(tensors["forward_layers.0.conv1.weight"]),
        "padding": "visible" if padding_row else "zeroed",
        "norm_position": "post" if padding_row else "query",
    }


def _pmixer_rules(config: ModelConfig) -> list[Rule]:
    position = behind_zeros if config.padding == "visible" else same
    rules = [same("item_embedding.weight", "item_emb.weight"), position("position_embedding.weight", "pos_emb.weight")]
    for i in range(config.num_layers):
        ours, attention = f"blocks.{i}", f"attention_layers.{i}"
        rules += [same(f"{ours}.attention.in_proj.{x}", f"{attention}.in_proj_{x}") for x in ("weight", "bias")]
        rules += layer(f"{ours}.attention.out_proj", f"{attention}.out_proj")
        rules += layer(f"{ours}.attention_norm", f"attention_layernorms.{i}")
        for place, name in ((0, "conv1"), (2, "conv2")):
            theirs = f"forward_layers.{i}.{name}"
            rules += [
                unsqueezed(f"{ours}.ffn.{place}.weight", f"{theirs}.weight", dim=-1),
                same(f"{ours}.ffn.{place}.bias", f"{theirs}.bias"),
            ]
        rules += layer(f"{ours}.ffn_norm", f"forward_layernorms.{i}")
    return rules + layer("user_mlp.0", "last_layernorm")


# Mamba4Rec: its authors' names, which the authors of CoCorrRec kept


def _mamba4rec_sizes(tensors: Tensors) -> dict[str, Any]:
    inner, states = tensors["mamba_layers.0.mamba.A_log"].shape
    table = _table(tensors, "item_embedding.weight")
    return table | {
        "num_layers": _count(tensors, _MAMBA_BLOCK),
        "state_size": states,
        "conv_kernel": tensors["mamba_layers.0.mamba.conv1d.weight"].shape[-1],
        "expand": inner // table["hidden_size"],
    }


def _mamba4rec_rules(config: ModelConfig) -> list[Rule]:
    rules = [same("item_embedding.weight", "item_embedding.weight"), *layer("input_norm", "LayerNorm")]
    for i in range(config.num_layers):
        ours, theirs = f"blocks.{i}", f"mamba_layers.{i}"
        mixer, mamba = f"{ours}.mixer", f"{theirs}.mamba"
        rules += [same(f"{mixer}.{x}.weight", f"{mamba}.{x}.weight") for x in ("in_proj", "x_proj", "out_proj")]
        rules += layer(f"{mixer}.dt_proj", f"{mamba}.dt_proj")
        rules += [
            unsqueezed(f"{mixer}.conv_weight", f"{mamba}.conv1d.weight", dim=1),
            same(f"{mixer}.conv_bias", f"{mamba}.conv1d.bias"),
            transposed(f"{mixer}.A_log", f"{mamba}.A_log"),
            same(f"{mixer}.D", f"{mamba}.D"),
        ]
        rules += layer(f"{ours}.mixer_norm", f"{theirs}.LayerNorm")
        rules += layer(f"{ours}.ffn.0", f"{theirs}.ffn.w_1") + layer(f"{ours}.ffn.3", f"{theirs}.ffn.w_2")
        rules += layer(f"{ours}.ffn_norm", f"{theirs}.ffn.LayerNorm")
    return rules


# The authors' release of CoCorrRec and its baselines

_ITEMS = "_id_encoder._embedding_matrix.weight"
_RELEASED = {"item_side": "mlp", "readout": "norm", "head": "mlp", "click_projection": True}


def _release_sasrec_sizes(tensors: Tensors) -> dict[str, Any]:
    return _table(tensors, _ITEMS) | {"inner_size": len(tensors["_transformer.linear1.weight"])}


def _towers() -> list[Rule]:
    rules = layer("click_proj", "_seq_trans.net.0")
    for ours, theirs in (("user_mlp", "_classifier.net"), ("item_mlp", "_target_trans.net")):
        rules += layer(f"{ours}.0", f"{theirs}.0") + layer(f"{ours}.2", f"{theirs}.2")
    return rules


def _release_sasrec_rules(config: ModelConfig) -> list[Rule]:  # noqa: ARG001
    attention = "_transformer.self_attn"
    return [
        same("item_embedding.weight", _ITEMS),
        same("position_embedding.weight", "_position_embedding._embedding_matrix.weight"),
        *(same(f"blocks.0.attention.in_proj.{x}", f"{attention}.in_proj_{x}") for x in ("weight", "bias")),
        *layer("blocks.0.attention.out_proj", f"{attention}.out_proj"),
        *layer("blocks.0.attention_norm", "_transformer.norm1"),
        *layer("blocks.0.ffn.0", "_transformer.linear1"),
        *layer("blocks.0.ffn.2", "_transformer.linear2"),
        *layer("blocks.0.ffn_norm", "_transformer.norm2"),
        *_towers(),
    ]


def _release_gru4rec_sizes(tensors: Tensors) -> dict[str, Any]:
    return _table(tensors, _ITEMS) | {"num_layers": _count(tensors, _RELEASE_GRU)}


def _release_gru4rec_rules(config: ModelConfig) -> list[Rule]:
    return [same("item_embedding.weight", _ITEMS), *_gru(config, "_gru_cell"), *_towers()]


def _release_din_sizes(tensors: Tensors) -> dict[str, Any]:
    return _table(tensors, _ITEMS)


def _release_din_rules(config: ModelConfig) -> list[Rule]:  # noqa: ARG001
    attention = "_target_attention"
    return [
        same("item_embedding.weight", _ITEMS),
        *layer("click_proj", "_seq_trans.net.0"),
        *layer("item_proj", "_target_trans.net.0"),
        same("query_proj.weight", f"{attention}._target_key_transform.net.weight"),
        same("key_proj.weight", f"{attention}._item_key_transform.net.weight"),
        same("value_proj.weight", f"{attention}._value_transform.net.weight"),
        *(rule for i in (0, 2, 4) for rule in layer(f"classifier.{i}", f"_classifier.net.{i}")),
    ]


def _release_bert4rec_sizes(tensors: Tensors) -> dict[str, Any]:
    return _table(tensors, "embedding.token.weight") | {
        "sequence_length": len(tensors["embedding.position.pe.weight"]),
        "num_layers": _count(tensors, _RELEASE_BLOCK),
        "inner_size": len(tensors["transformer_blocks.0.feed_forward.w_1.weight"]),
    }


def _release_bert4rec_rules(config: ModelConfig) -> list[Rule]:
    rules = [
        same("item_embedding.weight", "embedding.token.weight"),
        same("position_embedding.weight", "embedding.position.pe.weight"),
    ]
    for i in range(config.num_layers):
        ours, theirs = f"blocks.{i}", f"transformer_blocks.{i}"
        rules += joined_layer(
            f"{ours}.attention.in_proj", [f"{theirs}.attention.linear_layers.{part}" for part in range(3)]
        )
        rules += layer(f"{ours}.attention.out_proj", f"{theirs}.attention.output_linear")
        rules += layer(f"{ours}.ffn.0", f"{theirs}.feed_forward.w_1")
        rules += layer(f"{ours}.ffn.2", f"{theirs}.feed_forward.w_2")
        for norm, sublayer in (("attention_norm", "input_sublayer"), ("ffn_norm", "output_sublayer")):
            rules += [
                same(f"{ours}.{norm}.weight", f"{theirs}.{sublayer}.norm.a_2"),
                same(f"{ours}.{norm}.bias", f"{theirs}.{sublayer}.norm.b_2"),
            ]
    return rules


_TTT = "ttt.layers.0.seq_modeling_block"


def _release_cocorrrec_sizes(tensors: Tensors) -> dict[str, Any]:
    mini_batch = len(tensors[f"{_TTT}.learnable_token_idx"])
    with_gcn = f"{_TTT}.Att_corrnet.fc1.weight" in tensors
    return _table(tensors, "ttt.embed_tokens.weight") | {
        "num_heads": len(tensors[f"{_TTT}.W1"]),
        "mini_batch": mini_batch,
        "sequence_length": mini_batch,
        "gcn": with_gcn,
        "correction": "kernel" if with_gcn else "none",
    }


def _release_cocorrrec_rules(config: ModelConfig) -> list[Rule]:
    heads, size = config.num_heads, config.hidden_size
    rules = [
        same("scn.item_embedding.weight", "ttt.embed_tokens.weight"),
        same("scn.input_norm.weight", "ttt.layers.0.seq_norm.weight"),
        same("scn.output_norm.weight", "ttt.norm.weight"),
        *(rule for i in (0, 2) for rule in layer(f"scn.item_mlp.{i}", f"_target_trans.net.{i}")),
        *(same(f"scn.ttt.{x}_proj.weight", f"{_TTT}.{x}_proj.weight") for x in "qkvo"),
        *layer("scn.ttt.post_norm", f"{_TTT}.post_norm"),
        *(same(f"scn.ttt.{x}", f"{_TTT}.{x}") for x in ("W1", "b1")),
        *(same(f"scn.ttt.ln_{x}", f"{_TTT}.ttt_norm_{x}") for x in ("weight", "bias")),
        same("scn.ttt.token_offset", f"{_TTT}.learnable_token_idx"),
        shaped(
            "scn.ttt.lr_weight",
            f"{_TTT}.learnable_ttt_lr_weight",
            our_shape=(heads, size),
            their_shape=(heads, 1, size),
        ),
        shaped("scn.ttt.lr_bias", f"{_TTT}.learnable_ttt_lr_bias", our_shape=(heads,), their_shape=(heads, 1)),
    ]
    if not config.gcn:
        return rules
    rules += [same(f"scn.fusion.{x}", f"{_TTT}.{x}") for x in "PQ"]
    for ours, theirs in (("gcn.attn", f"{_TTT}.Att_corrnet"), ("gcn.b", f"{_TTT}.b1_corrnet")):
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        rules += [same(f"{ours}.gru.{part}_l0", f"{theirs}._gru_cell.{part}_l0") for part in parts]
        rules += [same(f"{ours}.fc{i}.weight", f"{theirs}.fc{i}.weight") for i in (1, 2, 3)]
    return rules


_PAPER_LENGTH = {"sequence_length": 10}

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        name="recbole",
        architecture="sasrec",
        title="RecBole's SASRec",
        table="item_embedding.weight",
        fixed=_RECBOLE_BLOCKS
        | {
            "attention": "causal",
            "click_projection": False,
            "head": "none",
            "padding": "masked",
            "output_bias": False,
        },
        sizes=_recbole_sasrec_sizes,
        assumed=_RECBOLE_DEFAULTS,
        rules=_recbole_transformer_rules,
        numbered=_RECBOLE_BLOCK,
    ),
    Layout(
        name="recbole",
        architecture="bert4rec",
        title="RecBole's BERT4Rec",
        table="item_embedding.weight",
        fixed=_RECBOLE_BLOCKS | {"attention": "both", "mask_token": True, "head": ("mlm", "none")},
        sizes=_recbole_bert4rec_sizes,
        assumed=_RECBOLE_DEFAULTS,
        rules=_recbole_transformer_rules,
        numbered=_RECBOLE_BLOCK,
    ),
    Layout(
        name="recbole",
        architecture="gru4rec",
        title="RecBole's GRU4Rec",
        table="item_embedding.weight",
        fixed={"item_side": "dot", "readout": "norm", "click_projection": False, "head": ("linear", "none")},
        sizes=_recbole_gru4rec_sizes,
        assumed=_RECBOLE_LENGTH,
        rules=_recbole_gru4rec_rules,
        numbered=_RECBOLE_GRU,
    ),
    Layout(
        name="pmixer",
        architecture="sasrec",
        title="SASRec of pmixer/SASRec.pytorch",
        table="item_emb.weight",
        fixed={
            "item_side": "dot",
            "readout": "norm",
            "norm": "layer",
            "position_table": "from_end",
            "embedding_norm": False,
            "scale_embedding": True,
            "attention": "causal",
            "click_projection": False,
            "head": "norm",
            "padding": ("visible", "zeroed"),
            "hidden_act": "relu",
            "output_bias": False,
        },
        sizes=_pmixer_sizes,
        assumed={"num_heads": 1, "layer_norm_eps": 1e-8},
        rules=_pmixer_rules,
        numbered=_PMIXER_BLOCK,
        choices=("norm_position",),
    ),
    Layout(
        name="mamba4rec",
        architecture="mamba4rec",
        title="Mamba4Rec",
        table="item_embedding.weight",
        fixed={},
        sizes=_mamba4rec_sizes,
        assumed={"layer_norm_eps": 1e-12} | _RECBOLE_LENGTH,
        rules=_mamba4rec_rules,
        numbered=_MAMBA_BLOCK,
        aliases=("release",),
    ),
    Layout(
        name="release",
        architecture="cocorrrec",
        title="the authors' CoCorrRec",
        table="ttt.embed_tokens.weight",
        fixed={"item_side": "mlp", "readout": "norm", "correction": ("kernel", "none")},
        sizes=_release_cocorrrec_sizes,
        assumed={},
        rules=_release_cocorrrec_rules,
        ignored=r".*\.(rotary_emb\.inv_freq|token_idx)",
        choices=("sequence_length",),
    ),
    Layout(
        name="release",
        architecture="sasrec",
        title="the authors' SASRec",
        table=_ITEMS,
        fixed=_RELEASED
        | {
            "num_layers": 1,
            "norm": "layer",
            "norm_position": "post",
            "position_table": "vocabulary",
            "hidden_act": "relu",
            "padding": ("visible", "masked"),
            "embedding_norm": False,
            "scale_embedding": False,
            "output_bias": False,
        },
        sizes=_release_sasrec_sizes,
        assumed={"num_heads": 4, "layer_norm_eps": 1e-5} | _PAPER_LENGTH,
        rules=_release_sasrec_rules,
    ),
    Layout(
        name="release",
        architecture="gru4rec",
        title="the authors' GRU4Rec",
        table=_ITEMS,
        fixed=_RELEASED | {"gru_bias": True},
        sizes=_release_gru4rec_sizes,
        assumed=_PAPER_LENGTH,
        rules=_release_gru4rec_rules,
        numbered=_RELEASE_GRU,
    ),
    Layout(
        name="release",
        architecture="din",
        title="the authors' DIN",
        table=_ITEMS,
        fixed={},
        sizes=_release_din_sizes,
        assumed=_PAPER_LENGTH,
        rules=_release_din_rules,
    ),
    Layout(
        name="release",
        architecture="bert4rec",
        title="the authors' BERT4Rec",
        table="embedding.token.weight",
        fixed={
            "norm": "deviation",
            "norm_position": "pre",
            "position_table": "history",
            "attention": "both",
            "hidden_act": "gelu_new",
            "head": "none",
            "mask_token": False,
            "embedding_norm": False,
            "scale_embedding": False,
            "output_bias": False,
        },
        sizes=_release_bert4rec_sizes,
        assumed={"num_heads": 4, "layer_norm_eps": 1e-6},
        rules=_release_bert4rec_rules,
        numbered=_RELEASE_BLOCK,
    ),
)
"""Every layout but our own, which has the names of a model's own tensors."""


def fixed_values(layout: Layout) -> dict[str, Any]:
    """The keys of a config that a layout decides: of several values, sizes or the first one does."""
    return {key: value[0] if isinstance(value, tuple) else value for key, value in layout.fixed.items()}
