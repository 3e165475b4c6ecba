"""What converters copy, and what they share."""

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cocorrrec_export.export import memory
from cocorrrec_export.export.exporter import find_exporter
from cocorrrec_export.export.memory import LARGE, one_copy_of_tables, stand_ins
from cocorrrec_export.forms.weights import FloatTable, Int8Table
from cocorrrec_export.targets import find_target
from tests.conftest import ROOT, script


def test_tables_are_shared_and_all_else_is_copied() -> None:
    module = nn.Module()
    module.register_buffer("table", torch.zeros(LARGE, dtype=torch.int8))
    module.register_buffer("small", torch.zeros(3))
    module.weight = nn.Parameter(torch.zeros(LARGE))
    with one_copy_of_tables():
        made = copy.deepcopy(module)
    assert made.table is module.table
    assert made.small is not module.small
    assert made.weight is not module.weight
    assert copy.deepcopy(module).table is not module.table


class Looked(nn.Module):
    """Rows of a table, and a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Int8Table(torch.randn(100, 8))
        self.again = self.table
        self.matrix = nn.Linear(8, 100)


def test_a_few_rows_stand_for_a_table_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LARGE", 1)
    monkeypatch.setattr(memory, "TALL", 70)
    module, other = Looked(), FloatTable(torch.randn(100, 4))
    whole, scale, weight = module.table.quantized, module.table.scale.values, module.matrix.weight
    with stand_ins([module, other, module]) as made:
        assert [(len(each.rows), len(each.table)) for each in made] == [(64, 100)] * 3
        assert len({each.rows.tobytes() for each in made}) == 3
        assert module.again.quantized.shape == (64, 8) and other.weight.shape == (64, 4)
        assert module.matrix.weight is weight
    assert module.table.quantized is whole and module.table.scale.values is scale
    assert made[0].table.base is not None  # not a copy
    with pytest.raises(RuntimeError, match="stops"), stand_ins([module]):
        raise RuntimeError("it stops")
    assert module.table.quantized is whole
    monkeypatch.setattr(memory, "TALL", 101)
    with stand_ins([module]) as made:
        assert made == [] and module.table.quantized is whole


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("target", ["tflite", "coreml"])
def test_the_file_is_that_of_a_converter_that_had_the_whole_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, precision: str
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    scale, files = script("scale", "benchmarks"), []
    for tall in (300, 400):
        monkeypatch.setattr(memory, "LARGE", 300)
        monkeypatch.setattr(memory, "TALL", tall)
        path = tmp_path / str(tall)
        path.mkdir()
        export = find_exporter(target).export
        program = path / find_target(target).programs["scn"].name
        export(scale.graphs_of(300, target, precision), scale.recipe_of(target, precision), program, metadata={})
        found = sorted(x for x in path.rglob("*") if x.is_file())
        files.append({str(x.relative_to(path)): x.read_bytes() for x in found})
    assert files[0] == files[1]


def test_a_table_is_read_by_look_ups_alone() -> None:
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    from cocorrrec_export.export.tflite import _put_tables

    made = memory.StandIn(np.ones((64, 4), np.float32), np.zeros((100, 4), np.float32))

    def model(code: int) -> SimpleNamespace:
        graph = SimpleNamespace(
            tensors=[SimpleNamespace(buffer=0, shape=[3]), SimpleNamespace(buffer=1, shape=[64, 4])],
            operators=[SimpleNamespace(opcodeIndex=0, inputs=[1, 0])],
        )
        buffers = [SimpleNamespace(data=None), SimpleNamespace(data=made.rows.reshape(-1).view(np.uint8))]
        return SimpleNamespace(operatorCodes=[SimpleNamespace(builtinCode=code)], subgraphs=[graph], buffers=buffers)

    looked_up = model(schema.BuiltinOperator.GATHER)
    _put_tables(looked_up, [made])
    assert looked_up.subgraphs[0].tensors[1].shape == [100, 4] and looked_up.buffers[1].data.nbytes == 1600
    with pytest.raises(ValueError, match="something else than a look-up"):
        _put_tables(model(schema.BuiltinOperator.MUL), [made])
