"""Every tensor of the authors' implementation, from our model."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.layers import pick_rows
from cocorrrec_export.modeling.scn import last_position
from cocorrrec_export.modeling.ttt import match_statistics
from tests.modeling import golden

TOLERANCE = 1e-5  # absolute, plus as much relative


def assert_close(name: str, actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(
        actual.reshape(expected.shape), expected, atol=tolerance, rtol=tolerance, msg=lambda text: f"{name}: {text}"
    )


def every_tensor(model: CoCorrRec, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What our model computes, under the names of the golden files."""
    scn, ttt = model.scn, model.scn.ttt
    ids, target = tensors["in.clk_sequence"], tensors["in.target_id"]
    ours: dict[str, Tensor] = {}
    H = ours["out.H"] = scn.encode(ids)
    correction = model.correction(H)
    W, b = ttt.W1, ttt.b1
    merged = []
    for j, rows in enumerate(H.split(ttt.mini_batch, dim=1)):
        learned = ttt.learn(rows, W, b)
        out = ttt.read_all(rows, learned, W, b, correction, scn.fusion)
        W, b = ttt.next_state(learned, W, b)
        merged.append(out.Y.transpose(1, 2).flatten(2))
        named = {
            "XQ": ttt.queries(rows, ttt.rope_cos[: rows.shape[1]], ttt.rope_sin[: rows.shape[1]]),
            "XK": learned.XK,
            "XV": learned.XV,
            "eta": out.eta,
            "Z1": learned.Z1,
            "grad_Z1": learned.grad_Z1,
            "attn_pre": out.attn_pre,
            "b_pre": out.b_pre,
            "attn_post": out.attn_post,
            "b_post": out.b_post,
            "Z": out.Z,
            "Z_ln": ttt.head_norm(out.Z),
            "XQW": out.Y,
            "W1_last": W,
            "b1_last": b,
        }
        if correction is not None:
            named |= {
                "K_attn_raw": correction.k_attn,
                "K_b_raw": correction.k_b,
                "K_attn_norm": match_statistics(correction.k_attn, out.attn_pre),
                "K_b_norm": match_statistics(correction.k_b, out.b_pre),
            }
        ours |= {f"mb{j}.{name}": value for name, value in named.items()}
    Y = ours["out.ttt_out"] = torch.cat(merged, dim=1)
    ours["out.post_norm_out"] = ttt.post_norm(Y)
    ours["out.O"] = ttt.output(Y)
    R = ours["out.last_hidden_state"] = scn.output_norm(ours["out.O"])
    index = ours["out.gather_index"] = last_position(ids)
    ours["out.user_state"] = pick_rows(R, index)
    ours["out.target_vec"] = scn.item_vectors(target)
    ours["out.logits"] = model(ids, target[:, None])
    return ours


@pytest.mark.parametrize("case", golden.CASES)
@torch.no_grad()
def test_every_tensor(golden_dir: Path, case: str) -> None:
    model, tensors = golden.load_case(golden_dir / f"{case}.safetensors")
    ours = every_tensor(model, tensors)
    expected = {name: x for name, x in tensors.items() if name.startswith(("out.", "mb"))}
    assert expected.keys() == ours.keys()
    for name, value in expected.items():
        assert_close(name, ours[name], value)


@pytest.mark.parametrize("case", golden.CASES)
@torch.no_grad()
def test_user_state_computes_only_the_last_row(golden_dir: Path, case: str) -> None:
    model, tensors = golden.load_case(golden_dir / f"{case}.safetensors")
    assert_close("user state", model.user_state(tensors["in.clk_sequence"]), tensors["out.user_state"])


@pytest.mark.parametrize("mode", ["base", "corr"])
def test_training_losses_gradients_and_parameters(golden_dir: Path, mode: str) -> None:
    tensors, _ = golden.read(golden_dir / f"train10.{mode}.safetensors")
    after, _ = golden.read(golden_dir / f"train10_grads_final.{mode}.safetensors")
    model = build_model(ModelConfig(vocab_size=200, gcn=mode == "corr")).train()
    model.load_state_dict(golden.parameters(tensors, model))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    for step in range(10):
        logits = model(tensors["in.clk_sequence"][step], tensors["in.target_id"][step][:, None])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.squeeze(1), tensors["in.label"][step])
        assert_close(f"loss {step}", loss.detach(), tensors["out.loss"][step], 1e-4)
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            gradients = golden.parameters(after, model, prefix="grad1.")
            for name, parameter in model.named_parameters():
                assert parameter.grad is not None
                assert_close(f"gradient of {name}", parameter.grad, gradients[name])
        optimiser.step()
    # Adam divides by the root of the squared gradient, which turns rounding into a visible difference.
    for name, expected in golden.parameters(after, model, prefix="final.").items():
        assert_close(f"final {name}", dict(model.named_parameters())[name].detach(), expected, 1e-3)
