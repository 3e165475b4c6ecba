"""Product quantization of an item table, fitted with Faiss."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.extras import quiet, require
from cocorrrec_export.modeling.ranker import Ranker

CENTROIDS = 256
_BLOCK = 65_536
_MOST_ROWS = 256 * CENTROIDS
"""Rows that are fitted to: what k-means draws of a larger table anyway."""
_ROTATION_ROUNDS, _ROTATION_ROWS = 30, 32_768
"""How often, and from how many rows at most, the rotation is made better."""
_USERS = 4096
"""Random histories that say where users are."""
_SEED = 7


@dataclass(frozen=True)
class Codes:
    """A table ``[V, D]``: row v is the codebooks' vectors that its codes name, side by side, times ``rotation``.

    Vectors are int8, with a scale a feature; the scales are in the rotation, so that they cost a graph nothing.
    """

    codes: Tensor  # [V, M] uint8
    codebooks: Tensor  # [M, 256, D / M] int8; a vector of zeros in each, so that a zero row stays zero
    rotation: Tensor  # [D, D] float32: a diagonal matrix of scales times an orthogonal one, unless it was trained

    def rows(self, ids: Tensor, codebooks: Tensor | None = None, rotation: Tensor | None = None) -> Tensor:
        """Rows ``[n, D]`` of ``ids [n]``; with float codebooks and a rotation in place of its own, if given."""
        books = self.codes.shape[1]
        starts = torch.arange(books) * CENTROIDS
        places = self.codes.index_select(0, ids).long() + starts
        values = (self.codebooks.float() if codebooks is None else codebooks).reshape(books * CENTROIDS, -1)
        found = values.index_select(0, places.view(-1)).view(len(ids), -1)
        return found @ (self.rotation if rotation is None else rotation)

    def with_tables(self, codebooks: Tensor, rotation: Tensor) -> "Codes":
        """The same codes of other codebooks, from float to int8 and new scales, and another rotation."""
        stored, scale = _to_int8(codebooks.numpy())
        return Codes(self.codes, torch.from_numpy(stored), torch.from_numpy(scale.reshape(-1, 1)) * rotation)


@dataclass(frozen=True)
class Calibrated:
    """Codes that were fitted to clicks, and what is to be known of that."""

    codes: Codes
    facts: dict[str, Any]
    """What the manifest says of it."""


def fit_table(model: Ranker, books: int, *, length: int) -> Codes:
    """:func:`fit_codes` of a model's item table, where errors count as they change scores.

    A score is the product of a row and a user, and users are far from even: some directions matter a hundred times as
    much as others. They are read from random histories, whose users spread much as people do.

    Args:
        model: in evaluation mode.
        books: M.
        length: L, clicks in a history.
    """
    weight = model.item_embedding.weight.detach()
    return fit_codes(weight, books, metric=_user_metric(model, length))


@torch.no_grad()
def _user_metric(model: Ranker, length: int) -> Tensor | None:
    """What an error of a row does to a score, on average over users: ``[D, D]``; None where no product makes it."""
    weight = model.item_embedding.weight
    if not (model.one_state and torch.equal(model.item_side(weight[:2]), weight[:2])):
        return None
    ids = torch.randint(1, len(weight), (_USERS, length), generator=torch.Generator().manual_seed(_SEED))
    users = model.user_state(ids, corrected=False)
    found = users.T @ users / len(users)
    # Rows are read as clicks too: no direction counts for nothing.
    return found + found.trace() / len(found) * torch.eye(len(found))


def fit_codes(weight: Tensor, books: int, *, metric: Tensor | None = None) -> Codes:
    """Rotate a table so that its features fall into ``books`` even parts (OPQ), and quantize each by k-means.

    The same table gives the same codes. The cost of the fit does not grow with V; that of naming codes does.

    Args:
        weight: ``[V, D]`` float32.
        books: M; divides D.
        metric: ``[D, D]``, positive definite: an error ``e`` of a row counts ``e metric e^T``; None: its square.

    Raises:
        ValueError: M does not divide D.
        CocorrrecError: the extra is not installed.
    """
    size = weight.shape[1]
    if size % books:
        raise ValueError(f"{books} codebooks cannot share {size} features evenly")
    require("pq")
    with quiet():
        import faiss
    rows = weight.detach().numpy()
    root, back = _roots(metric, size)
    sample: NDArray[np.float32] = _sample(rows) @ root
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # sums of several threads come in any order
    try:
        with quiet():
            rotate = faiss.OPQMatrix(size, books)
            quantizer = faiss.ProductQuantizer(size, books, 8)
            quantizer.cp.min_points_per_centroid = 1
            quantizer.cp.seed = _SEED
            rotate.pq = quantizer
            rotate.niter, rotate.niter_pq_0, rotate.max_train_points = (
                _ROTATION_ROUNDS,
                _ROTATION_ROUNDS,
                _ROTATION_ROWS,
            )
            rotate.train(sample)
            rotation: NDArray[np.float32] = faiss.vector_to_array(rotate.A).reshape(size, size)
            rotated: NDArray[np.float32] = np.ascontiguousarray(sample @ rotation.T)
            quantizer.train(rotated)
            books_of = faiss.vector_to_array(quantizer.centroids).reshape(books, CENTROIDS, size // books)
            least = _least_missed(books_of, rotated, quantizer.compute_codes(rotated))
            books_of[np.arange(books), least] = 0.0
            stored, scale = _to_int8(books_of)
            faiss.copy_array_to_vector((stored * scale).astype(np.float32).ravel(), quantizer.centroids)
            parts = [
                quantizer.compute_codes(np.ascontiguousarray(rows[start : start + _BLOCK] @ (root @ rotation.T)))
                for start in range(0, len(rows), _BLOCK)
            ]
    finally:
        faiss.omp_set_num_threads(threads)
    scaled = (scale.reshape(size, 1) * rotation) @ back
    return Codes(torch.from_numpy(np.concatenate(parts)), torch.from_numpy(stored), torch.from_numpy(scaled))


def _to_int8(books_of: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codebooks ``[M, 256, D / M]`` in int8, and the scale of each feature ``[M, 1, D / M]``."""
    scale = np.abs(books_of).max(axis=1, keepdims=True) / 127
    scale[scale == 0] = 1.0
    return np.rint(books_of / scale).astype(np.int8), scale


