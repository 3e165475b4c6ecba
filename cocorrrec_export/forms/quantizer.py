"""Product quantization of an item table, fitted with Faiss."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocorrrec_export.extras import quiet, require
from cocorrrec_export.modeling.ranker import Ranker

CENTROIDS = 256
SCALE_STEPS = 127
"""Of a row's scale: the largest is this many steps."""
_BLOCK = 65_536
_MOST_ROWS = 256 * CENTROIDS
"""Rows that are fitted to: what k-means draws of a larger table anyway."""
_ROTATION_ROUNDS, _ROTATION_ROWS = 30, 32_768
"""How often, and from how many rows at most, the rotation is made better."""
USERS = 4096
"""Histories that say where users are."""
_EVEN_RANDOM, _EVEN_REAL = 1.0, 0.3
"""How much a direction counts that no user is in, of what directions count on average: rows are read as clicks too.
Random users say less of where others are."""
_SEED = 7


@dataclass(frozen=True)
class Codes:
    """A table ``[V, D]``: row v is the codebooks' vectors that its codes name, side by side, times ``rotation``.

    Vectors are int8, with a scale a feature; the scales are in the rotation, so that they cost a graph nothing. A row
    may have a scale of its own, by which its vectors are multiplied.
    """

    codes: Tensor  # [V, M] uint8
    codebooks: Tensor  # [M, 256, D / M] int8; a vector of zeros in each, so that a zero row stays zero
    rotation: Tensor  # [D, D] float32: a diagonal matrix of scales times an orthogonal one, unless it was trained
    scales: Tensor | None = None  # [V, 1] int8, 1 .. SCALE_STEPS: of each row, in steps of 1 / SCALE_STEPS

    def tables(self) -> "FloatTables":
        """What the rows are made of next to the codes, in float32."""
        scales = None if self.scales is None else self.scales.float() / SCALE_STEPS
        return FloatTables(self.codebooks.float(), self.rotation, scales)

    def rows(self, ids: Tensor, tables: "FloatTables | None" = None) -> Tensor:
        """Rows ``[n, D]`` of ``ids [n]``; with other tables in place of its own, if given."""
        codebooks, rotation, scales = tables or self.tables()
        books = self.codes.shape[1]
        places = self.codes.index_select(0, ids).long() + torch.arange(books) * CENTROIDS
        found = codebooks.reshape(books * CENTROIDS, -1).index_select(0, places.view(-1)).view(len(ids), -1)
        return (found if scales is None else found * scales.index_select(0, ids)) @ rotation

    def with_tables(self, tables: "FloatTables") -> "Codes":
        """The same codes with other tables, which are quantized."""
        stored, scale = _to_int8(tables.codebooks.detach().numpy())
        rotation = torch.from_numpy(scale.reshape(-1, 1)) * tables.rotation.detach()
        if tables.scales is None:
            return Codes(self.codes, torch.from_numpy(stored), rotation)
        scales, largest = _to_steps(tables.scales.detach().numpy())
        return Codes(self.codes, torch.from_numpy(stored), rotation * largest, torch.from_numpy(scales))


class FloatTables(NamedTuple):
    """What rows are made of next to their codes, in float32: what is trained."""

    codebooks: Tensor  # [M, 256, D / M]
    rotation: Tensor  # [D, D]
    scales: Tensor | None  # [V, 1]


@dataclass(frozen=True)
class Calibrated:
    """Codes that were fitted to clicks, and what is to be known of that."""

    codes: Codes
    facts: dict[str, Any]
    """What the manifest says of it."""


def fit_table(
    model: Ranker, books: int, *, length: int, scaled: bool = False, histories: Tensor | None = None
) -> Codes:
    """:func:`fit_codes` of a model's item table, where errors count as they change scores.

    A score is the product of a row and a user, and users are far from even: some directions matter a hundred times as
    much as others.

    Args:
        model: in evaluation mode.
        books: M.
        length: L, clicks in a history.
        scaled: as in :func:`fit_codes`.
        histories: ``[n, L]``, of people; None: random ones, whose users spread much as people do.
    """
    weight = model.item_embedding.weight.detach()
    return fit_codes(weight, books, metric=_user_metric(model, length, histories), scaled=scaled)


