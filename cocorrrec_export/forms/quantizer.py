"""Product quantization of an item table, fitted with Faiss."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.extras import quiet, require

CENTROIDS = 256
_BLOCK = 65_536
_MOST_ROWS = 256 * CENTROIDS
"""Rows that are fitted to: what k-means draws of a larger table anyway."""
_ROTATION_ROUNDS, _ROTATION_ROWS = 30, 32_768
"""How often, and from how many rows at most, the rotation is made better."""
_SEED = 7


@dataclass(frozen=True)
class Codes:
    """A table ``[V, D]``: row v is the codebooks' vectors that its codes name, side by side, times ``rotation``.

    Vectors are int8, with a scale a feature; the scales are in the rotation, so that they cost a graph nothing.
    """

    codes: Tensor  # [V, M] uint8
    codebooks: Tensor  # [M, 256, D / M] int8; a vector of zeros in each, so that a zero row stays zero
    rotation: Tensor  # [D, D] float32: a diagonal matrix of scales times an orthogonal one


def fit_codes(weight: Tensor, books: int) -> Codes:
    """Rotate a table so that its features fall into ``books`` even parts (OPQ), and quantize each by k-means.

    The same table gives the same codes. The cost of the fit does not grow with V; that of naming codes does.

    Args:
        weight: ``[V, D]`` float32.
        books: M; divides D.

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
    sample = _sample(rows)
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
            rotated = np.ascontiguousarray(sample @ rotation.T)
            quantizer.train(rotated)
            books_of = faiss.vector_to_array(quantizer.centroids).reshape(books, CENTROIDS, size // books)
            least = _least_missed(books_of, rotated, quantizer.compute_codes(rotated))
            books_of[np.arange(books), least] = 0.0
            scale = np.abs(books_of).max(axis=1, keepdims=True) / 127  # [M, 1, D / M]
            scale[scale == 0] = 1.0
            stored = np.rint(books_of / scale).astype(np.int8)
            faiss.copy_array_to_vector((stored * scale).astype(np.float32).ravel(), quantizer.centroids)
            parts = [
                quantizer.compute_codes(np.ascontiguousarray(rows[start : start + _BLOCK] @ rotation.T))
                for start in range(0, len(rows), _BLOCK)
            ]
    finally:
        faiss.omp_set_num_threads(threads)
    scaled = scale.reshape(size, 1) * rotation
    return Codes(torch.from_numpy(np.concatenate(parts)), torch.from_numpy(stored), torch.from_numpy(scaled))


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
