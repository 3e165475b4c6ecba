"""``scn``, ``gcn``, ``parity``: what they print, and what they say when something is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from cocorrrec_export.cli import console
from cocorrrec_export.modeling.store import ModelFolder
from cocorrrec_export.resources import MANIFEST_SCHEMA, RECIPES_DIR
from tests.commands import Cli
from tests.models import model_folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the exports of this module go."""
    return tmp_path_factory.mktemp("dist")


@pytest.fixture
def gcn(cli: Cli, tiny: ModelFolder, dist: Path) -> Path:
    """The cloud model, exported through the command line once."""
    folder = dist / "gcn-onnx-fp32"
    if not folder.exists():
        assert cli("gcn", "--target", "onnx", "--model", tiny.path, "--out", dist).code == 0
    return folder


def test_json_is_one_object_with_path_and_manifest_and_nothing_else(cli: Cli, tiny: ModelFolder, dist: Path) -> None:
    ended = cli("scn", "--target", "executorch", "--model", tiny.path, "--out", dist, "--candidates", 7, "--json")
    assert ended.code == 0, ended.stderr
    made = json.loads(ended.stdout)
    assert made.keys() == {"path", "manifest"}
    assert made["path"] == str(dist / "scn-executorch-fp32")
    assert made["manifest"] == json.loads((dist / "scn-executorch-fp32" / "manifest.json").read_text())
    assert made["manifest"]["recipe"]["shapes"] == {"candidates": 7}
    jsonschema.validate(made["manifest"], json.loads(MANIFEST_SCHEMA.read_text()))
    assert "lowering" in ended.stderr, "progress belongs on stderr"


def test_tables_for_people(cli: Cli, tiny: ModelFolder, dist: Path) -> None:
    ended = cli("gcn", "--model", tiny.path, "--out", dist)
    assert ended.code == 0, ended.stderr
    for part in ("gcn for onnx, fp32", "tiny", "bytes", "FLOPs per token", "parity: pass", "onnxruntime", "ndcg@10"):
        assert part in ended.stdout
    assert sorted(path.name for path in (dist / "gcn-onnx-fp32").iterdir()) == [
        "gcn.onnx",
        "manifest.json",
        "vectors.safetensors",
    ]


