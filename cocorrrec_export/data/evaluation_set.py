"""A held-out slice that travels with a model: histories, and one positive among sampled negatives for each."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.modeling.store import read_tensors, write_tensors

_TENSORS = {"histories", "candidates"}
_SAVED = 4096  # users at a time
_EARLIER = {"earlier_items", "earlier_offsets"}


Compared = Literal["own", "same", "other", "unknown"]
"""Whose clicks a model is measured on: the held-out users that came with it, the interactions that it was trained on,
other interactions of the same items, or some of which nobody knows whether it was trained on them."""
_MAY_FLATTER = "it may have been trained on the clicks that are held out here, and its figures be better than it is"
_SENTENCES: dict[Compared, str] = {
    "own": "measured on the held-out users that came with the model",
    "same": "measured on the interactions that the model was trained on: on clicks that were held out",
    "other": f"warning: the model was trained on other interactions of the same items: {_MAY_FLATTER}",
    "unknown": f"warning: the model does not say which interactions it was trained on: {_MAY_FLATTER}",
}


@dataclass(frozen=True)
class EarlierClicks:
    """All clicks of each held-out user before the target, oldest first: slices of one array, which is not copied."""

    items: NDArray[np.int32]
    starts: NDArray[np.int64]  # [U]
    stops: NDArray[np.int64]  # [U]

    @classmethod
    def before_last(cls, interactions: Interactions, count: int) -> "EarlierClicks":
        """The clicks of every user but the last ``count``."""
        return cls(interactions.items, interactions.offsets[:-1], interactions.offsets[1:] - count)

    def without_last(self, count: int) -> "EarlierClicks":
        """The same but each user's last ``count``; a user with fewer keeps none."""
        return EarlierClicks(self.items, self.starts, np.maximum(self.starts, self.stops - count))

    def last(self, rows: slice, count: int) -> Tensor:
        """The last ``count`` clicks of the users ``rows``, ``[U, count]`` int64, right-padded with 0."""
        clicks = np.minimum(self.stops[rows] - self.starts[rows], count)
        column = np.arange(count)
        source = (self.stops[rows] - clicks)[:, None] + column
        is_click = column < clicks[:, None]
        found = np.where(is_click, self.items[np.where(is_click, source, 0)], 0)
        return torch.from_numpy(found.astype(np.int64))

    def pairs(self, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Every click of the users ``rows``: the user's place among them, and the item."""
        counts = self.stops[rows] - self.starts[rows]
        user = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
        return user, self.items[self.starts[rows][user] + within]


@dataclass(frozen=True)
class EvaluationSet:
    """Internal item ids of the held-out users."""

    histories: Tensor  # [U, L] int, right-padded with 0
    candidates: Tensor  # [U, 1 + negatives] int, the positive in column 0
    earlier: EarlierClicks | None = None
    """What a ranking of the whole catalog leaves out, and a cloud with a longer memory reads; folders of models that
    earlier versions wrote lack it."""
    compared: Compared = field(default="own", compare=False)

    def __len__(self) -> int:
        """Number of users."""
        return len(self.histories)

    def describe_compared(self) -> str:
        """Whose clicks these are, a sentence."""
        return _SENTENCES[self.compared]

    def repeated_share(self) -> float:
        """Share of the users whose target is the last click of their history: recommending it again earns that."""
        last = (self.histories != 0).sum(1).clamp_min(1) - 1
        clicked = self.histories.gather(1, last.long()[:, None])[:, 0]
        return float((clicked == self.candidates[:, 0]).double().mean())

    def batches(self, size: int, *, every: int = 1) -> Iterator[slice]:
        """The users, or the first of ``every`` so many, in parts of at most ``size``."""
        span = size * every
        return (slice(start, min(start + span, len(self)), every) for start in range(0, len(self), span))

    def memory(self, rows: slice, count: int) -> Tensor | None:
        """The last ``count`` clicks of the users ``rows``, right-padded; None where only the histories are known."""
        return None if self.earlier is None else self.earlier.last(rows, count)

    def save(self, path: Path) -> None:
        """Write as int32 safetensors."""
        tensors = {"histories": self.histories.int(), "candidates": self.candidates.int()}
        if self.earlier is not None:
            ends = np.cumsum(self.earlier.stops - self.earlier.starts)
            items = np.empty(ends[-1], np.int32)
            for rows in self.batches(_SAVED):
                first = ends[rows.start - 1] if rows.start else 0
                items[first : ends[rows.stop - 1]] = self.earlier.pairs(rows)[1]
            tensors["earlier_items"] = torch.from_numpy(items)
            tensors["earlier_offsets"] = torch.from_numpy(np.concatenate(([0], ends)).astype(np.int32))
        write_tensors(tensors, path)

    @classmethod
    def load(cls, path: Path, *, vocab_size: int, sha256: str | None = None) -> "EvaluationSet":
        """Read and check a file of :meth:`save`; ``sha256`` is what its digest must be, if that is known.

        Raises:
            CocorrrecError: not such a file, another than the digest says, or ids outside the vocabulary.
        """
        tensors = read_tensors(path, sha256=sha256)
        if tensors.keys() not in (_TENSORS, _TENSORS | _EARLIER):
            raise CocorrrecError(f"{path}: holds {sorted(tensors)}, an evaluation file has candidates and histories")
        for name, x in tensors.items():
            dimensions = 1 if name in _EARLIER else 2
            if x.dtype != torch.int32 or x.ndim != dimensions or 0 in x.shape:
                kind = "one dimension" if dimensions == 1 else "two dimensions"
                raise CocorrrecError(f"{path}: {name} is {x.dtype} {list(x.shape)}, expected int32 of {kind}")
            if name == "earlier_offsets":
                continue
            low = 0 if name == "histories" else 1
            first, last = int(x.min()), int(x.max())
            if first < low or last >= vocab_size:
                raise CocorrrecError(
                    f"{path}: {name} holds items {first} to {last}, the model knows {low} to {vocab_size - 1}"
                )
        if len(tensors["histories"]) != len(tensors["candidates"]) or tensors["candidates"].shape[1] < 2:
            raise CocorrrecError(f"{path}: histories and candidates do not belong together")
        earlier = _earlier(path, tensors) if "earlier_items" in tensors else None
        return cls(tensors["histories"], tensors["candidates"], earlier)


def _earlier(path: Path, tensors: dict[str, Tensor]) -> EarlierClicks:
    offsets, items = tensors["earlier_offsets"].numpy().astype(np.int64), tensors["earlier_items"].numpy()
    users = len(tensors["histories"])
    if len(offsets) != users + 1 or offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets) < 1).any():
        raise CocorrrecError(f"{path}: earlier_offsets do not cut earlier_items into the clicks of {users} users")
    return EarlierClicks(items, offsets[:-1], offsets[1:])
