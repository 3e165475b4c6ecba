"""Files that are not weights: one clear error each, and no code in them is run."""

import json
import os
import pickle
import shlex
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.importing.files import read_weights
from cocorrrec_export.importing.importer import import_model
from tests.commands import Cli


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class Config(dict[str, int]):
    """Stands for the settings object that RecBole keeps in its checkpoints."""


Config.__module__, Config.__qualname__ = "recbole.config.configurator", "Config"


def save_trap(path: Path) -> None:
    torch.save({"state_dict": {"x": torch.ones(2)}, "config": Trap(path.with_suffix(".sprung"))}, path)


def save_legacy_trap(path: Path) -> None:
    torch.save(Trap(path.with_suffix(".sprung")), path, _use_new_zipfile_serialization=False)


def save_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"x": Trap(path.with_suffix(".sprung"))}))


def save_module(path: Path) -> None:
    torch.save(torch.nn.Linear(2, 3), path)


def save_truncated(path: Path, *, share: float = 0.5) -> None:
    torch.save({f"layer{i}.weight": torch.ones(40, 40) for i in range(4)}, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def save_truncated_safetensors(path: Path) -> None:
    save_file({"x": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-40])


def save_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2 << 30)


def save_compressed(path: Path) -> None:
    """A small archive that unpacks to much more."""
    torch.save({"x": torch.zeros(1 << 20)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def save_expanded(path: Path) -> None:
    """A tensor that says to have a billion numbers and stores one."""
    torch.save({"x": torch.ones(1, 1).expand(1 << 15, 1 << 15)}, path)


def save_bomb(path: Path) -> None:
    """A pickle without classes of its own, by which torch would make a terabyte of zeros."""
    call = b"cbuiltins\nbytearray\n\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"\x85R"
    torch.save({"x": torch.ones(1)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, b"\x80\x02}X\x01\x00\x00\x00x" + call + b"s." if name.endswith("data.pkl") else data)


def save_tied(path: Path) -> None:
    """A thousand names of one tensor, each of which would become one of its own."""
    x = torch.zeros(100_000, dtype=torch.float16)
    torch.save({f"x{number}": x for number in range(1000)}, path)


def save_script(path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)


def save_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "trap.pth": (save_trap, "unpickling runs whatever code"),
    "legacy.pt": (save_legacy_trap, "unpickling runs whatever code"),
    "plain.pkl": (save_pickle, "unpickling runs whatever code|truncated or damaged"),
    "module.pkl": (save_module, r"pickled objects \(.*Linear"),
    "truncated.pt": (save_truncated, "truncated or damaged"),
    "short.pt": (lambda path: save_truncated(path, share=0.002), "truncated or damaged"),
    "truncated.safetensors": (save_truncated_safetensors, "not a complete safetensors file"),
    "empty.pt": (lambda path: path.write_bytes(b"") and None, "the file is empty"),
    "sparse.pt": (save_sparse, "neither a safetensors file nor one that torch.save wrote"),
    "text.pt": (lambda path: path.write_text("name,value\n1,2\n") and None, "neither a safetensors file"),
    "deflated.pt": (save_compressed, "a compressed archive"),
    "expanded.pt": (save_expanded, "larger than the bytes that it has"),
    "bomb.pt": (save_bomb, "unpickling runs whatever code"),
    "tied.pt": (save_tied, "200,000,000 bytes, more than 4 times the file's"),
    "archive.zip": (save_zip, "a zip archive that torch.save did not write: it holds readme.txt"),
    "list.pt": (lambda path: torch.save([torch.ones(2)], path), "no state_dict: it holds a list"),
    "numbers.pt": (lambda path: torch.save({"epoch": 3}, path), "a dictionary with epoch"),
    "ints.pt": (lambda path: torch.save({"x": torch.ones(2, dtype=torch.int64)}, path), "is torch.int64"),
    "none.pt": (lambda path: torch.save({}, path), "no state_dict"),
}


@pytest.mark.parametrize("name", FILES)
def test_no_weights(tmp_path: Path, name: str) -> None:
    save, message = FILES[name]
    path = tmp_path / name
    save(path)
    with pytest.raises(CocorrrecError, match=message) as raised:
        import_model(path, tmp_path / "model", {})
    assert str(path) in str(raised.value) and len(str(raised.value)) < 900
    assert sorted(tmp_path.iterdir()) == [path], "something was run, or written"


@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_a_nested_tensor_is_no_weight(tmp_path: Path) -> None:
    torch.save({"x": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}, tmp_path / "nested.pt")
    with pytest.raises(CocorrrecError, match="weights are dense floating-point numbers"):
        read_weights(tmp_path / "nested.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_program_is_no_state_dict(tmp_path: Path) -> None:
    save_script(tmp_path / "script.pt")
    with pytest.raises(CocorrrecError, match="TorchScript program"):
        read_weights(tmp_path / "script.pt")


def test_a_recbole_checkpoint_gets_the_line_that_saves_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType(Config.__module__)
    module.Config = Config  # type: ignore[attr-defined]
    path = tmp_path / "SASRec-Nov-25-2026_12-00-00.pth"
    with monkeypatch.context() as patch:  # RecBole's environment
        for name in ("recbole", "recbole.config", Config.__module__):
            patch.setitem(sys.modules, name, module)
        torch.save({"config": Config(), "epoch": 1, "state_dict": {"x": torch.ones(2)}}, path)
        with pytest.raises(CocorrrecError, match="a RecBole checkpoint with its pickled config") as raised:
            read_weights(path)
        code = str(raised.value).split("python -c ")[1]
        exec(shlex.split(code)[0])
    assert torch.equal(read_weights(tmp_path / f"{path.stem}-weights.pt")["x"], torch.ones(2))


def test_a_missing_file_and_a_model_folder(tmp_path: Path) -> None:
    from tests.models import model_folder

    with pytest.raises(UsageError, match="no such file"):
        import_model(tmp_path / "none.pt", tmp_path / "model", {})
    folder = model_folder(tmp_path / "mine")
    with pytest.raises(UsageError, match="it is a model folder already"):
        import_model(folder.path, tmp_path / "model", {})


def test_half_precision_is_widened(tmp_path: Path) -> None:
    x = torch.randn(3, 4)
    torch.save({"a": x.half(), "b": x.bfloat16(), "c": x.double()}, tmp_path / "half.pt")
    read = read_weights(tmp_path / "half.pt")
    assert all(value.dtype == torch.float32 for value in read.values())
    assert torch.equal(read["a"], x.half().float()) and torch.equal(read["c"], x)


def recbole_weights() -> dict[str, torch.Tensor]:
    from tests.importing.test_layouts import CASES, random_weights

    return random_weights(CASES["sasrec-wide"])


def edited(remove: str = "", add: str = "", shape: str = "") -> dict[str, torch.Tensor]:
    weights = {name: x for name, x in recbole_weights().items() if not remove or remove not in name}
    if add:
        weights[add] = torch.ones(2)
    if shape:
        weights[shape] = torch.ones(5)
    return weights


RESNET = {f"layer{i}.{j}.conv1.weight": torch.ones(4, 4, 3, 3) for i in range(1, 5) for j in range(2)}
QUERY = "trm_encoder.layer.1.multi_head_attention.query"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda: RESNET, r"not a layout that is known: 8 tensors, layer1.0.conv1.weight.*RecBole's SASRec"),
        (lambda: edited(remove=QUERY), rf"Nearest: RecBole's SASRec, with 2 tensors missing: {QUERY}.bias; {QUERY}"),
        (lambda: edited(add="extra.weight"), "Nearest: RecBole's SASRec, with 1 tensor unexpected: extra.weight"),
        (lambda: edited(remove="LayerNorm.weight"), r"7 tensors missing: .*; \.\.\."),
        (
            lambda: edited(shape="trm_encoder.layer.2.feed_forward.dense_2.bias"),
            r"RecBole's SASRec, but 1 tensor misshapen: .*dense_2.bias is \[5\], expected \[48\]",
        ),
        (lambda: edited() | {"LayerNorm.bias": torch.full((48,), float("nan"))}, "not finite: LayerNorm.bias"),
        (lambda: edited() | {"item_embedding.weight": torch.ones(7)}, "the shape of item_embedding.weight"),
    ],
)
def test_no_layout(tmp_path: Path, weights: Callable[[], dict[str, torch.Tensor]], message: str) -> None:
    torch.save(weights(), tmp_path / "weights.pt")
    with pytest.raises(CocorrrecError, match=message) as raised:
        import_model(tmp_path / "weights.pt", tmp_path / "model", {"num_heads": 3})
    assert len(str(raised.value)) < 700 and not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "hidden_size must be a multiple of num_heads"),
        ({"sequence_length": 30}, "--sequence-length 30: the tensors of RecBole's SASRec say 13; leave the option out"),
        ({"norm_position": "pre"}, "--norm-position has no meaning.*--num-heads, --hidden-act, --layer-norm-eps"),
        ({"hidden_act": "mish"}, "hidden_act must be one of"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    torch.save(recbole_weights(), tmp_path / "weights.pt")
    with pytest.raises(UsageError, match=message):
        import_model(tmp_path / "weights.pt", tmp_path / "model", options)


def test_nothing_of_the_user_s_is_overwritten(tmp_path: Path) -> None:
    torch.save(recbole_weights(), tmp_path / "weights.pt")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already: give another --out"):
        import_model(tmp_path / "weights.pt", tmp_path / "model", {"num_heads": 3})
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"


def test_the_commands(tmp_path: Path, cli: Cli) -> None:
    torch.save(recbole_weights(), tmp_path / "weights.pt")
    out = tmp_path / "models" / "mine"
    done = cli("import", str(tmp_path / "weights.pt"), "--num-heads", "3", "--out", str(out), "--json")
    printed = json.loads(done.stdout)
    assert {key: printed[key] for key in ("path", "layout", "architecture", "assumed")} == {
        "path": str(out),
        "layout": "recbole",
        "architecture": "sasrec",
        "assumed": {"hidden_act": "gelu", "layer_norm_eps": 1e-12},
    }
    cli("export-weights", str(out), "--layout", "recbole", "--out", str(tmp_path / "back.pt"))
    back = read_weights(tmp_path / "back.pt")
    assert all(torch.equal(back[name], x) for name, x in recbole_weights().items())
