"""Run torch's exported programs."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.runtime.base import Arrays, ProgramFacts, check_inputs, in_order, named_outputs

LIBRARIES = ("torch",)


class Pt2Runtime:
    """A folder of programs."""

    def __init__(self, path: Path, entry_points: Sequence[EntryPoint]) -> None:
        self.executed_by = f"torch {torch.__version__}"
        self.entry_points = {entry.name: entry for entry in entry_points}
        self._modules = {name: torch.export.load(path / f"{name}.pt2").module() for name in self.entry_points}

    @torch.no_grad()
    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        contract = check_inputs(self.entry_points, entry_point, inputs)
        outputs = self._modules[entry_point](*map(torch.from_numpy, in_order(contract, inputs)))
        return named_outputs(contract, [x.numpy() for x in outputs])


def load(program: Path, entry_points: Sequence[EntryPoint]) -> Pt2Runtime:
    return Pt2Runtime(program, entry_points)


def describe(program: Path) -> ProgramFacts:
    return ProgramFacts((), json.loads((program / "metadata.json").read_text()))
