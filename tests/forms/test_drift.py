"""The export graph stays at the float32 model's own error over many mini-batches: judged by the model in float64."""

import copy

import pytest
import torch

from cocorrrec_export.forms.frame import Storage
from cocorrrec_export.forms.kernel import corrected_user_state
from cocorrrec_export.forms.scn import DeviceSCN
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.ttt import Correction
from tests.drift import VOCABULARY, history, untrained
from tests.models import random_model


# With two features per head a LayerNorm is a sign: random weights make it chaotic, in float32 as a whole.
@pytest.mark.parametrize(
    ("weights", "heads"), [("untrained", 2), ("untrained", 8), ("untrained", 32), ("random", 2), ("random", 8)]
)
@pytest.mark.parametrize("length", [10, 50, 200])
@pytest.mark.parametrize("mini_batch", [1, 2, 10])
@torch.no_grad()
def test_no_drift(mini_batch: int, length: int, heads: int, weights: str) -> None:
    config = ModelConfig(
        vocab_size=VOCABULARY, mini_batch=mini_batch, sequence_length=length, hidden_size=64, num_heads=heads
    )
    model = untrained(config) if weights == "untrained" else random_model(config)
    exact = copy.deepcopy(model).double()
    device = DeviceSCN(model, sequence_length=length, storage=Storage())
    generator = torch.Generator().manual_seed(3)
    size = config.head_dim
    answer = (
        torch.randn(1, heads, mini_batch, mini_batch, generator=generator),
        torch.randn(1, heads, mini_batch, size, generator=generator),
    )
    for kind in ("random", "half", "repeated"):
        ids = history(kind, length)
        rows = model.item_embedding(ids)[0]
        for k in (None, answer):
            correction = None if k is None else Correction(*k)
            true = exact.scn.user_state(
                ids, exact.scn.encode(ids), None if k is None else Correction(*(x.double() for x in k))
            )
            plain = model.scn.user_state(ids, model.scn.encode(ids), correction)
            H = device.encode(rows)
            actual = device.user_state(ids.int(), H) if k is None else corrected_user_state(device, ids.int(), H, *k)
            # Where float32 itself is further off, the graph may be too.
            allowed = max(1e-5, 10 * (plain - true).abs().max().item())
            assert (actual - true).abs().max() <= allowed, (kind, correction is not None)
