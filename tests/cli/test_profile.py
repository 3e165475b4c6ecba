"""``cocorr-profile``: help pages, usage, and a profile of this machine from the command line."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.cli.profile.app import app as profile
from cocorrrec_export.modeling.store import ModelFolder
from cocorrrec_export.profiling.report.document import read_profile, write_profile
from cocorrrec_export.profiling.runner.package import RunnerPackage
from tests.cli.test_help import HEAVY
from tests.conftest import ROOT
from tests.profiling.conftest import executorch_package as executorch_package
from tests.profiling.profiles import small_profile

COMMANDS = sorted(get_command(profile).commands)  # type: ignore[attr-defined]


def run(*arguments: object, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """``cocorr-profile`` as a shell would start it."""
    return subprocess.run(
        [sys.executable, "-c", "from cocorrrec_export.cli.profile.app import main; main()", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_no_help_page_imports_a_heavy_library() -> None:
    program = f"""
import sys
from cocorrrec_export.cli.profile.app import app
for page in ([], *([name] for name in {COMMANDS})):
    try:
        app([*page, "--help"])
    except SystemExit as end:
        assert end.code == 0, page
    heavy = [name for name in {(*HEAVY, "matplotlib")} if name in sys.modules]
    assert not heavy, (page, heavy)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_page_has_examples(command: str, tmp_path: Path) -> None:
    shown = run(*([command] if command else []), "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "Examples:" in shown.stdout
    assert "cocorr-profile" in shown.stdout.split("Examples:")[1]


def test_every_option_has_a_sentence() -> None:
    for name, command in get_command(profile).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            text = getattr(parameter, "help", None)
            assert text and text.endswith((".", ".]")), f"{name}: {parameter.name}: {text!r}"


def test_version(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout.startswith("cocorr-profile 0.")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--host"], 2, "no export for executorch or tflite or onnx under dist"),
        (["elsewhere", "--host"], 2, "elsewhere: no such folder"),
        (["--host", "--threads", "1,x"], 2, "--threads takes numbers from 1 to 64 with commas between them, got '1,x'"),
        (["--host", "--lengths", "0"], 2, "--lengths takes numbers from 1 to 1000"),
        (["--host", "--device", "R5"], 2, "leave --device and --clean out"),
        (["compare", "a.json", "b.json"], 2, "a.json: no such file"),
        (["compare", "a.json", "b.json", "--fail-over", "much"], 2, "--fail-over takes a share such as 10% or 0.1"),
        (["build-runner", "--abi", "arm"], 2, "unknown abi 'arm' (known: aarch64, x86_64)"),
        (["build-runner", "--sysroot", "elsewhere", "--abi", "aarch64"], 2, "--sysroot is the root folder of a Linux"),
        (["--hots"], 2, "No such option"),
    ],
)
def test_usage(tmp_path: Path, arguments: list[str], code: int, sentence: str) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr and not done.stdout


@pytest.fixture
def runners(executorch_package: RunnerPackage, tmp_path: Path) -> Path:
    """A cache folder that has the runner already."""
    folder = tmp_path / "cache" / "cocorrrec-export" / "runners"
    folder.mkdir(parents=True)
    (folder / executorch_package.name).symlink_to(executorch_package.path)
    return tmp_path / "cache"


