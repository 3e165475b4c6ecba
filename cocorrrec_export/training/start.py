"""What a run that continues a model starts from: its items by their external ids, and all other weights as they are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.data.catalogue import items_of_model
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.errors import UsageError
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.modeling.store import ModelFolder, load_model

NEW_ITEMS = "the mean of all rows, plus noise of init_std"
"""What a row of a new item starts from."""


@dataclass(frozen=True)
class Start:
    """What the tensors of a model start from: those of another, its items in another order."""

    folder: ModelFolder
    tensors: dict[str, Tensor]
    per_item: frozenset[str]
    """Names of the tensors with a row per item."""
    rows: NDArray[np.int64]
    """[V], for each row of the new model that of the old one; 0 for padding and for new items."""

    @classmethod
    def of(cls, folder: ModelFolder, interactions: Interactions) -> "Start":
        """Match the items of a model with those of newer interactions.

        Raises:
            UsageError: the model came without item ids, or does not know any of the items.
            CocorrrecError: the model is damaged.
        """
        rows = np.zeros(interactions.vocab_size, dtype=np.int64)
        if folder.items_path.is_file():
            places = {item: place for place, item in enumerate(items_of_model(folder)[0], start=1)}
            rows[1:] = [places.get(item, 0) for item in interactions.item_ids]
        elif folder.data.get("vocabulary_sha256") == interactions.vocabulary_sha256:
            rows = np.arange(interactions.vocab_size)
        else:
            raise UsageError(
                f"model {folder.name} came without the external ids of its items, and the data hold other items: "
                "continue a model that was trained without --weights-only, or imported with --items"
            )
        if not rows.any():
            raise UsageError(
                f"none of the {len(interactions.item_ids)} items of the data, such as {interactions.item_ids[0]!r}, is "
                f"known to model {folder.name}: nothing of it could be continued"
            )
        model = load_model(folder)
        return cls(folder, model.state_dict(), frozenset(model.item_tensors()), rows)

    @property
    def kept(self) -> int:
        """Items that both models know."""
        return int((self.rows > 0).sum())

    @property
    def new(self) -> int:
        """Items that the old model does not know."""
        return len(self.rows) - 1 - self.kept

    @property
    def gone(self) -> int:
        """Items of the old model that the data do not have."""
        return self.folder.config.vocab_size - 1 - self.kept

    @torch.no_grad()
    def apply(self, model: Ranker) -> None:
        """Set the tensors of ``model``, drawn as a new one's: a model of the same sizes but for V, or a part of one."""
        for name, x in model.state_dict().items():
            theirs = self.tensors[name]
            if name in self.per_item:
                self._set_rows(x, theirs)
            else:  # a table of positions may have V rows, of which those of a history are read
                count = min(len(x), len(theirs)) if x.ndim else None
                x[:count].copy_(theirs[:count]) if count is not None else x.copy_(theirs)

    def _set_rows(self, x: Tensor, theirs: Tensor) -> None:
        """Rows of known items, and those of new ones about the mean; ``x`` holds the noise."""
        known = torch.from_numpy(self.rows > 0)
        padding = theirs[0].clone()
        x += theirs[1:].mean(0)
        x[known] = theirs[torch.from_numpy(self.rows)[known]]
        x[0] = padding

    def facts(self) -> dict[str, Any]:
        """What the model card says."""
        return {
            "model": self.folder.name,
            "sha256": self.folder.sha256,
            "items_kept": self.kept,
            "items_new": self.new,
            "items_gone": self.gone,
            "new_items": NEW_ITEMS,
        }

    def describe(self) -> str:
        """The same as a sentence."""
        return (
            f"continues {self.folder.name} ({self.folder.sha256[:16]}...): {self.kept} items kept, {self.new} new, "
            f"{self.gone} gone"
        )