@torch.no_grad()
def _user_metric(model: Ranker, length: int, histories: Tensor | None) -> Tensor | None:
    """What an error of a row does to a score, on average over users: ``[D, D]``; None where no product makes it."""
    weight = model.item_embedding.weight
    if not (model.one_state and torch.equal(model.item_side(weight[:2]), weight[:2])):
        return None
    even = _EVEN_REAL
    if histories is None:
        even = _EVEN_RANDOM
        histories = torch.randint(1, len(weight), (USERS, length), generator=torch.Generator().manual_seed(_SEED))
    users = model.user_state(histories, corrected=False)
    found = users.T @ users / len(users)
    return found + even * found.trace() / len(found) * torch.eye(len(found))


def fit_codes(weight: Tensor, books: int, *, metric: Tensor | None = None, scaled: bool = False) -> Codes:
    """Rotate a table so that its features fall into ``books`` even parts (OPQ), and quantize each by k-means.

    The same table gives the same codes. The cost of the fit does not grow with V; that of naming codes does.

    Args:
        weight: ``[V, D]`` float32.
        books: M; divides D.
        metric: ``[D, D]``, positive definite: an error ``e`` of a row counts ``e metric e^T``; None: its square.
        scaled: give each row a scale of its own, one more byte, which keeps what is unlike all others: long rows.

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
    sample: NDArray[np.float32] = _even(_sample(rows) @ root, scaled=scaled)
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
            books_of = (stored * scale).astype(np.float32)
            faiss.copy_array_to_vector(books_of.ravel(), quantizer.centroids)
            parts, row_scales = [], []
            for start in range(0, len(rows), _BLOCK):
                exact = rows[start : start + _BLOCK] @ (root @ rotation.T)
                parts.append(quantizer.compute_codes(_even(exact, scaled=scaled)))
                if scaled:
                    coded = books_of[np.arange(books), parts[-1]].reshape(exact.shape)
                    row_scales.append(_nearest_scales(exact, coded))
    finally:
        faiss.omp_set_num_threads(threads)
    codes, codebooks = torch.from_numpy(np.concatenate(parts)), torch.from_numpy(stored)
    rotated_back = torch.from_numpy((scale.reshape(size, 1) * rotation) @ back)
    if not scaled:
        return Codes(codes, codebooks, rotated_back)
    scales, largest = _to_steps(np.concatenate(row_scales))
    return Codes(codes, codebooks, rotated_back * largest, torch.from_numpy(scales))


def _even(rows: NDArray[np.float32], *, scaled: bool) -> NDArray[np.float32]:
    """Rows as they are coded: where they have scales, of lengths that are far less uneven, but not the same.

    With all of one length, short rows, which nobody looks for, would be kept as well as long ones.
    """
    if not scaled:
        return np.ascontiguousarray(rows)
    length: NDArray[np.float32] = np.sqrt(np.square(rows).sum(1, keepdims=True))
    length[length == 0] = 1.0
    return np.ascontiguousarray(rows / np.sqrt(length))


def _nearest_scales(rows: NDArray[np.float32], coded: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ``coded [n, D]`` rows are to be multiplied by to be nearest to ``rows``, ``[n, 1]``; 0 of a zero row."""
    square: NDArray[np.float32] = np.square(coded).sum(1, keepdims=True)
    square[square == 0] = 1.0
    found: NDArray[np.float32] = (rows * coded).sum(1, keepdims=True) / square
    return found


def _to_steps(scales: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Scales ``[V, 1]`` in int8 steps of the largest one, and that one. None is 0, so that training can change each."""
    largest = float(scales.max()) or 1.0
    return np.clip(np.rint(scales * (SCALE_STEPS / largest)), 1, SCALE_STEPS).astype(np.int8), largest


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
