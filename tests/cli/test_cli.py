"""The commands as a shell sees them: stdout, stderr, exit codes, and what is left on the disk."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cocorrrec_export.cli import console
from cocorrrec_export.metrics import METRICS
from cocorrrec_export.modeling.store import ModelFolder, shipped_models
from cocorrrec_export.resources import MODELS_DIR
from tests.commands import Cli
from tests.models import model_folder

PROGRAM = [sys.executable, "-c", "from cocorrrec_export.cli.export.app import main; main()"]


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def run(*arguments: object, **options: object) -> tuple[int, str, str]:
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["evaluate", "--model", "cocorrrec-beauty"], 1, "give the interactions with --data FILE"),
        (["train", "--data", "{tmp}/none.csv", "--out", "{tmp}/m"], 2, "none.csv: no such file"),
        (["train", "--data", "{tmp}/none.csv", "--out", "{tmp}/m", "--device", "abacus"], 2, "device 'abacus'"),
        (["trian"], 2, "trian"),
    ],
)
def test_one_clear_error(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    status, out, err = run(*(a.format(tmp=tmp_path) for a in arguments), cwd=tmp_path)
    assert (status, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert not any(tmp_path.iterdir())


def test_out_is_a_file(tiny: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "gcn-onnx-fp32").write_text("mine")
    status, _, err = run("gcn", "--model", tiny.path, "--out", tmp_path)
    assert status == 2 and "is a file" in err
    assert (tmp_path / "gcn-onnx-fp32").read_text() == "mine"


def test_a_missing_extra_is_answered_with_the_pip_line(tiny: ModelFolder, tmp_path: Path) -> None:
    hide = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'onnx' else find(name, *rest)\n"
        "from cocorrrec_export.cli.export.app import main\nmain()"
    )
    command = [sys.executable, "-c", hide, "gcn", "--model", str(tiny.path), "--out", str(tmp_path / "dist")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "onnx is not installed: pip install 'cocorrrec-export[onnx]'" in result.stderr
    assert not (tmp_path / "dist").exists() or not any((tmp_path / "dist").iterdir())


MEASURABLE = [name for name, path in shipped_models().items() if (path / "evaluation.safetensors").is_file()]


@pytest.mark.parametrize("name", MEASURABLE)
def test_a_shipped_model_has_the_metrics_that_its_card_says(cli: Cli, name: str) -> None:
    measured = json.loads(cli("evaluate", "--model", name, "--json").stdout)["metrics"]
    shipped = next(row for row in json.loads(cli("models", "--json").stdout) if row["name"] == name)
    card = (MODELS_DIR / name / "README.md").read_text()
    for way, metrics in measured.items():
        assert metrics == pytest.approx(shipped["metrics"][way], abs=1e-4)
        assert " | ".join(f"{value:.4f}" for value in metrics.values()) in card


@pytest.mark.parametrize("first", ["CoCorrRec w/o GCN", "a path/of/" + 30 * "a-long-name"])
def test_a_table_on_a_narrow_terminal_cuts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], first: str
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    cells = [first, *(f"0.{number}" for number in range(1001, 1008))]
    console.print_table("metrics", ("", *METRICS), [cells])
    printed = capsys.readouterr().out
    assert all(cell in printed for cell in (*cells, *METRICS))


def test_an_interruption_that_a_library_swallows_takes_effect_at_the_next_step() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), console.steps() as step:  # noqa: PT012
        step("first")
        for _ in range(2):
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        step("second")
        raise AssertionError("went on")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
