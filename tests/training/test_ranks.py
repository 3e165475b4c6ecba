"""Several processes train what one does, and a run goes on with another number of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cocorrrec_export.data.sources import DataSource, make_cut
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.isolation import child_environment, python_command
from cocorrrec_export.training import loop
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.losses import sampled_softmax_loss
from cocorrrec_export.training.ranks import Ranks, joined
from tests.training.test_training import csv_file, new_model, training_data

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "rows": ("bce", {"alone_weight": 0.5, "average": 0.9}),
    "rows of a sample": ("sampled_softmax", {"positions": "all", "sampled_items": 25}),
    "the whole table": ("softmax", {}),
    "adagrad": ("bce", {"table_optimizer": "rowwise_adagrad"}),
}
STOPPED = "rows"


class Stop(loop.Listener):
    """Ends a run after its first epoch."""

    def on_epoch_start(self, epoch: int, steps: int, done: int) -> None:  # noqa: ARG002
        if epoch == 2:
            raise InterruptedError


def trained(way: str, checkpoint: Path | None = None, *, stop: bool = False, resume: bool = False) -> dict[str, Any]:
    """Losses, and some weights, of two epochs; the last batch has fewer histories than the others."""
    objective, settings = WAYS[way]
    data = training_data()
    config = TrainConfig(epochs=2, batch_size=359 if settings.get("positions") != "all" else 239, **settings)
    model = new_model(gcn=objective == "bce", item_side="mlp" if objective == "bce" else "dot")
    listener = Stop() if stop else None
    state = loop.fit(model, data, config, objective=objective, checkpoint=checkpoint, resume=resume, listener=listener)
    return {"losses": [x["loss"] for x in state.records], "table": model.item_embedding.weight[:3].tolist()}


def child(folder: Path) -> None:
    """What ``torchrun`` starts."""
    torch.set_num_threads(1)
    with joined("cpu") as ranks:
        found = {way: trained(way) for way in WAYS}
        (folder / f"{ranks.rank}.json").write_text(json.dumps(found))
        try:
            trained(STOPPED, folder / "checkpoint", stop=True)
        except InterruptedError:
            return


def ended(command: list[str], *, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


def torchrun(processes: int, *command: str) -> list[str]:
    start = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    return python_command(*start, *command)


@pytest.mark.slow
def test_processes_train_what_one_does_and_any_number_goes_on(tmp_path: Path) -> None:
    environment = child_environment(PYTHONPATH=str(Path(__file__).parents[2]), OMP_NUM_THREADS="1")
    done = ended(torchrun(2, __file__, str(tmp_path)), env=environment)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for way in WAYS:
        alone = trained(way)
        assert first[way] == second[way], way  # bit for bit: they do not drift apart
        np.testing.assert_allclose(first[way]["losses"], alone["losses"], rtol=2e-4, err_msg=way)
        np.testing.assert_allclose(first[way]["table"], alone["table"], atol=2e-3, err_msg=way)
    resumed = trained(STOPPED, tmp_path / "checkpoint", resume=True)
    np.testing.assert_allclose(resumed["losses"], trained(STOPPED)["losses"], rtol=2e-4)


@pytest.mark.slow
def test_the_command_writes_one_model(tmp_path: Path) -> None:
    make_cut(csv_file(tmp_path / "clicks.csv"), DataSource(), tmp_path / "clicks.cut")
    (tmp_path / "small.toml").write_text("[training]\nevaluation_negatives = 20\nepochs = 1\n")
    settings = ("--config", str(tmp_path / "small.toml"), "--recipe", "paper", "--json")
    train = ("train", "--data", str(tmp_path / "clicks.cut"), *settings)
    program = Path(sys.executable).with_name("cocorr-export")
    command = torchrun(2, "--no-python", str(program), *train, "--out", str(tmp_path / "model"))
    done = ended(command, env=child_environment(OMP_NUM_THREADS="1"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == str(tmp_path / "model")
    assert (tmp_path / "model" / "model.toml").is_file()


def test_shares_are_all_rows_once() -> None:
    for count, size in ((10, 3), (2, 3), (205, 4), (1, 1)):
        rows = [row for rank in range(size) for row in range(count)[Ranks(rank, size).share(count)]]
        assert rows == list(range(count))


def test_shares_of_a_sampled_loss_add_up_to_it() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, log_expected = torch.randn(7, 12, generator=generator), torch.randn(12, generator=generator)
    candidates = torch.tensor([3, 4, 3, 5, 6, 7, 8, 9, 3, 5, 1, 2])
    whole = sampled_softmax_loss(logits, candidates[:7], candidates, log_expected)
    parts = [
        sampled_softmax_loss(logits[part], candidates[part], candidates, log_expected, first=part.start)
        for part in (slice(0, 3), slice(3, 7))
    ]
    torch.testing.assert_close((3 * parts[0] + 4 * parts[1]) / 7, whole)


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with joined("cpu") as ranks:
        assert ranks == Ranks(0, 1) == Ranks.here()


def test_others_that_cannot_be_reached_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    torchruns = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "none"}
    for name, value in torchruns.items():
        monkeypatch.setitem(os.environ, name, value)
    with pytest.raises(CocorrrecError, match="the 2 processes of torchrun do not find each other"), joined("cpu"):
        pass


if __name__ == "__main__":
    child(Path(sys.argv[1]))
