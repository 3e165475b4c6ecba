"""Weights of RecBole and of the authors' release: imported, they give the scores that their own code gave."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from cocorrrec_export.importing.files import read_weights
from cocorrrec_export.importing.importer import export_weights, import_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.store import ModelFolder, load_model, open_model
from cocorrrec_export.runtime.base import score_list
from tests.modeling.golden import CASES, read

RECBOLE = ("sasrec_L20_n2_h2_gelu", "sasrec_L20_n1_h4_relu", "gru4rec_L20_n1_h0_", "bert4rec_L20_n2_h2_gelu")
TOLERANCE = 1e-5


def state_dict(tensors: dict[str, Tensor], path: Path, *, prefix: str = "") -> Path:
    """What the library's own ``torch.save(model.state_dict())`` writes."""
    torch.save({prefix + name[6:]: x for name, x in tensors.items() if name.startswith("param.")}, path)
    return path


def recbole_options(meta: dict[str, str]) -> dict[str, Any]:
    """What a user who trained with these settings gives."""
    settings = json.loads(meta["config"])
    if meta["model"] == "GRU4Rec":
        return {"sequence_length": settings["MAX_ITEM_LIST_LENGTH"]}
    return {"num_heads": settings["n_heads"], **{key: settings[key] for key in ("hidden_act", "layer_norm_eps")}}


def import_recbole(folder: Path, golden_dir: Path, name: str) -> tuple[ModelFolder, dict[str, Tensor]]:
    tensors, meta = read(golden_dir / "recbole" / f"{name}.safetensors")
    import_model(state_dict(tensors, folder / "weights.pt"), folder / "model", recbole_options(meta))
    return open_model(folder / "model"), tensors


def every_score(model: Ranker, ids: Tensor) -> Tensor:
    items = torch.arange(model.item_embedding.num_embeddings)
    with torch.no_grad():
        return model(ids, items.expand(len(ids), -1))


@pytest.mark.parametrize("name", RECBOLE)
def test_recbole_scores(tmp_path: Path, golden_dir: Path, name: str) -> None:
    folder, tensors = import_recbole(tmp_path, golden_dir, name)
    scores = every_score(load_model(folder), tensors["in.item_id_list"])
    torch.testing.assert_close(scores, tensors["out.scores"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", RECBOLE)
def test_recbole_weights_come_back_bit_for_bit(tmp_path: Path, golden_dir: Path, name: str) -> None:
    folder, tensors = import_recbole(tmp_path, golden_dir, name)
    export_weights(folder, "recbole", tmp_path / "back.safetensors")
    with safe_open(tmp_path / "back.safetensors", framework="pt") as file:
        back = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    theirs = {key[6:]: x for key, x in tensors.items() if key.startswith("param.")}
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[key], x) and back[key].dtype == x.dtype for key, x in theirs.items())


@pytest.mark.parametrize("case", CASES)
def test_released_logits(tmp_path: Path, golden_dir: Path, case: str) -> None:
    tensors, meta = read(golden_dir / f"{case}.safetensors")
    file = state_dict(tensors, tmp_path / "weights.pt")
    imported = import_model(file, tmp_path / "model", {"sequence_length": int(meta["seq_len"])})
    assert (imported.layout, imported.architecture) == ("release", "cocorrrec")
    folder = open_model(tmp_path / "model")
    model = load_model(folder)
    assert folder.config == ModelConfig(
        vocab_size=200,
        hidden_size=int(meta["hidden"]),
        num_heads=int(meta["heads"]),
        mini_batch=int(meta["mini_batch"]),
        sequence_length=int(meta["seq_len"]),
        gcn=meta["mode"] == "corr",
    )
    with torch.no_grad():
        logits = model(tensors["in.clk_sequence"], tensors["in.target_id"][:, None])
    torch.testing.assert_close(logits, tensors["out.logits"], atol=TOLERANCE, rtol=TOLERANCE)
    export_weights(folder, "release", tmp_path / "back.pt")
    back, theirs = read_weights(tmp_path / "back.pt"), read_weights(file)
    assert back.keys() == theirs.keys() and all(torch.equal(back[name], x) for name, x in theirs.items())


def test_a_prefix_and_a_checkpoint_around_the_tensors(tmp_path: Path, golden_dir: Path) -> None:
    tensors, _ = read(golden_dir / "recbole" / f"{RECBOLE[0]}.safetensors")
    prefixed = torch.load(state_dict(tensors, tmp_path / "a.pt", prefix="module.model."), weights_only=True)
    torch.save({"epoch": 3, "state_dict": prefixed, "optimizer": {"lr": 0.1}}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        imported = import_model(tmp_path / name, tmp_path / f"model-{name}", {})
        assert (imported.layout, imported.architecture) == ("recbole", "sasrec")
        assert imported.assumed == {"num_heads": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12}


TARGETS = ("executorch", "coreml", "tflite", "onnx")
# Every model on every target in float32, where scores have to agree; then every other precision on every target, each
# time of the next model, so that every precision meets every model and every target.
EXPORTS = [
    *((name, target, "fp32") for name in RECBOLE for target in TARGETS),
    *(
        (RECBOLE[(row + column) % len(RECBOLE)], target, precision)
        for row, precision in enumerate(("fp16", "int8", "int4"))
        for column, target in enumerate(TARGETS)
    ),
    # Its mask row, taken where the history ends, and its bias per item are in no other model.
    *(("bert4rec_L20_n2_h2_gelu", target, "int8") for target in TARGETS),
]


def exported_scores(folder: Path, golden_dir: Path, name: str, target: str, precision: str) -> tuple[Tensor, Tensor]:
    """Scores of every item but the padding row, of the file and of RecBole."""
    from cocorrrec_export.artifact.recipe import choose_recipe
    from cocorrrec_export.export import pipeline
    from cocorrrec_export.runtime.open import open_runtime

    imported, tensors = import_recbole(folder, golden_dir, name)
    source = pipeline.open_source(str(imported.path), None)
    artifact = pipeline.export(source, choose_recipe("scn", target, precision=precision), folder / "dist")
    runtime = open_runtime(target, artifact.program, artifact.entry_points)
    items = torch.arange(1, 121).numpy()
    rows = [score_list(runtime, "rank", {"ids": x[None].int().numpy()}, items) for x in tensors["in.item_id_list"]]
    return torch.stack([torch.from_numpy(row) for row in rows]), tensors["out.scores"][:, 1:121]


def check_exported_scores(actual: Tensor, expected: Tensor, precision: str) -> None:
    ours, theirs = (x.topk(10).indices for x in (actual, expected))
    overlap = (ours[:, :, None] == theirs[:, None, :]).any(1).float().mean()
    if precision == "fp32":
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)
    assert overlap >= {"fp32": 1.0, "fp16": 0.99, "int8": 0.97, "int4": 0.7}[precision]


@pytest.mark.parametrize(("name", "target", "precision"), [("sasrec_L20_n1_h4_relu", "onnx", "fp32")])
def test_an_imported_model_exports(tmp_path: Path, golden_dir: Path, name: str, target: str, precision: str) -> None:
    check_exported_scores(*exported_scores(tmp_path, golden_dir, name, target, precision), precision)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "target", "precision"), dict.fromkeys(EXPORTS))
def test_every_imported_model_exports(tmp_path: Path, golden_dir: Path, name: str, target: str, precision: str) -> None:
    check_exported_scores(*exported_scores(tmp_path, golden_dir, name, target, precision), precision)
