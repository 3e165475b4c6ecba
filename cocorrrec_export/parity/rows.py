"""Every row of the item table, through the file: a gate that looks at some of them lets a wrong one pass."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cocorrrec_export.contract import CANDIDATES, CLICK, HISTORY, RECOMMEND, ParityLimits, new_stream
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.runtime.base import Arrays, Runtime, score_list

FEW_ITEMS, MANY_USERS, FEW_USERS = 20_000, 8, 2
"""Users that every item is scored for: fewer where there are many items, since it takes V / C calls for each."""
OUTLIER = 10.0
"""A row this many times as far off as the median row is another: rounding alone makes up to 4 in a shipped model."""
ROUNDING = 1e-4
"""Share of the largest value below which a difference is float32's."""
NAMING_USERS = 3
"""Users of one item each that tell wrong rows from wrong users: of a wrong row's item, one of them at most is wrong."""
USERS_AT_ONCE = 256
"""Of a batch of the cloud model."""
CLICKS_AT_ONCE = 10
"""Of a history that rows are looked at with as clicks: the last ones count most in a user."""
GRAPH = "the export graph"
SCORERS = ("rank", "score", "rank_corrected")
READERS = ("user", "rank", "rank_corrected", RECOMMEND, "step", "correct")
"""Entry points that show rows of candidates, and of clicks; the first that a file has is asked."""

Values = Callable[[NDArray[np.int32]], NDArray[np.float32]]
"""Of a history ``[L]`` the score of every item ``[V - 1]``."""


@dataclass(frozen=True)
class RowParity:
    """The worst row by one entry point."""

    entry_point: str
    item: int
    max_abs: float
    """Its largest difference, of a score or of an uploaded feature."""
    limit: float
    against: str = "the float32 model"

    @property
    def of_scores(self) -> bool:
        """Whether the difference is of a score."""
        return self.entry_point in SCORERS

    def problem(self) -> str | None:
        """What is beyond the limit; None where nothing is."""
        if self.max_abs <= self.limit:  # NaN is not
            return None
        return (
            f"row {self.item} of the item table: {self.entry_point} differs from {self.against} by {self.max_abs:.3g}, "
            f"limit {self.limit:.3g}"
        )


def reads_rows(runtime: Runtime) -> bool:
    """Whether a file looks up items: the cloud model of the kernels does not."""
    return "encode" in runtime.entry_points or (_scorer(runtime) or _reader(runtime)) is not None


@torch.no_grad()
def row_parity(
    runtime: Runtime,
    model: Ranker,
    histories: NDArray[np.int32],
    limits: ParityLimits,
    *,
    graph: Runtime | None = None,
    two_tables: bool = False,
    probability: bool = False,
) -> list[RowParity]:
    """Every item as a candidate; and as a click, where the file has ``encode`` or a row of its own for that.

    Args:
        runtime: the loaded file.
        model: the plain float32 model.
        histories: ``[n, L]``, at least one.
        limits: of the recipe.
        graph: what the file was converted from, with weights as it stores them: a row that is not the graph's shows
            however coarse they are. None compares with the model alone.
        two_tables: whether clicks are looked up in another table than candidates.
        probability: whether the file's scores are sigmoids of the model's.
    """
    items, found = _items(model), []
    scorer = _scorer(runtime)
    if scorer is not None:
        users = histories[: MANY_USERS if len(items) <= FEW_ITEMS else FEW_USERS]
        actual = _of_users(_file_scores(runtime, scorer, model, items), users)
        expected = _of_users(_model_scores(model, scorer, items, probability=probability), users)
        found.append(_worst(scorer, items, actual, expected, limits.max_abs))
        if graph is not None:
            stored = _of_users(_file_scores(graph, scorer, model, items), users)
            found.append(_worst(scorer, items, actual, stored, np.inf, against=GRAPH))
    if "encode" in runtime.entry_points and isinstance(model, CoCorrRec):
        clicks, features = _features(runtime, items), _model_features(model, items)
        found.append(_worst("encode", items, clicks, features, limits.max_rel * float(np.abs(features).max())))
        if graph is not None:
            found.append(_worst("encode", items, clicks, _features(graph, items), np.inf, against=GRAPH))
    elif graph is not None and (reader := _reader_apart(runtime, two_tables=two_tables)) is not None:
        differences, limit = _clicks_apart(runtime, graph, reader, model, items)
        found.append(_worst_of(f"{reader} of it as a click", items, differences, limit, GRAPH))
    return found


