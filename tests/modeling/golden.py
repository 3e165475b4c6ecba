"""Read the tensors of the authors' implementation, and load their parameters into our model."""

from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.joint import CoCorrRec

CASES = (
    "A_h64_L10_full.base",
    "A_h64_L10_full.corr",
    "B_h64_L10_rightpad.base",
    "B_h64_L10_rightpad.corr",
    "C_h32_nh2_mb5_L20_full.base",
    "C2_h32_nh2_mb5_L20_rightpad.base",
    "D_h64_L20_mb10_rightpad.base",
    "D_h64_L20_mb10_rightpad.corr",
    "E_h64_L7_remainder.base",
    "E2_h64_L13_remainder.base",
    "F_h64_L10_leftpad.base",
    "F_h64_L10_leftpad.corr",
)

_BLOCK = "ttt.layers.0.seq_modeling_block."
_NAMES = {
    "_target_trans.net.": "scn.item_mlp.",
    "ttt.embed_tokens.": "scn.item_embedding.",
    "ttt.layers.0.seq_norm.": "scn.input_norm.",
    "ttt.norm.": "scn.output_norm.",
    _BLOCK + "Att_corrnet._gru_cell.": "gcn.attn.gru.",
    _BLOCK + "Att_corrnet.": "gcn.attn.",
    _BLOCK + "b1_corrnet._gru_cell.": "gcn.b.gru.",
    _BLOCK + "b1_corrnet.": "gcn.b.",
    _BLOCK + "learnable_token_idx": "scn.ttt.token_offset",
    _BLOCK + "learnable_ttt_lr_weight": "scn.ttt.lr_weight",
    _BLOCK + "learnable_ttt_lr_bias": "scn.ttt.lr_bias",
    _BLOCK + "ttt_norm_weight": "scn.ttt.ln_weight",
    _BLOCK + "ttt_norm_bias": "scn.ttt.ln_bias",
    _BLOCK + "P": "scn.fusion.P",
    _BLOCK + "Q": "scn.fusion.Q",
    _BLOCK: "scn.ttt.",
}


def our_name(theirs: str) -> str:
    """The name of a parameter of the authors' implementation in our model."""
    prefix = max((p for p in _NAMES if theirs.startswith(p)), key=len)
    return _NAMES[prefix] + theirs.removeprefix(prefix)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file, and its metadata."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def parameters(tensors: dict[str, Tensor], model: CoCorrRec, *, prefix: str = "param.") -> dict[str, Tensor]:
    """The tensors under ``prefix`` by our names, in the shapes of our parameters."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    ours = {our_name(name.removeprefix(prefix)): x for name, x in tensors.items() if name.startswith(prefix)}
    assert ours.keys() == shapes.keys()
    return {name: x.reshape(shapes[name]) for name, x in ours.items()}


def load_case(path: Path) -> tuple[CoCorrRec, dict[str, Tensor]]:
    """Our model with the parameters of a forward case, and the case's tensors."""
    tensors, meta = read(path)
    config = ModelConfig(
        vocab_size=int(meta["vocab"]),
        hidden_size=int(meta["hidden"]),
        num_heads=int(meta["heads"]),
        mini_batch=int(meta["mini_batch"]),
        sequence_length=int(meta["seq_len"]),
        gcn=meta["mode"] == "corr",
    )
    model = build_model(config)
    model.load_state_dict(parameters(tensors, model))
    return model.eval(), tensors
