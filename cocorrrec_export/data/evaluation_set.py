"""A held-out slice that travels with a model: histories, and one positive among sampled negatives for each."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.modeling.store import read_tensors, write_tensors


@dataclass(frozen=True)
class EvaluationSet:
    """Internal item ids of the held-out users."""

    histories: Tensor  # [U, L] int64, right-padded with 0
    candidates: Tensor  # [U, 1 + negatives] int64, the positive in column 0

    def __len__(self) -> int:
        """Number of users."""
        return len(self.histories)

    def save(self, path: Path) -> None:
        """Write as int32 safetensors."""
        write_tensors({"histories": self.histories.int(), "candidates": self.candidates.int()}, path)

    @classmethod
    def load(cls, path: Path, *, vocab_size: int) -> "EvaluationSet":
        """Read and check a file of :meth:`save`.

        Raises:
            CocorrrecError: not such a file, or ids outside the vocabulary.
        """
        tensors = read_tensors(path)
        if tensors.keys() != {"histories", "candidates"}:
            raise CocorrrecError(f"{path}: holds {sorted(tensors)}, an evaluation file has candidates and histories")
        for name, x in tensors.items():
            if x.dtype != torch.int32 or x.ndim != 2 or 0 in x.shape:
                raise CocorrrecError(f"{path}: {name} is {x.dtype} {list(x.shape)}, expected int32 of two dimensions")
            low = 0 if name == "histories" else 1
            first, last = int(x.min()), int(x.max())
            if first < low or last >= vocab_size:
                raise CocorrrecError(
                    f"{path}: {name} holds items {first} to {last}, the model knows {low} to {vocab_size - 1}"
                )
        if len(tensors["histories"]) != len(tensors["candidates"]) or tensors["candidates"].shape[1] < 2:
            raise CocorrrecError(f"{path}: histories and candidates do not belong together")
        return cls(tensors["histories"].long(), tensors["candidates"].long())
