"""Every layout in other sizes than the golden files: against the library's function, and back bit for bit."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cocorrrec_export.contract import new_stream
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.export.graphs import FORMS, Rank, Score, Step, scn_contracts
from cocorrrec_export.forms.frame import Storage
from cocorrrec_export.importing.files import read_weights
from cocorrrec_export.importing.importer import export_weights, import_model
from cocorrrec_export.importing.layouts import LAYOUTS, Layout, fixed_values
from cocorrrec_export.importing.rules import to_theirs
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.store import load_model, open_model
from tests.importing import references
from tests.models import random_ranker

V = 40


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that another library trained."""

    layout: str
    architecture: str
    sizes: dict[str, Any]
    """What is in the tensors."""
    options: dict[str, Any]
    """What the user has to give."""
    scores: Callable[[dict[str, Tensor], Tensor], Tensor]

    @property
    def row(self) -> Layout:
        return next(row for row in LAYOUTS if (row.name, row.architecture) == (self.layout, self.architecture))

    def config(self) -> ModelConfig:
        values = fixed_values(self.row) | self.row.assumed | {"vocab_size": V} | self.sizes | self.options
        return ModelConfig(architecture=self.architecture, **values)


def recbole(architecture: str, *, heads: int, act: str, eps: float, layers: int, **sizes: int) -> Model:
    options = {"num_heads": heads, "hidden_act": act, "layer_norm_eps": eps}
    scores = partial(references.recbole_transformer, layers=layers, heads=heads, act=act, eps=eps)
    head = {"output_bias": True} if architecture == "bert4rec" else {}
    return Model("recbole", architecture, sizes | head | {"num_layers": layers}, options, scores)


def pmixer(version: str, *, heads: int, layers: int, **sizes: int) -> Model:
    options = {"num_heads": heads} | ({"norm_position": "pre"} if version == "pre" else {})
    told = {"padding": "zeroed", "norm_position": "query"} if version == "classic" else {}
    told = told if version == "classic" else {"padding": "visible", "norm_position": version}
    scores = partial(references.pmixer, heads=heads, layers=layers, version=version)
    return Model("pmixer", "sasrec", sizes | told | {"num_layers": layers}, options, scores)


CASES = {
    "sasrec-wide": recbole(
        "sasrec", heads=3, act="swish", eps=1e-3, layers=3, hidden_size=48, inner_size=80, sequence_length=13
    ),
    "sasrec-tanh": recbole(
        "sasrec", heads=1, act="tanh", eps=1e-8, layers=1, hidden_size=10, inner_size=7, sequence_length=1
    ),
    "bert4rec-deep": recbole(
        "bert4rec", heads=4, act="relu", eps=1e-5, layers=3, hidden_size=32, inner_size=40, sequence_length=9
    ),
    "bert4rec-one": recbole(
        "bert4rec", heads=2, act="sigmoid", eps=1e-12, layers=1, hidden_size=8, inner_size=32, sequence_length=2
    ),
    "gru4rec": Model(
        "recbole",
        "gru4rec",
        {"hidden_size": 24, "inner_size": 36, "num_layers": 2, "gru_bias": False},
        {"sequence_length": 11},
        partial(references.recbole_gru4rec, layers=2),
    ),
    "pmixer-classic": pmixer("classic", heads=2, layers=2, hidden_size=20, inner_size=20, sequence_length=8),
    "pmixer-post": pmixer("post", heads=1, layers=2, hidden_size=20, inner_size=20, sequence_length=8),
    "pmixer-pre": pmixer("pre", heads=4, layers=3, hidden_size=24, inner_size=24, sequence_length=5),
    "mamba4rec-one": Model(
        "mamba4rec",
        "mamba4rec",
        {"hidden_size": 20, "num_layers": 1, "state_size": 8, "conv_kernel": 3, "expand": 3},
        {"sequence_length": 7},
        partial(references.mamba4rec, layers=1),
    ),
    "mamba4rec-three": Model(
        "mamba4rec",
        "mamba4rec",
        {"hidden_size": 16, "num_layers": 3, "state_size": 16, "conv_kernel": 4, "expand": 2},
        {"sequence_length": 6},
        partial(references.mamba4rec, layers=3),
    ),
    "released-sasrec": Model(
        "release", "sasrec", {"hidden_size": 24}, {"num_heads": 3}, partial(references.released_sasrec, heads=3)
    ),
    "released-gru4rec": Model("release", "gru4rec", {"hidden_size": 24}, {}, references.released_gru4rec),
    "released-din": Model("release", "din", {"hidden_size": 24}, {"sequence_length": 6}, references.released_din),
    "released-bert4rec": Model(
        "release",
        "bert4rec",
        {"hidden_size": 24, "num_layers": 3, "sequence_length": 6},
        {"num_heads": 2},
        partial(references.released_bert4rec, layers=3, heads=2),
    ),
}


def random_weights(case: Model) -> dict[str, Tensor]:
    """A state_dict in the library's layout, every number of it random but those of padding."""
    return to_theirs(case.row.rules(case.config()), random_ranker(case.config(), seed=3).state_dict())