def test_parity_of_an_export(cli: Cli, tiny: ModelFolder, gcn: Path) -> None:
    ended = cli("parity", gcn, "--model", tiny.path, "--json")
    assert ended.code == 0, ended.stderr
    made = json.loads(ended.stdout)
    assert made == {"path": str(gcn), "parity": json.loads((gcn / "manifest.json").read_text())["parity"]}
    assert "parity: pass" in cli("parity", gcn, "--model", tiny.path).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scn", "--target", "al"], "unknown target 'al' for the scn (did you mean 'all'?"),
        (["scn", "--target", "all", "--recipe", "x.toml"], "a recipe is for one target: name it instead of 'all'"),
        (
            ["scn", "--target", "executorch", "--precision", "int5"],
            "to executorch in 'int5' (did you mean 'int8'? known: fp16, fp32, int4, int8, pq16, pq8)",
        ),
        (["scn", "--target", "executorch", "--precision", "int8", "--recipe", "x.toml"], "give one of them"),
        (["scn", "--target", "executorch", "--candidates", "many"], "Invalid value for '--candidates'"),
        (["gcn", "--precision", "int8"], "no shipped recipe takes the gcn to onnx in 'int8' (known: fp32)"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_message(cli: Cli, arguments: list[str], message: str) -> None:
    ended = cli(*arguments)
    assert ended.code == 2
    assert message in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr and not ended.stdout


def truncate(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def flip(name: str) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-20] ^= 1
        (folder / name).write_bytes(data)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate("weights.safetensors"), "weights.safetensors: damaged or replaced"),
        (flip("weights.safetensors"), "weights.safetensors: damaged or replaced"),
        (truncate("model.toml"), "model.toml"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors is missing"),
        (truncate("evaluation.safetensors"), "evaluation.safetensors: damaged or replaced"),
        (lambda folder: (folder / "model.toml").write_bytes(b"\x00" * (2 << 20)), "this is not a file of ours"),
    ],
)
def test_a_damaged_model_leaves_nothing(
    cli: Cli, tiny: ModelFolder, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny.path, folder)
    damage(folder)
    ended = cli("gcn", "--model", folder, "--out", tmp_path / "dist")
    assert ended.code in (1, 2)
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr and not ended.stdout
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("name", ["gcn.onnx", "vectors.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_damaged_artifact_is_not_run(
    cli: Cli, tiny: ModelFolder, gcn: Path, tmp_path: Path, name: str, damage: Callable[[str], Callable[[Path], object]]
) -> None:
    folder = tmp_path / "gcn"
    shutil.copytree(gcn, folder)
    damage(name)(folder)
    ended = cli("parity", folder, "--model", tiny.path)
    assert ended.code == 1
    assert "Traceback" not in ended.stderr and not ended.stdout
    assert str(folder) in ended.stderr.replace("\n", "")


def test_parity_against_another_model_names_both(cli: Cli, gcn: Path, tiny: ModelFolder, tmp_path: Path) -> None:
    other = model_folder(tmp_path / "other", vocab_size=61)
    ended = cli("parity", gcn, "--model", other.path)
    assert ended.code == 2
    assert tiny.sha256[:16] in ended.stderr and other.sha256[:16] in ended.stderr


def test_a_model_that_is_not_shipped_has_to_be_named(cli: Cli, gcn: Path) -> None:
    ended = cli("parity", gcn)
    assert ended.code == 2
    assert "made from model 'tiny', which does not ship: give it with --model" in ended.stderr


def test_data_of_other_items_is_refused_and_names_both_digests(cli: Cli, tmp_path: Path) -> None:
    from cocorrrec_export.modeling.config import ModelConfig
    from cocorrrec_export.modeling.store import save_model
    from tests.models import random_model

    facts = {
        "vocabulary_sha256": "0" * 64,
        "filters": {"min_item_interactions": 1, "min_user_interactions": 3},
        "columns": {"user": "user", "item": "item"},
        "negatives": 5,
        "evaluation_seed": 1,
    }
    config = ModelConfig(vocab_size=60)
    (tmp_path / "m").mkdir()
    save_model(tmp_path / "m", random_model(config), config, name="mine", data=facts)
    clicks = "".join(f"u{u},i{(u * 7 + t) % 40},{t}\n" for u in range(9) for t in range(8))
    (tmp_path / "clicks.csv").write_text("user,item,timestamp\n" + clicks)
    ended = cli("gcn", "--model", tmp_path / "m", "--data", tmp_path / "clicks.csv", "--out", tmp_path / "dist")
    assert ended.code == 1
    assert "0000000000000000..." in ended.stderr and "40 items with digest" in ended.stderr
    assert not (tmp_path / "dist").exists()


def test_parity_that_fails_is_said_hop_by_hop_and_publishes_nothing(
    cli: Cli, tiny: ModelFolder, tmp_path: Path
) -> None:
    text = (RECIPES_DIR / "executorch-xnnpack-int8.toml").read_text()
    (tmp_path / "strict.toml").write_text(text.replace("max_rel = 0.05", "max_rel = 1e-7"))
    recipe = ["--recipe", tmp_path / "strict.toml"]
    ended = cli("scn", "--target", "executorch", *recipe, "--model", tiny.path, "--out", tmp_path / "dist", "--json")
    assert ended.code == 1 and not ended.stdout
    assert "the export graph, before export, does not compute what the float32 model does" in ended.stderr
    assert "SQNR" in ended.stderr and "limits: max 0.5, relative 1e-07" in ended.stderr
    assert not list(tmp_path.glob("dist/*"))


def test_a_model_without_a_gcn(cli: Cli, tmp_path: Path) -> None:
    alone = model_folder(tmp_path / "alone", gcn=False)
    assert "there is no cloud half to export" in cli("gcn", "--model", alone.path, "--out", tmp_path).stderr
    own = tmp_path / "own.toml"
    text = (RECIPES_DIR / "executorch-xnnpack-fp32.toml").read_text()
    own.write_text(text.replace('"encode", "user", "rank", ', '"rank", '))
    ended = cli("scn", "--target", "executorch", "--model", alone.path, "--out", tmp_path, "--recipe", own)
    assert ended.code == 2 and "does not have the entry point rank_corrected" in ended.stderr


def test_an_earlier_export_stays_until_the_new_one_is_there(cli: Cli, tiny: ModelFolder, gcn: Path) -> None:
    before = (gcn / "manifest.json").read_bytes()
    text = (RECIPES_DIR / "gcn-onnx-cpu-fp32.toml").read_text().replace("max_rel = 1e-4", "max_rel = 0.0")
    recipe = gcn.parent / "strict.toml"
    recipe.write_text(text)
    ended = cli("gcn", "--recipe", recipe, "--model", tiny.path, "--out", gcn.parent)
    recipe.unlink()
    assert ended.code == 1 and "the exported file in onnxruntime" in ended.stderr
    assert (gcn / "manifest.json").read_bytes() == before


def test_errors_that_nobody_foresaw_keep_their_traceback() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        console.run(broken)