def test_a_profile_of_this_machine_then_a_comparison(
    tiny: ModelFolder, scn_int8: Artifact, runners: Path, tmp_path: Path
) -> None:
    options = ("--host", "--iterations", "30", "--entry-point", "rank", "--model", tiny.path, "--json")
    profiles = []
    for output in ("first", "second"):
        done = run(scn_int8.path, *options, "--output", output, cwd=tmp_path, XDG_CACHE_HOME=str(runners))
        assert done.returncode == 0, done.stderr
        assert "building the" not in done.stderr
        profiles.append(json.loads(done.stdout))
        assert profiles[-1] == read_profile(tmp_path / output)
        files = {path.name for path in (tmp_path / output).iterdir()}
        assert files == {"profile.json", "report.html", "manifest.json", "plots"}
    assert {curve["name"] for curve in profiles[0]["flops"]} == {"scn", "scn+gcn"}
    assert profiles[0]["entry_flops"].keys() == {entry.name for entry in scn_int8.entry_points}
    assert profiles[0]["machine"]["kind"] == "host" and profiles[0]["artifact"]["sequence_length"] == 10
    compared = run("compare", "first", "second", "--json", "--fail-over", "9999%", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    changes = {change["what"]: change for change in json.loads(compared.stdout)["changes"]}
    assert changes["file"]["verdict"] == "same" and changes["rank: planned memory"]["verdict"] == "same"


@pytest.mark.slow
@pytest.mark.parametrize("export", ["scn_fp32", "onnx_int8"])
def test_other_exports(request: pytest.FixtureRequest, runners: Path, tmp_path: Path, export: str) -> None:
    """The model of these is nobody's: no FLOPs then."""
    artifact: Artifact = request.getfixturevalue(export)
    options = ("--host", "--iterations", "5", "--entry-point", "rank", "--output", "profile", "--json")
    done = run(artifact.path, *options, cwd=tmp_path, XDG_CACHE_HOME=str(runners))
    assert done.returncode == 0, done.stderr
    profile = json.loads(done.stdout)
    assert profile["artifact"]["precision"] == artifact.manifest["precision"] and profile["flops"] == []
    assert profile["parity"]["verdict"] == "pass" and profile["parity"]["cases"] > 20
    (rank,) = profile["entry_points"]
    assert sum(rank["heap_parts"].values()) == rank["heap_over_idle_bytes"] > 0
    assert ("onnxruntime" in profile["runner"]["runtime"]) == (profile["runner"]["id"] is None) == ("onnx" in export)


def test_core_ml_is_for_a_mac(coreml_fp32: Artifact, tmp_path: Path) -> None:
    if platform.system() == "Darwin":
        pytest.skip("this is one")
    done = run(coreml_fp32.path, "--host", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: coreml files are profiled on a Mac: Core ML is a part of macOS"


def test_a_regression_is_exit_code_1(tmp_path: Path) -> None:
    slow = small_profile()
    for name, profile_of in (("fast", small_profile()), ("slow", slow)):
        (tmp_path / name).mkdir()
        if profile_of is slow:
            slow["entry_points"][1]["runs"][0]["latency_ns"] = [9000, 9100, 9200]
        write_profile(tmp_path / name, profile_of)
    done = run("compare", "fast", "slow", "--fail-over", "10%", cwd=tmp_path)
    assert done.returncode == 1
    assert "worse by more than 10%: rank: latency" in done.stderr
    assert "rank: latency" in done.stdout
    assert run("compare", "slow", "fast", "--fail-over", "10%", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_other_lengths_and_numbers_of_candidates(
    tiny: ModelFolder, scn_int8: Artifact, runners: Path, tmp_path: Path
) -> None:
    options = ("--host", "--iterations", "5", "--model", tiny.path, "--lengths", "10,20", "--candidates", "5", "--json")
    done = run(scn_int8.path, *options, cwd=tmp_path, XDG_CACHE_HOME=str(runners))
    assert done.returncode == 0, done.stderr
    shapes = json.loads(done.stdout)["shapes"]
    found = {(row["entry_point"], row["length"], row["candidates"]) for row in shapes["rows"]}
    assert found == {("encode", 10, 100), ("rank", 10, 100), ("encode", 20, 100), ("rank", 20, 100), ("rank", 10, 5)}
    assert all(len(row["heap_over_idle_bytes"]) == 5 and len(row["latency_ns"]) == 5 for row in shapes["rows"])
    slopes = {row["entry_point"]: row for row in shapes["per_token"]}
    # encode plans a float32 row for each click, and one more for its squares.
    assert 256 <= slopes["encode"]["planned_bytes_per_token"] <= 600
    assert slopes["rank"]["heap_bytes_per_token"] > slopes["encode"]["heap_bytes_per_token"] > 0
