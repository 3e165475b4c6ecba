"""The yardstick: the same model handed to each toolkit as it is, without this toolkit's export graph.

The module is the plain SCN with 64-bit ids, as one writes it first, converted by the line that each toolkit's own
documentation starts with.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.extras import quiet
from cocorrrec_export.modeling.scn import SCN


class PlainRank(nn.Module):
    """Scores ``[1, C]`` of ``candidates [1, C]`` after the clicks ``ids [1, L]``."""

    def __init__(self, scn: SCN) -> None:
        super().__init__()
        self.scn = scn

    def forward(self, ids: Tensor, candidates: Tensor) -> Tensor:
        return torch.sigmoid(self.scn(ids, candidates))


def contract(length: int, candidates: int, names: tuple[str, str, str] = ("ids", "candidates", "scores")) -> EntryPoint:
    inputs = (TensorSpec(names[0], "int32", (1, length)), TensorSpec(names[1], "int32", (1, candidates)))
    return EntryPoint("rank", inputs, (TensorSpec(names[2], "float32", (1, candidates)),))


def export_plain(target: str, module: nn.Module, example: tuple[Tensor, ...], path: Path) -> None:
    """Write ``module`` by the toolkit's own straightforward way; ids are 32-bit, as in our files."""
    with quiet():
        if target == "executorch":
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            program = torch.export.export(module, example)
            edge = to_edge_transform_and_lower({"rank": program}, partitioner=[XnnpackPartitioner()])
            path.write_bytes(edge.to_executorch().buffer)
        elif target == "tflite":
            import litert_torch

            names = dict(zip(("ids", "candidates"), example, strict=True))
            wrapped = Named(module)
            litert_torch.signature("rank", wrapped, sample_kwargs=names).convert().export(str(path))
        elif target == "onnx":
            torch.onnx.export(
                module, example, str(path), dynamo=True, input_names=["ids", "candidates"], output_names=["scores"]
            )
        else:
            import coremltools as ct

            program = torch.export.export(module, example).run_decompositions({})
            ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True).save(str(path))


class Named(nn.Module):
    """With names for its inputs and its output, which a signature takes from them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module

    def forward(self, ids: Tensor, candidates: Tensor) -> dict[str, Tensor]:
        return {"scores": self.inner(ids, candidates)}


class Attention(nn.Module):
    """One SASRec-like block over the whole history, read at the last click: what a click costs without a state."""

    def __init__(self, table: Tensor, length: int) -> None:
        super().__init__()
        size = table.shape[1]
        self.items = nn.Embedding.from_pretrained(table)
        self.places = nn.Parameter(torch.randn(length, size) * 0.02)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.up, self.down = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        self.first, self.second = nn.LayerNorm(size), nn.LayerNorm(size)
        self.register_buffer("mask", torch.full((length, length), -1e9).triu(1))

    mask: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        x = self.items(ids)[0] + self.places  # [L, D]
        q, k, v = self.qkv(self.first(x)).chunk(3, dim=-1)
        x = x + self.out(torch.softmax(q @ k.T * q.shape[-1] ** -0.5 + self.mask, dim=-1) @ v)
        x = x + self.down(torch.relu(self.up(self.second(x))))
        return x[-1:]
