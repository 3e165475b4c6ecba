"""The external ids of an imported model: its own order of items, and users held out by them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.data.held_out import held_out_set
from cocorrrec_export.data.sources import DataSource
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.importing.importer import Items, import_model
from cocorrrec_export.modeling.store import open_model
from tests.importing.test_layouts import CASES, V, random_weights

NAMES = [f"item-{(7 * row) % 101}" for row in range(1, V)]
"""In no order that sorting gives."""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(random_weights(CASES["sasrec-wide"]), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def write_clicks(path: Path) -> dict[str, list[int]]:
    """Clicks of some users; rows of the model's table by user, without those that the model does not know."""
    generator = torch.Generator().manual_seed(6)
    lines, rows = ["user,item,timestamp"], {}
    for user in range(8):
        clicked = (1 + torch.randperm(V - 1, generator=generator)[: 5 + user]).tolist()
        for time, row in enumerate(clicked):
            lines.append(f"u{user},{NAMES[row - 1]},{2 * time}")
            if time == 1:
                lines.append(f"u{user},unheard-of,3")
        rows[f"u{user}"] = clicked
    path.write_text("\n".join(lines) + "\n")
    return rows


@pytest.mark.parametrize("by_column", [False, True])
def test_held_out_users_have_the_model_s_rows(tmp_path: Path, weights: Path, by_column: bool) -> None:
    if by_column:
        lines = ["id,item", *(f"{row},{name}" for row, name in sorted(enumerate(NAMES, 1), key=lambda x: x[1]))]
    else:
        lines = ["item", "[PAD]", *NAMES]
    (tmp_path / "items.csv").write_text("\n".join(lines) + "\n")
    rows = write_clicks(tmp_path / "clicks.csv")
    items = Items(tmp_path / "items.csv", DataSource(), tmp_path / "clicks.csv")
    imported = import_model(weights, tmp_path / "model", {"num_heads": 3}, items=items)
    folder = open_model(imported.path)
    held_out = EvaluationSet.load(folder.evaluation_path, vocab_size=V)
    assert imported.users == len(held_out) == len(rows)
    for clicked, history, candidates in zip(rows.values(), held_out.histories, held_out.candidates, strict=True):
        before = clicked[:-1][-13:]
        assert history.tolist() == before + [0] * (13 - len(before)) and int(candidates[0]) == clicked[-1]
        assert not set(candidates[1:].tolist()) & set(clicked)
    again = held_out_set(folder, tmp_path / "clicks.csv")
    assert torch.equal(again.histories, held_out.histories) and torch.equal(again.candidates, held_out.candidates)


def test_items_must_be_the_model_s(tmp_path: Path, weights: Path) -> None:
    cases = {
        "item\n" + "\n".join(NAMES[:-1]): f"holds {V - 2} items, the model has {V - 1}",
        "item\n" + "\n".join([*NAMES[:-1], NAMES[0]]): f"more than once: {NAMES[0]}",
        "id,item\n" + "\n".join(f"{2 * row},{name}" for row, name in enumerate(NAMES, 1)): "each number from 1",
    }
    for text, message in cases.items():
        (tmp_path / "items.csv").write_text(text + "\n")
        with pytest.raises(CocorrrecError, match=message):
            import_model(
                weights, tmp_path / "model", {"num_heads": 3}, items=Items(tmp_path / "items.csv", DataSource())
            )
        assert not (tmp_path / "model").exists()


def test_a_held_out_set_by_rows(tmp_path: Path, weights: Path) -> None:
    histories = torch.randint(1, V, (5, 13), dtype=torch.int32)
    candidates = torch.randint(1, V, (5, 4), dtype=torch.int32)
    save_file({"histories": histories, "candidates": candidates}, tmp_path / "users.safetensors")
    imported = import_model(weights, tmp_path / "model", {"num_heads": 3}, evaluation=tmp_path / "users.safetensors")
    assert imported.users == 5
    with pytest.raises(CocorrrecError, match="does not know the external ids of its items"):
        held_out_set(open_model(imported.path), tmp_path / "clicks.csv")
    save_file({"histories": histories[:, :9].contiguous(), "candidates": candidates}, tmp_path / "short.safetensors")
    with pytest.raises(CocorrrecError, match="histories have 9 places, the model reads 13"):
        import_model(weights, tmp_path / "other", {"num_heads": 3}, evaluation=tmp_path / "short.safetensors")
