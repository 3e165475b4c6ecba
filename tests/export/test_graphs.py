"""The export graph equals the plain model, at every length and with every option."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from cocorrrec_export.artifact.recipe import Recipe, shipped_recipe
from cocorrrec_export.contract import new_stream
from cocorrrec_export.errors import UsageError
from cocorrrec_export.export import graphs
from cocorrrec_export.forms.frame import Storage
from cocorrrec_export.forms.scn import DeviceSCN
from cocorrrec_export.modeling.config import Architecture, CloudReader, ModelConfig
from tests.modeling import golden
from tests.models import random_model, random_ranker

OPTIONS: list[dict[str, Any]] = [
    {},
    {"sequence_length": 1},
    {"sequence_length": 7},
    {"sequence_length": 11},
    {"sequence_length": 13, "remask_correction": True},
    {"sequence_length": 20},
    {"sequence_length": 25},
    {"mini_batch": 1},
    {"mini_batch": 2},
    {"mini_batch": 5},
    {"mini_batch": 5, "sequence_length": 25},
    {"mini_batch": 4, "sequence_length": 25},
    {"mini_batch": 20, "inner_loss": "sigmoid"},
    {"mini_batch": 4, "sequence_length": 14, "inner_loss": "sigmoid"},
    {"hidden_size": 32, "num_heads": 2, "mini_batch": 5, "sequence_length": 20},
    {"readout": "residual"},
    {"readout": "residual", "sequence_length": 25, "item_side": "dot"},
    {"readout": "residual", "sequence_length": 7, "mini_batch": 5, "remask_correction": True},
]


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.to(expected.dtype), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("item_side", ["computed", "folded"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_device_form_equals_the_plain_model(options: dict[str, Any], item_side: str) -> None:
    config = ModelConfig(vocab_size=60, **options)
    if (config.item_side, item_side) == ("dot", "folded"):
        pytest.skip("there is nothing to fold")
    model, L = random_model(config), config.sequence_length
    device = DeviceSCN(model, sequence_length=L, storage=Storage(item_side=item_side))
    generator = torch.Generator().manual_seed(0)
    for clicks in range(L + 1):
        ids = torch.randint(1, 60, (1, L), generator=generator) * (torch.arange(L) < clicks)
        candidates = torch.randint(0, 60, (1, 9), generator=generator)
        H = model.scn.encode(ids)
        correction = model.correction(H)
        assert correction is not None
        close(graphs.Encode(device)(ids.int())[0], H)
        close(graphs.Rank(device)(ids.int(), candidates.int())[0], model.scn(ids, candidates))
        corrected = graphs.RankCorrected(device)(ids.int(), candidates.int(), *correction)[0]
        close(corrected, model(ids, candidates))
        user = model.scn.user_state(ids, H)
        close(graphs.Score(device)(user, candidates.int())[0], model.scn.score(user, candidates))


@pytest.mark.parametrize("readout", ["norm", "residual"])
@pytest.mark.parametrize("mini_batch", [1, 5, 10])
@torch.no_grad()
def test_step_equals_the_plain_step_and_the_dual_form(mini_batch: int, readout: Any) -> None:
    config = ModelConfig(vocab_size=60, mini_batch=mini_batch, readout=readout)
    model = random_model(config)
    step = graphs.Step(DeviceSCN(model, sequence_length=10, storage=Storage()))
    items = torch.randint(1, 60, (35, 1), generator=torch.Generator().manual_seed(0))
    state = tuple(map(torch.from_numpy, new_stream(graphs.scn_contracts(config, candidates=1)["step"]).values()))
    plain = model.scn.start_stream(1)
    for item in items:
        *state, user = step(item.int(), *state)
        plain, expected = model.scn.step(item, plain)
        close(user, expected)
        for ours, theirs in zip(state, plain, strict=True):
            close(ours, theirs)
    close(user, model.user_state(items.T, corrected=False))


@pytest.mark.parametrize("case", golden.CASES)
@torch.no_grad()
def test_golden_cases(golden_dir: Path, case: str) -> None:
    model, tensors = golden.load_case(golden_dir / f"{case}.safetensors")
    ids, targets = tensors["in.clk_sequence"], tensors["in.target_id"]
    device = DeviceSCN(model, sequence_length=ids.shape[1], storage=Storage())
    for row, (history, target) in enumerate(zip(ids.int(), targets.int(), strict=True)):
        inputs = (history[None], target.reshape(1, 1))
        correction = model.correction(model.scn.encode(history[None].long()))
        if correction is None:
            scores = graphs.Rank(device)(*inputs)[0]
        else:
            scores = graphs.RankCorrected(device)(*inputs, *correction)[0]
        close(scores[0], tensors["out.logits"][row])


def recipe(**changes: Any) -> Recipe:
    import dataclasses

    return dataclasses.replace(shipped_recipe("executorch-xnnpack-fp32"), **changes)


def test_contracts_and_examples_agree() -> None:
    config = ModelConfig(vocab_size=60)
    for graph in graphs.scn_graphs(random_model(config), config, recipe()):
        assert [tuple(x.shape) for x in graph.example] == [spec.shape for spec in graph.contract.inputs]
        outputs = graph.module(*graph.example)
        assert [tuple(x.shape) for x in outputs] == [spec.shape for spec in graph.contract.outputs]
        assert [str(x.dtype) for x in outputs] == [f"torch.{spec.dtype}" for spec in graph.contract.outputs]


VECTOR = ModelConfig(
    vocab_size=60, correction="vector", item_side="dot", readout="residual", cloud_length=17, cloud_networks=2
)


@pytest.mark.parametrize("reader", get_args(CloudReader))
@torch.no_grad()
def test_the_halves_of_a_vector_equal_the_plain_model(reader: CloudReader) -> None:
    """Cloud to vector, vector to scores; and the same by user, addition and score, as for an answer that came late."""
    config = dataclasses.replace(VECTOR, cloud_reader=reader)
    model = random_model(config)
    phone = {graph.name: graph for graph in graphs.scn_graphs(model, config, recipe(shipped=True))}
    assert list(phone) == ["user", "rank", "rank_corrected", "step", "score"]
    cloud = graphs.gcn_graph(model, config)
    assert [spec.shape for spec in (*cloud.contract.inputs, *cloud.contract.outputs)] == [("N", 17), ("N", 64)]
    memory = torch.randint(1, 60, (4, 17), generator=torch.Generator().manual_seed(0))
    memory *= torch.arange(17) < torch.tensor([17, 12, 3, 1])[:, None]
    ids = torch.tensor([row[row != 0][-10:].tolist() + [0] * max(0, 10 - int((row != 0).sum())) for row in memory])
    candidates = torch.randint(1, 60, (4, 100), generator=torch.Generator().manual_seed(1))
    vectors = cloud.module(memory.int())[0]
    expected = model(ids, candidates, memory=memory)
    assert (expected - model(ids, candidates, corrected=False)).abs().min() > 0
    for row in range(4):
        history, items, vector = ids[row : row + 1].int(), candidates[row : row + 1].int(), vectors[row : row + 1]
        close(phone["rank_corrected"].module(history, items, vector)[0], expected[row : row + 1])
        late = phone["user"].module(history)[0] + vector
        close(phone["score"].module(late, items)[0], expected[row : row + 1])


@torch.no_grad()
def test_scores_are_logits_unless_a_recipe_asks_for_probabilities() -> None:
    config = ModelConfig(vocab_size=60)
    model = random_model(config)
    model.scn.output_norm.weight.mul_(60.0)  # sigmoids of most of these logits are 0 or 1 in float32
    ids, items = torch.arange(1, 11).int()[None], torch.arange(1, 60).int()[None]
    plain = model(ids.long(), items.long(), corrected=False)
    logits, probabilities = (
        graphs.scn_graphs(model, config, recipe(entry_points=("rank",), scores=scores))[0].module(ids, items)[0]
        for scores in ("logit", "probability")
    )
    torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(probabilities, torch.sigmoid(plain), rtol=1e-4, atol=1e-4)
    assert logits.unique().numel() == 59 > probabilities.unique().numel()


def test_a_model_without_a_gcn_takes_no_correction() -> None:
    config = ModelConfig(vocab_size=60, gcn=False)
    model = random_model(config)
    with pytest.raises(UsageError, match="correction 'none' does not have the entry point rank_corrected"):
        graphs.scn_graphs(model, config, recipe(entry_points=("rank", "rank_corrected"), shipped=False))
    shipped = graphs.scn_graphs(model, config, recipe(shipped=True))
    assert [graph.name for graph in shipped] == ["user", "rank", "step", "score"]
    with pytest.raises(UsageError, match="no cloud half"):
        graphs.gcn_graph(model, config)


def test_a_model_in_training_mode_is_refused() -> None:
    config = ModelConfig(vocab_size=60)
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        graphs.scn_graphs(random_model(config).train(), config, recipe())


PRODUCTS = {torch.ops.aten.linear.default, torch.ops.aten.mm.default, torch.ops.aten.matmul.default}


@pytest.mark.parametrize("length", [7, 10, 15, 25])
@pytest.mark.parametrize("architecture", graphs.FORMS)
def test_no_constant_is_a_weight_here_and_an_operand_there(architecture: Architecture, length: int) -> None:
    """XNNPACK in ExecuTorch packs a weight and frees its values: an operand that shares them reads freed memory."""
    config = ModelConfig(vocab_size=60, architecture=architecture, sequence_length=length)
    for graph in graphs.scn_graphs(random_ranker(config), config, recipe()):
        program = torch.export.export(graph.module, graph.example)
        for node in program.graph.nodes:
            if node.name not in program.graph_signature.inputs_to_buffers:
                continue
            weight_of = [user for user in node.users if user.target in PRODUCTS and user.args[1] is node]
            assert len(weight_of) in (0, len(node.users)), f"{graph.name}: {node.name} in {list(node.users)}"
