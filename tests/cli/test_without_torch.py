"""Commands that run on a server or next to a phone work where torch and the other costly libraries are missing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# As if these were not installed: neither found nor imported.
_HIDE = """
import importlib.util, sys
hidden = set({hidden!r})
class Hider:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hider())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.split(".")[0] in hidden else find(name, *rest)
"""
COSTLY = ("torch", "polars", "onnx", "onnxscript", "executorch", "coremltools", "litert_torch", "ai_edge_litert")
LIGHT = (
    "artifact.inspect",
    "cli.export.app",
    "cli.profile.app",
    "cli.serve.app",
    "doctor.computer",
    "export.vectors",
    "link.exchange",
    "modeling.store",
    "profiling.machines.device",
    "profiling.machines.host",
    "profiling.profile",
    "profiling.report.compare",
    "serving.model",
    "serving.server",
)


def without(*hidden: str, code: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", _HIDE.format(hidden=hidden) + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


def program(name: str, *arguments: str) -> str:
    return (
        f"sys.argv = ['cocorr-{name}', *{list(arguments)!r}]\nfrom cocorrrec_export.cli.{name}.app import main\nmain()"
    )


def test_the_modules_of_the_light_commands_import_nothing_costly() -> None:
    code = "\n".join(f"import cocorrrec_export.{module}" for module in LIGHT)
    ended = without(*COSTLY, "matplotlib", "ray", code=code)
    assert ended.returncode == 0, ended.stderr


def test_compare_reads_profiles_without_torch() -> None:
    report = "docs/sample_profile"
    ended = without(*COSTLY, "matplotlib", code=program("profile", "compare", report, report, "--json"))
    assert ended.returncode == 0 and '"same"' in ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("hidden", "arguments", "message"),
    [
        ("torch", ("export", "train", "--data", "x.csv", "--out", "m"), r"torch is not installed: .*\[train\]'"),
        ("torch", ("export", "evaluate"), r"torch is not installed: .*\[train\]'"),
        ("torch", ("export", "parity", "dist/x"), r"torch is not installed: .*\[train\]' \(or compare .* --vectors\)"),
        ("onnxscript", ("export", "gcn"), r"onnxscript is not installed: .*\[onnx\]'"),
        ("litert_torch", ("export", "scn", "--target", "tflite"), r"litert_torch is not installed: .*\[tflite\]'"),
        ("polars", ("export", "data", "statistics", "x.csv"), r"polars is not installed: .*\[data\]'"),
        ("matplotlib", ("profile", "dist/x", "--host"), r"matplotlib is not installed: .*\[profile\]'"),
        ("onnxruntime", ("serve", "gcn"), r"onnxruntime is not installed: .*\[serve\]'"),
    ],
)
def test_a_missing_library_is_answered_with_the_line_that_installs_it(
    hidden: str, arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    ended = without(hidden, code=program(*arguments), cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert re.search(message, ended.stderr), ended.stderr
    assert not any(tmp_path.iterdir())