@torch.no_grad()
def wrong_rows(
    runtime: Runtime,
    model: Ranker,
    *,
    length: int,
    graph: Runtime | None = None,
    two_tables: bool = False,
    probability: bool = False,
) -> list[int]:
    """Rows of the item table that are others, the worst first: for the message of a file that failed.

    A wrong row makes the user wrong too whose history it is in, and with the user every score. So rows are told by
    users of one item each, and by the uploaded features, which are of one click alone.

    Args:
        runtime: the loaded file.
        model: the plain float32 model.
        length: L.
        graph: as in :func:`row_parity`.
        two_tables: as there.
        probability: whether the file's scores are sigmoids of the model's.
    """
    items = _items(model)
    wrong = np.zeros(len(items))
    scorer = _scorer(runtime)
    if scorer is not None:
        users = np.repeat(items[:NAMING_USERS, None], length, axis=1)
        reference = (
            _model_scores(model, scorer, items, probability=probability)
            if graph is None
            else _file_scores(graph, scorer, model, items)
        )
        expected = _of_users(reference, users)
        actual = _of_users(_file_scores(runtime, scorer, model, items), users)
        middle = np.median(np.abs(actual - expected), axis=0)
        wrong = middle / _outlier(middle, expected)
    if "encode" in runtime.entry_points and isinstance(model, CoCorrRec):
        features = _model_features(model, items) if graph is None else _features(graph, items)
        worst = np.abs(_features(runtime, items) - features).max(axis=0)
        wrong = np.maximum(wrong, worst / _outlier(worst, features))
    elif graph is not None and (reader := _reader_apart(runtime, two_tables=two_tables)) is not None:
        differences, limit = _clicks_apart(runtime, graph, reader, model, items)
        wrong = np.maximum(wrong, differences / limit)
    order = np.argsort(-np.where(np.isfinite(wrong), wrong, np.inf), kind="stable")
    return [int(items[place]) for place in order if not wrong[place] <= 1.0]


def _items(model: Ranker) -> NDArray[np.int32]:
    return np.arange(1, model.item_embedding.num_embeddings, dtype=np.int32)


def _scorer(runtime: Runtime) -> str | None:
    """The entry point that every item is scored with; None in a file that scores no candidates."""
    return next((name for name in SCORERS if name in runtime.entry_points), None)


def _reader(runtime: Runtime) -> str | None:
    """The entry point that shows clicks, where there is no ``encode``; None in a file that reads none."""
    found = (name for name in READERS if name in runtime.entry_points)
    return next((x for x in found if runtime.entry_points[x].inputs[0].name in (HISTORY, CLICK)), None)


def _reader_apart(runtime: Runtime, *, two_tables: bool) -> str | None:
    """:func:`_reader` of a file whose candidates do not show the rows that clicks are looked up in; else None."""
    return _reader(runtime) if two_tables or _scorer(runtime) is None else None


def _of_users(scores: Values, users: NDArray[np.int32]) -> NDArray[np.float64]:
    return np.stack([scores(ids).astype(np.float64) for ids in users])  # [n, V - 1]


def _asked(name: str, model: Ranker, ids: NDArray[np.int32]) -> Arrays:
    """What an entry point takes for a history ``[L]``, but for the candidates."""
    history: Arrays = {HISTORY: ids[None]}
    clicks = torch.from_numpy(ids)[None].long()
    if name == "score":
        return {"user": model.user_state(clicks, corrected=False).numpy()}
    if name == "rank_corrected":
        assert isinstance(model, CoCorrRec)
        answer = model.answer(clicks)
        assert answer is not None
        return history | {key: x.numpy() for key, x in answer._asdict().items()}
    return history


def _file_scores(runtime: Runtime, name: str, model: Ranker, items: NDArray[np.int32]) -> Values:
    return lambda ids: score_list(runtime, name, _asked(name, model, ids), items)


def _model_scores(model: Ranker, name: str, items: NDArray[np.int32], *, probability: bool) -> Values:
    vectors = model.item_vectors(torch.from_numpy(items).long()[None])

    def scores(ids: NDArray[np.int32]) -> NDArray[np.float32]:
        clicks = torch.from_numpy(ids)[None].long()
        logits = model.match(model.user_state(clicks, corrected=name == "rank_corrected"), vectors)[0]
        values: NDArray[np.float32] = (torch.sigmoid(logits) if probability else logits).numpy()
        return values

    return scores


