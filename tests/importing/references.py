"""What other libraries compute, written down once more from their definitions, with their names of tensors.

Each takes a state_dict in that library's layout and gives the scores of all items; nothing is shared with the package.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Weights = dict[str, Tensor]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "swish": lambda x: x * torch.sigmoid(x),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def multi_head(q: Tensor, k: Tensor, v: Tensor, heads: int, blocked: Tensor) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + blocked * -10000.0
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)


def recbole_transformer(w: Weights, ids: Tensor, *, layers: int, heads: int, act: str, eps: float) -> Tensor:
    """SASRec, or BERT4Rec where there is an output head."""
    masked_items = "output_bias" in w
    length = (ids != 0).sum(1)
    if masked_items:
        token = len(w["item_embedding.weight"]) - 1
        ids = torch.cat((ids, torch.zeros_like(ids[:, :1])), dim=1)
        ids[torch.arange(len(ids)), length] = token
        ids = ids[:, 1:]
    L = ids.shape[1]
    x = norm(w, "LayerNorm", w["item_embedding.weight"][ids] + w["position_embedding.weight"], eps)
    blocked = (ids == 0)[:, None, None, :].expand(-1, 1, L, L)
    if not masked_items:
        blocked = blocked | torch.ones(L, L, dtype=torch.bool).triu(1)
    for i in range(layers):
        attention, ffn = f"trm_encoder.layer.{i}.multi_head_attention", f"trm_encoder.layer.{i}.feed_forward"
        q, k, v = (linear(w, f"{attention}.{part}", x) for part in ("query", "key", "value"))
        mixed = linear(w, f"{attention}.dense", multi_head(q, k, v, heads, blocked))
        x = norm(w, f"{attention}.LayerNorm", mixed + x, eps)
        inner = ACTIVATIONS[act](linear(w, f"{ffn}.dense_1", x))
        x = norm(w, f"{ffn}.LayerNorm", linear(w, f"{ffn}.dense_2", inner) + x, eps)
    user = x[torch.arange(len(x)), length - 1]
    if not masked_items:
        return user @ w["item_embedding.weight"].T
    user = norm(w, "output_ln", F.gelu(linear(w, "output_ffn", user)), eps)
    return user @ w["item_embedding.weight"][:-1].T + w["output_bias"]


def recbole_gru4rec(w: Weights, ids: Tensor, *, layers: int) -> Tensor:
    features, size = w["item_embedding.weight"].shape[1], w["gru_layers.weight_hh_l0"].shape[1]
    gru = nn.GRU(features, size, num_layers=layers, bias=False, batch_first=True)
    gru.load_state_dict(
        {name.removeprefix("gru_layers."): x for name, x in w.items() if name.startswith("gru_layers.")}
    )
    x = linear(w, "dense", gru(w["item_embedding.weight"][ids])[0])
    return x[torch.arange(len(x)), (ids != 0).sum(1) - 1] @ w["item_embedding.weight"].T


def pmixer(w: Weights, ids: Tensor, *, layers: int, heads: int, version: str) -> Tensor:
    """pmixer's SASRec, which pads on the left: ``classic`` of 2020, ``post`` and ``pre`` since 2024."""
    count = (ids != 0).sum(1)
    ids = torch.stack([row.roll(int(ids.shape[1] - n)) for row, n in zip(ids, count, strict=True)])
    B, L = ids.shape
    click = (ids != 0).unsqueeze(-1)
    x = w["item_emb.weight"][ids] * w["item_emb.weight"].shape[1] ** 0.5
    places = torch.arange(L).expand(B, L)
    x = x + w["pos_emb.weight"][places if version == "classic" else (places + 1) * click.squeeze(-1)]
    x = x * click if version == "classic" else x
    blocked = torch.ones(L, L, dtype=torch.bool).triu(1)
    for i in range(layers):
        first, second = f"attention_layernorms.{i}", f"forward_layernorms.{i}"
        weight, bias = w[f"attention_layers.{i}.in_proj_weight"], w[f"attention_layers.{i}.in_proj_bias"]

        def attend(query: Tensor, seen: Tensor, i: int = i, weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
            parts = zip((query, seen, seen), weight.chunk(3), bias.chunk(3), strict=True)
            q, k, v = (F.linear(x, matrix, b) for x, matrix, b in parts)
            logits = multi_head(q, k, v, heads, blocked)
            return linear(w, f"attention_layers.{i}.out_proj", logits)

        def forward(x: Tensor, i: int = i) -> Tensor:
            for name in ("conv1", "conv2"):
                x = F.linear(
                    x, w[f"forward_layers.{i}.{name}.weight"].squeeze(-1), w[f"forward_layers.{i}.{name}.bias"]
                )
                x = torch.relu(x) if name == "conv1" else x
            return x

        if version == "classic":
            q = norm(w, first, x, 1e-8)
            x = norm(w, second, q + attend(q, x), 1e-8)
            x = (x + forward(x)) * click
        elif version == "pre":
            q = norm(w, first, x, 1e-8)
            x = x + attend(q, q)
            x = x + forward(norm(w, second, x, 1e-8))
        else:
            x = norm(w, first, x + attend(x, x), 1e-8)
            x = norm(w, second, x + forward(x), 1e-8)
    return norm(w, "last_layernorm", x, 1e-8)[:, -1] @ w["item_emb.weight"].T


def mamba4rec(w: Weights, ids: Tensor, *, layers: int) -> Tensor:
    """The scan step by step, as Mamba's paper writes it."""
    x = norm(w, "LayerNorm", w["item_embedding.weight"][ids], 1e-12)
    for i in range(layers):
        name = f"mamba_layers.{i}"
        mixed = _mamba(w, f"{name}.mamba", x)
        x = norm(w, f"{name}.LayerNorm", mixed if layers == 1 else mixed + x, 1e-12)
        inner = F.gelu(linear(w, f"{name}.ffn.w_1", x))
        x = norm(w, f"{name}.ffn.LayerNorm", linear(w, f"{name}.ffn.w_2", inner) + x, 1e-12)
    return x[torch.arange(len(x)), (ids != 0).sum(1) - 1] @ w["item_embedding.weight"].T


def _mamba(w: Weights, name: str, x: Tensor) -> Tensor:
    inner, states = w[f"{name}.A_log"].shape
    x, z = linear(w, f"{name}.in_proj", x).chunk(2, dim=-1)
    kernel = w[f"{name}.conv1d.weight"]
    padded = F.pad(x.transpose(1, 2), (kernel.shape[-1] - 1, 0))
    x = F.silu(F.conv1d(padded, kernel, w[f"{name}.conv1d.bias"], groups=inner)).transpose(1, 2)
    rank = w[f"{name}.dt_proj.weight"].shape[1]
    step, B, C = linear(w, f"{name}.x_proj", x).split((rank, states, states), dim=-1)
    step = F.softplus(linear(w, f"{name}.dt_proj", step))
    A, h, outputs = -w[f"{name}.A_log"].exp(), torch.zeros(len(x), inner, states), []
    for t in range(x.shape[1]):
        h = torch.exp(step[:, t, :, None] * A) * h + step[:, t, :, None] * B[:, t, None, :] * x[:, t, :, None]
        outputs.append((h * C[:, t, None, :]).sum(-1) + w[f"{name}.D"] * x[:, t])
    return linear(w, f"{name}.out_proj", torch.stack(outputs, dim=1) * F.silu(z))


def released_sasrec(w: Weights, ids: Tensor, *, heads: int) -> Tensor:
    """With torch's own layer, and nothing masked."""
    size = w["_id_encoder._embedding_matrix.weight"].shape[1]
    layer = nn.TransformerEncoderLayer(
        size, heads, len(w["_transformer.linear1.weight"]), dropout=0.0, batch_first=True
    )
    layer.load_state_dict({name.removeprefix("_transformer."): x for name, x in w.items() if "_transformer." in name})
    items = w["_id_encoder._embedding_matrix.weight"]
    x = items[ids] + w["_position_embedding._embedding_matrix.weight"][: ids.shape[1]]
    x = layer(torch.tanh(linear(w, "_seq_trans.net.0", x)))
    user = x[torch.arange(len(x)), (ids != 0).sum(1) - 1]
    user, items = (_tower(w, name, part) for name, part in (("_classifier", user), ("_target_trans", items)))
    return user @ items.T


def released_gru4rec(w: Weights, ids: Tensor) -> Tensor:
    items = w["_id_encoder._embedding_matrix.weight"]
    gru = nn.GRU(items.shape[1], items.shape[1], batch_first=True)
    gru.load_state_dict({name.removeprefix("_gru_cell."): x for name, x in w.items() if "_gru_cell." in name})
    x = gru(torch.tanh(linear(w, "_seq_trans.net.0", items[ids])))[0]
    user = x[torch.arange(len(x)), (ids != 0).sum(1) - 1]
    return _tower(w, "_classifier", user) @ _tower(w, "_target_trans", items).T


def released_din(w: Weights, ids: Tensor) -> Tensor:
    items = w["_id_encoder._embedding_matrix.weight"]
    clicks = torch.tanh(linear(w, "_seq_trans.net.0", items[ids]))  # [B, L, D]
    targets = torch.tanh(linear(w, "_target_trans.net.0", items))  # [V, D]
    q, k, v = (
        linear(w, f"_target_attention.{name}.net", x)
        for name, x in (
            ("_target_key_transform", targets),
            ("_item_key_transform", clicks),
            ("_value_transform", clicks),
        )
    )
    logits = torch.einsum("vd,bld->bvl", q, k) / q.shape[-1] ** 0.5
    found = logits.masked_fill((ids == 0)[:, None], -1e9).softmax(-1) @ v
    x = torch.cat((targets.expand(len(ids), -1, -1), found), dim=-1)
    for i in (0, 2, 4):
        x = linear(w, f"_classifier.net.{i}", x)
        x = torch.tanh(x) if i < 4 else x
    return x.squeeze(-1)


def released_bert4rec(w: Weights, ids: Tensor, *, layers: int, heads: int) -> Tensor:
    x = w["embedding.token.weight"][ids] + w["embedding.position.pe.weight"]
    blocked = (ids == 0)[:, None, None, :] * 1e5
    for i in range(layers):
        name = f"transformer_blocks.{i}"
        y = _deviation_norm(w, f"{name}.input_sublayer.norm", x)
        q, k, v = (linear(w, f"{name}.attention.linear_layers.{part}", y) for part in range(3))
        x = x + linear(w, f"{name}.attention.output_linear", multi_head(q, k, v, heads, blocked))
        y = linear(w, f"{name}.feed_forward.w_1", _deviation_norm(w, f"{name}.output_sublayer.norm", x))
        x = x + linear(w, f"{name}.feed_forward.w_2", F.gelu(y, approximate="tanh"))
    return x[torch.arange(len(x)), (ids != 0).sum(1) - 1] @ w["embedding.token.weight"].T


def _deviation_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return w[f"{name}.a_2"] * centred / (x.std(-1, keepdim=True) + 1e-6) + w[f"{name}.b_2"]


def _tower(w: Weights, name: str, x: Tensor) -> Tensor:
    return linear(w, f"{name}.net.2", torch.tanh(linear(w, f"{name}.net.0", x)))