def _roots(metric: Tensor | None, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The symmetric root of a metric, in whose space an error counts by its square, and the way back."""
    if metric is None:
        return np.eye(size, dtype=np.float32), np.eye(size, dtype=np.float32)
    values, vectors = np.linalg.eigh(metric.double().numpy())
    root, back = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    return np.asarray(root, np.float32), np.asarray(back, np.float32)


def _least_missed(
    books_of: NDArray[np.float32], rows: NDArray[np.float32], codes: NDArray[np.uint8]
) -> NDArray[np.intp]:
    """Of each codebook ``[M, 256, d]`` the vector that costs ``rows [n, M d]`` least where zero takes its place."""
    least = []
    for vectors, part, code in zip(books_of, np.split(rows, len(books_of), axis=1), codes.T, strict=True):
        saved = np.square(part).sum(1) - np.square(part - vectors[code]).sum(1)
        least.append(np.bincount(code, weights=saved, minlength=CENTROIDS).argmin())
    return np.array(least)


def _sample(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows to fit to, without the padding; a small table's again and again, since there must be one a centroid."""
    items = rows[1:]
    if len(items) > _MOST_ROWS:
        chosen = np.sort(np.random.default_rng(_SEED).choice(len(items), _MOST_ROWS, replace=False))
        return np.ascontiguousarray(items[chosen])
    repeats = -(-CENTROIDS // max(1, len(items)))
    return np.ascontiguousarray(np.tile(items, (repeats, 1)))
