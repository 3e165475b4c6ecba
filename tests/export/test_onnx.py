"""What is inside ``gcn.onnx``, and that the phone's entry points can be exported in the same way."""

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.artifact.recipe import choose_recipe, expected_bytes, shipped_recipe
from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.export.graphs import gcn_graph, scn_graphs
from cocorrrec_export.export.onnx import OPSET, export
from cocorrrec_export.modeling.config import CloudReader, ModelConfig
from cocorrrec_export.runtime.onnx import OnnxRuntime, describe
from tests.conftest import ROOT
from tests.models import CONFIG, random_model


def test_one_self_contained_file_with_native_grus_and_a_dynamic_batch(gcn_fp32: Artifact) -> None:
    import onnx

    model = onnx.load(gcn_fp32.program, load_external_data=False)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert Counter(node.op_type for node in model.graph.node)["GRU"] == 2
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_phones_entry_points(tmp_path: Path, precision: str) -> None:
    recipe = shipped_recipe(f"executorch-xnnpack-{precision}")
    graph = next(g for g in scn_graphs(random_model(), CONFIG, recipe) if g.name == "rank_corrected")
    export([graph], choose_recipe("scn", "onnx"), tmp_path / "rank.onnx", metadata={"sequence_length": 10})
    runtime = OnnxRuntime(tmp_path / "rank.onnx", [graph.contract])
    assert describe(tmp_path / "rank.onnx").metadata == {"sequence_length": 10}
    generator = torch.Generator().manual_seed(0)
    example = [
        torch.randint(1, 60, x.shape, generator=generator, dtype=x.dtype)
        if x.dtype == torch.int32
        else torch.randn(x.shape, generator=generator)
        for x in graph.example
    ]
    outputs = runtime.run(
        graph.name, {spec.name: x.numpy() for spec, x in zip(graph.contract.inputs, example, strict=True)}
    )
    with torch.no_grad():
        expected = graph.module(*example)[0]
    np.testing.assert_allclose(outputs["scores"], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("reader", ["both", "recall"])
def test_a_cloud_of_two_networks_answers_any_number_of_users(reader: CloudReader, tmp_path: Path) -> None:
    config = ModelConfig(
        vocab_size=60, correction="vector", item_side="dot", cloud_reader=reader, cloud_networks=2, cloud_length=12
    )
    recipe, graph = choose_recipe("gcn", "onnx"), gcn_graph(random_model(config), config)
    path = tmp_path / "gcn.onnx"
    export([graph], recipe, path, metadata={"sequence_length": 10})
    runtime = OnnxRuntime(path, [graph.contract])
    ids = torch.randint(1, 60, (5, 12), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    ids *= torch.arange(12) < torch.tensor([12, 1, 7, 12, 0])[:, None]
    for users in (ids, ids[:1]):
        with torch.no_grad():
            expected = graph.module(users)[0]
        np.testing.assert_allclose(runtime.run("correct", {"ids": users.numpy()})["vector"], expected, atol=1e-5)
    assert path.stat().st_size == pytest.approx(expected_bytes(recipe, config), rel=0.1)


@pytest.mark.parametrize("content", [b"", b"\x08\x0a\x12", b"not a model" * 100])
def test_a_damaged_file_is_a_clear_error(gcn_fp32: Artifact, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gcn.onnx"
    path.write_bytes(content)
    with pytest.raises(CocorrrecError, match=r"gcn\.onnx: ONNX Runtime cannot load it"):
        OnnxRuntime(path, gcn_fp32.entry_points)


def test_dynamic_sizes_must_agree_with_the_rest(gcn_fp32: Artifact) -> None:
    runtime = OnnxRuntime(gcn_fp32.program, gcn_fp32.entry_points)
    with pytest.raises(CocorrrecError, match=r"H is float32 \[3, 9, 64\], expected float32 \['N', 10, 64\]"):
        runtime.run("correct", {"H": np.zeros((3, 9, 64), np.float32)})


def test_no_path_of_this_machine_is_in_the_file(gcn_fp32: Artifact) -> None:
    assert str(ROOT).encode() not in gcn_fp32.program.read_bytes()
    assert b"site-packages" not in gcn_fp32.program.read_bytes()


def test_a_folder_keeps_every_weight_once(onnx_int8: Artifact) -> None:
    import onnx

    large = {}
    for path in onnx_int8.program.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            where = {entry.key: entry.value for entry in tensor.external_data}
            assert where or len(tensor.raw_data) < 1024
            if where:
                assert where["location"] == "weights.bin"
                large[int(where["offset"])] = int(where["length"])
    # The item table has 60 rows of 64 bytes; each tensor of the five files that is larger than 1 KiB is there once.
    assert 60 * 64 in large.values()
    assert (
        sum(large.values())
        <= (onnx_int8.program / "weights.bin").stat().st_size
        <= sum(large.values()) + 64 * len(large)
    )


def test_weights_outside_of_the_folder_are_refused(onnx_int8: Artifact, tmp_path: Path) -> None:
    import onnx

    (tmp_path / "weights.bin").write_bytes((onnx_int8.program / "weights.bin").read_bytes())
    (tmp_path / "scn").mkdir()
    model = onnx.load(onnx_int8.program / "rank.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    path = tmp_path / "scn" / "rank.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CocorrrecError, match=r"'../weights\.bin' leads outside"):
        describe(path)
    rank = [entry for entry in onnx_int8.entry_points if entry.name == "rank"]
    with pytest.raises(CocorrrecError, match="ONNX Runtime cannot load it"):
        OnnxRuntime(path, rank)


def mapped_bytes(name: str) -> int:
    """Of files of a name, in this process."""
    found = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(f"/{name}"):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            found += end - start
    return found


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads what this process has mapped from Linux")
def test_entry_points_share_the_memory_of_their_weights(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, vocab_size=20_000)
    recipe = shipped_recipe("onnx-cpu-fp32")
    graphs = scn_graphs(random_model(config), config, recipe)
    export(graphs, recipe, tmp_path / "scn", metadata={"vocab_size": config.vocab_size})
    whole = OnnxRuntime(tmp_path / "scn", [graph.contract for graph in graphs])
    size = (tmp_path / "scn" / "weights.bin").stat().st_size
    assert len(graphs) > 3 and 0 < mapped_bytes("weights.bin") < 1.5 * size
    for graph in graphs:
        inputs = {spec.name: x.numpy() for spec, x in zip(graph.contract.inputs, graph.example, strict=True)}
        alone = OnnxRuntime(tmp_path / "scn", [graph.contract]).run(graph.name, inputs)
        for name, values in whole.run(graph.name, inputs).items():
            np.testing.assert_array_equal(values, alone[name])


@pytest.fixture(scope="module")
def two_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EntryPoint]]:
    recipe = shipped_recipe("onnx-cpu-fp32")
    graphs = [graph for graph in scn_graphs(random_model(), CONFIG, recipe) if graph.name in ("rank", "score")]
    folder = tmp_path_factory.mktemp("onnx") / "scn"
    export(graphs, recipe, folder, metadata={"vocab_size": CONFIG.vocab_size})
    return folder, [graph.contract for graph in graphs]


@pytest.mark.parametrize("changed", ["type", "strings", "dims", "offset", "length"])
def test_outside_weights_that_make_no_sense_are_one_error(
    tmp_path: Path, two_files: tuple[Path, list[EntryPoint]], changed: str
) -> None:
    import onnx

    folder, contracts = two_files
    shutil.copytree(folder, tmp_path / "scn")
    file = tmp_path / "scn" / "rank.onnx"
    model = onnx.load_model(str(file), load_external_data=False)
    tensor = next(x for x in model.graph.initializer if len(x.dims) == 2 and x.external_data)
    where = {entry.key: entry for entry in tensor.external_data}
    if changed in ("type", "strings"):
        tensor.data_type = 99 if changed == "type" else onnx.TensorProto.STRING
    elif changed == "dims":
        rows, columns = tensor.dims
        tensor.dims[:] = [-rows, -columns]
    else:
        where[changed].value = "-4"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(CocorrrecError, match=r"rank\.onnx: ONNX Runtime cannot load it|missing or truncated"):
        OnnxRuntime(tmp_path / "scn", contracts)