def _clicks_apart(
    runtime: Runtime, graph: Runtime, name: str, model: Ranker, items: NDArray[np.int32]
) -> tuple[NDArray[np.float64], float]:
    """How far the file is from the graph for each item as a click, ``[V - 1]``, and what a row stays below.

    Some clicks at a time make up a history; those of a history that is not the graph's are read one by one.
    """
    some = 1 if name == "step" else min(CLICKS_AT_ONCE, int(runtime.entry_points[name].inputs[0].shape[1]))
    padded = np.zeros(-(-len(items) // some) * some, dtype=np.int32)
    padded[: len(items)] = items
    histories = padded.reshape(-1, some)
    expected = _read_clicks(graph, name, model, histories)
    worst = np.abs(_read_clicks(runtime, name, model, histories) - expected).max(axis=1)
    limit = _outlier(worst, expected)
    differences = np.repeat(worst, some)[: len(items)]
    places = np.flatnonzero(~(differences <= limit))
    if some > 1 and len(places):
        alone, single = items[places][:, None], np.zeros(len(items))
        apart = np.abs(_read_clicks(runtime, name, model, alone) - _read_clicks(graph, name, model, alone))
        single[places] = apart.max(axis=1)
        if not (single <= limit).all():  # else no click shows it alone, and the history stays what is wrong
            differences = single
    return differences, limit


def _read_clicks(runtime: Runtime, name: str, model: Ranker, histories: NDArray[np.int32]) -> NDArray[np.float64]:
    """What an entry point says of each history ``[n, k]``: users, vectors, or scores of some candidates, ``[n, m]``."""
    contract = runtime.entry_points[name]
    if name == "step":
        stream = new_stream(contract)
        return np.stack([runtime.run(name, {CLICK: ids, **stream})["user"][0] for ids in histories]).astype(np.float64)
    sizes = {spec.name: int(spec.shape[1]) for spec in contract.inputs}
    listed = np.resize(_items(model), (1, sizes.get(CANDIDATES, 1)))
    given: Arrays = {CANDIDATES: listed} if CANDIDATES in sizes else {}
    padded = np.zeros((len(histories), sizes[HISTORY]), dtype=np.int32)
    padded[:, : histories.shape[1]] = histories
    if name == "correct":
        batches = np.array_split(padded, -(-len(padded) // USERS_AT_ONCE))
        return np.concatenate([runtime.run(name, {HISTORY: ids})["vector"] for ids in batches]).astype(np.float64)
    output = "user" if name == "user" else "scores"
    return np.stack([runtime.run(name, _asked(name, model, ids) | given)[output][0] for ids in padded]).astype(
        np.float64
    )


def _features(runtime: Runtime, items: NDArray[np.int32]) -> NDArray[np.float64]:
    """What the file uploads of each click, ``[D, V - 1]``."""
    length = int(runtime.entry_points["encode"].inputs[0].shape[1])
    padded = np.full(-(-len(items) // length) * length, items[-1], dtype=np.int32)
    padded[: len(items)] = items
    rows = np.concatenate([runtime.run("encode", {"ids": ids[None]})["H"][0] for ids in padded.reshape(-1, length)])
    return rows[: len(items)].astype(np.float64).T


def _model_features(model: CoCorrRec, items: NDArray[np.int32]) -> NDArray[np.float64]:
    return model.scn.encode(torch.from_numpy(items).long()[None])[0].numpy().astype(np.float64).T


def _worst(
    entry_point: str,
    items: NDArray[np.int32],
    actual: NDArray[np.float64],
    expected: NDArray[np.float64],
    limit: float,
    against: str = RowParity.against,
) -> RowParity:
    """The worst row of values ``[n, V - 1]``; its limit is ``limit``, or less: that of a row among such rows."""
    worst = np.abs(actual - expected).max(axis=0)
    return _worst_of(entry_point, items, worst, min(limit, _outlier(worst, expected)), against)


def _worst_of(
    entry_point: str, items: NDArray[np.int32], differences: NDArray[np.float64], limit: float, against: str
) -> RowParity:
    """The row with the largest of ``differences [V - 1]``; one that is not a number is larger than all."""
    place = int(np.argmax(np.where(np.isfinite(differences), differences, np.inf)))
    return RowParity(entry_point, int(items[place]), float(differences[place]), limit, against)


def _outlier(differences: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """What a row that is stored as the others are stays below."""
    scale = max(1.0, float(np.abs(expected).max()))
    return max(ROUNDING * scale, OUTLIER * float(np.median(differences)))