def histories(length: int) -> Tensor:
    """Of every length, right-padded."""
    ids = torch.randint(1, V, (2 * length, length), generator=torch.Generator().manual_seed(2))
    return ids * (torch.arange(length) <= torch.arange(2 * length)[:, None] % length)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_imported_scores_are_the_library_s(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    weights = random_weights(case)
    torch.save(weights, tmp_path / "weights.pt")
    imported = import_model(tmp_path / "weights.pt", tmp_path / "model", case.options)
    assert (imported.layout, imported.architecture) == (case.layout, case.architecture)
    folder = open_model(tmp_path / "model")
    model, config = load_model(folder), folder.config
    ids = histories(config.sequence_length)
    expected = case.scores(weights, ids)
    scores = model(ids, torch.arange(V).expand(len(ids), -1))
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores, model.match_all(model.user_state(ids), model.item_vectors(torch.arange(V))))

    device = FORMS[config.architecture].device(model, sequence_length=config.sequence_length, storage=Storage())
    for history, row in zip(ids, expected, strict=True):
        (found,) = Rank(device)(history[None].int(), torch.arange(V)[None].int())
        close_ranks(found, row)
    (empty,) = Rank(device)(torch.zeros_like(ids[:1]).int(), torch.arange(V)[None].int())
    close_ranks(empty, model(torch.zeros_like(ids[:1]), torch.arange(V)[None])[0])

    export_weights(folder, case.layout, tmp_path / "back.safetensors")
    back = read_weights(tmp_path / "back.safetensors")
    assert back.keys() == weights.keys() and all(torch.equal(back[key], x) for key, x in weights.items())


def close_ranks(found: Tensor, logits: Tensor) -> None:
    torch.testing.assert_close(found[0], logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["gru4rec", "mamba4rec-one", "mamba4rec-three"])
@torch.no_grad()
def test_streams_in_other_sizes(name: str) -> None:
    config = CASES[name].config()
    model = random_ranker(config)
    device = FORMS[config.architecture].device(model, sequence_length=config.sequence_length, storage=Storage())
    state, plain = (
        tuple(map(torch.from_numpy, new_stream(scn_contracts(config, candidates=1)["step"]).values())),
        model.start_stream(1),
    )
    items = torch.randint(1, V, (9, 1), generator=torch.Generator().manual_seed(4))
    for item in items:
        *state, user = Step(device)(item.int(), *state)
        plain, expected = model.step(item, plain)
        torch.testing.assert_close(user, expected, atol=1e-5, rtol=1e-4)
        for ours, theirs in zip(state, plain, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(user, model.user_state(items.T), atol=1e-5, rtol=1e-4)
    close_ranks(Score(device)(user, torch.arange(V)[None].int())[0], model(items.T, torch.arange(V)[None])[0])


@pytest.mark.parametrize(
    "options",
    [
        {"architecture": "cocorrrec"},
        {"architecture": "cocorrrec", "gcn": False, "mini_batch": 5, "sequence_length": 5},
        {"architecture": "sasrec", "num_layers": 2, "attention": "causal", "readout": "residual", "item_side": "dot"},
        {"architecture": "gru4rec", "num_layers": 2},
        {"architecture": "mamba4rec"},
    ],
)
def test_our_own_layout_carries_its_config(tmp_path: Path, options: dict[str, Any]) -> None:
    from tests.models import model_folder

    folder = model_folder(tmp_path / "model", users=False, **options)
    export_weights(folder, "plain", tmp_path / "weights.safetensors")
    imported = import_model(tmp_path / "weights.safetensors", tmp_path / "again", {})
    again = open_model(imported.path)
    assert (imported.layout, imported.assumed, again.config) == ("plain", {}, folder.config)
    ours, theirs = load_model(folder).state_dict(), load_model(again).state_dict()
    assert all(torch.equal(theirs[name], x) for name, x in ours.items())


def test_a_header_of_another_program_is_no_damage(tmp_path: Path) -> None:
    model = build_model(ModelConfig(vocab_size=V, architecture="gru4rec", hidden_size=12))
    entries = {"format": "pt", "library": "somebody's", "sha256_of_the_data": "7"}
    save_file(model.state_dict(), tmp_path / "weights.safetensors", metadata=entries)
    imported = import_model(tmp_path / "weights.safetensors", tmp_path / "model", {})
    assert (imported.layout, open_model(imported.path).config.hidden_size) == ("plain", 12)


@pytest.mark.parametrize("size", [24, 64])
def test_our_own_file_with_other_weights_is_damaged(tmp_path: Path, size: int) -> None:
    """Its digest is checked among the header's other entries."""
    from tests.models import model_folder

    path = tmp_path / "weights.safetensors"
    folder = model_folder(tmp_path / "model", users=False, architecture="gru4rec", hidden_size=size)
    export_weights(folder, "plain", path)
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CocorrrecError, match="its own digest"):
        import_model(path, tmp_path / "again", {})


def test_a_safetensors_header_as_long_as_a_pickle_begins(tmp_path: Path) -> None:
    """Whatever the first byte of its length is; a header may be padded with blanks."""
    path, model = tmp_path / "w.safetensors", build_model(ModelConfig(vocab_size=V, architecture="din", hidden_size=8))
    save_file(model.state_dict(), path)
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    padded = size + (0x80 - size) % 256
    path.write_bytes(padded.to_bytes(8, "little") + data[8 : 8 + size].ljust(padded) + data[8 + size :])
    assert path.read_bytes()[:1] == b"\x80"
    found = read_weights(path)
    assert all(torch.equal(found[name], x) for name, x in model.state_dict().items())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CocorrrecError, match="not a complete safetensors file"):
        read_weights(path)


def test_our_own_state_dict_as_torch_saves_it(tmp_path: Path) -> None:
    model = build_model(ModelConfig(vocab_size=V, architecture="gru4rec", hidden_size=12))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    imported = import_model(tmp_path / "weights.pt", tmp_path / "model", {})
    assert (imported.layout, open_model(imported.path).config.hidden_size) == ("plain", 12)
