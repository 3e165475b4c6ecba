"""Every row of ``targets.py`` is whole, and a further target is one row, two modules and a recipe."""

import importlib
from pathlib import Path

import pytest

from cocorrrec_export import targets
from cocorrrec_export.artifact.manifest import open_artifact
from cocorrrec_export.artifact.recipe import load_recipe, shipped_recipes
from cocorrrec_export.errors import UsageError
from cocorrrec_export.export import pipeline, vectors
from cocorrrec_export.resources import RECIPES_DIR
from cocorrrec_export.targets import TARGETS, Program, Target, find_target
from tests.conftest import ROOT
from tests.models import model_folder

PAGE = (ROOT / "docs" / "targets.md").read_text()


@pytest.mark.parametrize("row", TARGETS.values(), ids=list(TARGETS))
def test_every_row_has_exporter_runtime_recipes_worker_and_a_line_in_the_docs(row: Target) -> None:
    assert callable(row.module("export").export)
    for name in row.module("runtime").LIBRARIES:
        importlib.import_module(name)
    assert callable(row.module("runtime").load) and callable(row.module("runtime").describe)
    assert set(row.runs_with) <= set(row.modules)
    if row.runner is None:
        assert callable(row.module("profiling.machines", "_worker").runtime)
    shipped = {(x.kind, x.backend, x.precision) for x in shipped_recipes() if x.target == row.name}
    assert shipped == {
        (kind, backend, precision)
        for kind, program in row.programs.items()
        for backend in program.backends
        for precision in program.precisions
    }
    assert row.name in PAGE


def test_an_unknown_target_names_the_nearest_by_its_beginning_too() -> None:
    with pytest.raises(UsageError, match="unknown target 'exec' \\(did you mean 'executorch'\\?"):
        find_target("exec")


FIFTH = Target(
    name="pt2",
    extra="pt2",
    modules=("torch",),
    runs_with=("torch",),
    distributions=("torch",),
    suffix=".pt2",
    programs={"scn": Program(name="scn", backends=("cpu",), precisions=("int8",), graph_bytes=0)},
    package="tests.fifth_target",
)


def test_a_fifth_target_exports_runs_and_passes_parity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(targets.TARGETS, "pt2", FIFTH)
    text = (RECIPES_DIR / "onnx-cpu-int8.toml").read_text().replace('"onnx"', '"pt2"')
    (tmp_path / "pt2.toml").write_text(text)
    source = pipeline.open_source(str(model_folder(tmp_path / "tiny").path), None)
    made = pipeline.export(source, load_recipe(tmp_path / "pt2.toml"), tmp_path / "dist")
    assert made.path.name == "scn-pt2-int8" and made.manifest["parity"]["verdict"] == "pass"
    assert made.manifest["parity"]["executed_by"].startswith("torch ")
    again = open_artifact(made.path)
    assert (again.target, again.program.name) == ("pt2", "scn")
    # Its process of its own would not know a row that only this one has.
    monkeypatch.setattr(vectors, "in_child", lambda _what, function, *arguments: function(*arguments))
    limits = load_recipe(tmp_path / "pt2.toml").limits
    checked = pipeline.check(made.path, model=str(tmp_path / "tiny"), data=None, limits=limits)
    assert checked.as_dict()["verdict"] == "pass"
