"""Evaluation: both protocols by hand and against the obvious way, the controls, and what a model must beat."""

import dataclasses
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch

from cocorrrec_export.data.evaluation_set import EarlierClicks, EvaluationSet
from cocorrrec_export.data.held_out import TEST, VALIDATION, evaluation_set
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.metrics import FULL_METRICS, catalog_places
from cocorrrec_export.modeling.config import Architecture
from cocorrrec_export.training import scoring
from cocorrrec_export.training.references import NEIGHBORS, POPULARITY, measure_references
from tests.data.test_windows import made
from tests.models import CONFIG, random_model, random_ranker

VECTOR = dataclasses.replace(CONFIG, correction="vector", cloud_length=15, cloud_networks=2)


def earlier(*users: list[int]) -> EarlierClicks:
    offsets = np.concatenate(([0], np.cumsum([len(x) for x in users]))).astype(np.int64)
    return EarlierClicks(np.array([item for user in users for item in user], dtype=np.int32), offsets[:-1], offsets[1:])


def real_users(users: int = 30, clicks: int = 20) -> EvaluationSet:
    rng = np.random.default_rng(2)
    data = made([rng.permutation(np.arange(1, CONFIG.vocab_size))[:clicks].tolist() for _ in range(users)], 59)
    split = leave_last_out(data, sequence_length=CONFIG.sequence_length)
    return evaluation_set(data, split, NegativeSampler(data), part=TEST, negatives=20, seed=0)


def test_the_whole_catalog_by_hand() -> None:
    """Five items; the first user had 1 and 5 before, the second had her target before."""
    logits = torch.tensor([[9.0, 9.0, 0.5, 0.5, 0.7, 9.0], [9.0, 0.1, 0.2, 0.3, 0.4, 0.5]])
    users = EvaluationSet(torch.tensor([[1, 5], [2, 4]]), torch.tensor([[3, 2], [4, 1]]), earlier([1, 5], [2, 4]))

    def score(rows: slice, candidates: torch.Tensor | None) -> torch.Tensor:
        return logits[rows] if candidates is None else logits[rows].gather(1, candidates)

    full = scoring.measure_scores(score, users, batch_size=1).full
    assert full is not None
    assert (full.above.tolist(), full.tied.tolist(), list(full.negatives)) == ([1, 1], [1, 0], [2, 3])
    means = full.means(FULL_METRICS)
    assert means["mrr"] == pytest.approx((1 / 3 + 1 / 2) / 2)  # the tie counts against the model
    assert means["uauc"] == pytest.approx((1 - 1.5 / 2 + 1 - 1 / 3) / 2)


def test_scores_that_are_not_numbers_earn_nothing_in_the_catalog() -> None:
    users = EvaluationSet(torch.tensor([[1]]), torch.tensor([[3, 2]]), earlier([1]))
    logits = torch.tensor([[0.0, 0.0, 1.0, float("nan"), 2.0]])
    places = catalog_places(logits.numpy(), np.array([3]), *users.earlier.pairs(slice(0, 1)))  # type: ignore[union-attr]
    assert [x.tolist() for x in places] == [[0], [2], [2]]


def test_places_for_many_weights_of_a_vector_are_those_of_each_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some users at a time; rows that are equal, so that scores tie, and users who had their target before."""
    users = real_users()
    users.candidates[::3, 0] = torch.from_numpy(users.earlier.items[users.earlier.starts[::3]])  # type: ignore[union-attr]
    model = random_model(dataclasses.replace(CONFIG, item_side="dot"))
    with torch.no_grad():
        model.item_embedding.weight[10:30] = model.item_embedding.weight[30:50]
    state = scoring.read_users(model, users, slice(0, len(users)))
    vectors = torch.randn(state.shape, generator=torch.Generator().manual_seed(3))
    weights = (0.0, 0.5, 4.0)
    monkeypatch.setattr(scoring, "_LOGITS", 7 * CONFIG.vocab_size)
    monkeypatch.setattr(scoring, "_FEW", 1)
    monkeypatch.setattr(scoring, "_CACHED", 11)
    found = scoring.catalog_places_of_sums(model, users, state, vectors, weights)
    for weight, places in zip(weights, found, strict=True):
        both = state + weight * vectors
        full = scoring.measure(model, users, user=lambda rows, both=both: both[rows]).full
        assert full is not None and np.any(full.tied)
        assert (places.negatives == full.negatives).all()
        assert np.abs(places.above - full.above).max() <= (0 if weight == 0 else 1)  # sums are rounded elsewhere
        assert np.mean(places.above != full.above) < 0.1 and np.mean(places.tied != full.tied) < 0.1


def test_sums_for_many_weights_are_compared_as_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is below every bar; what is not a number ties with it."""
    generator = torch.Generator().manual_seed(5)
    logits, change = (torch.randint(-3, 4, (6, 37), generator=generator).float() for _ in range(2))
    logits[:, 0], logits[2, 5:9], logits[4, 30] = -torch.inf, -torch.inf, torch.nan
    weights = (0.0, 0.5, 2.0)
    bars = [torch.randint(-2, 3, (6, 1), generator=generator).float() for _ in weights]
    monkeypatch.setattr(scoring, "_CACHED", 11)
    above, tied = scoring._above_and_tied(logits, change, bars, weights)
    for row, (weight, bar) in enumerate(zip(weights, bars, strict=True)):
        sums = logits + weight * change
        assert above[row].tolist() == (sums > bar).sum(1).tolist()
        assert tied[row].tolist() == ((sums == bar) | sums.isnan()).sum(1).tolist() and tied[row].any()


@pytest.mark.parametrize("architecture", ["cocorrrec", "din", "sasrec"])
@torch.no_grad()
def test_both_protocols_are_those_of_the_plain_scores(
    architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_ranker(dataclasses.replace(CONFIG, architecture=architecture))
    users = real_users()
    monkeypatch.setattr(scoring, "BATCH", 7)
    measured = scoring.measure(model, users, corrected=False)
    every = torch.arange(CONFIG.vocab_size).expand(len(users), -1)
    logits = model(users.histories.long(), every, corrected=False).numpy()
    for row, target in enumerate(users.candidates[:, 0].tolist()):
        before = set(users.earlier.pairs(slice(row, row + 1))[1].tolist())  # type: ignore[union-attr]
        rivals = [i for i in range(1, CONFIG.vocab_size) if i not in before and i != target]
        assert measured.full is not None
        assert measured.full.above[row] == (logits[row, rivals] > logits[row, target]).sum()
        assert np.broadcast_to(measured.full.negatives, len(users))[row] == len(rivals)
        sampled = users.candidates[row, 1:].tolist()
        assert measured.sampled.above[row] == (logits[row, sampled] > logits[row, target]).sum()


def test_validation_and_test_have_negatives_of_their_own() -> None:
    rng = np.random.default_rng(2)
    data = made([rng.integers(1, 59, size=12).tolist() for _ in range(20)], 59)
    split, sampler = leave_last_out(data, sequence_length=10), NegativeSampler(data)
    first, second = (
        evaluation_set(data, split, sampler, part=part, negatives=20, seed=0) for part in (VALIDATION, TEST)
    )
    assert (first.candidates[:, 1:] != second.candidates[:, 1:]).float().mean() > 0.8
    assert first.earlier is not None and second.earlier is not None
    assert (second.earlier.last(slice(0, 20), 1).squeeze() == first.candidates[:, 0]).all()


def test_memory_does_not_grow_with_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept per user: a few bytes of the places, not its scores or its states."""
    monkeypatch.setattr(scoring, "BATCH", 64)
    peaks = []
    for users in (500, 4000):
        held_out = real_users(users)
        clicks = torch.zeros(CONFIG.vocab_size)

        def score(rows: slice, candidates: torch.Tensor | None, clicks: torch.Tensor = clicks) -> torch.Tensor:
            return clicks.expand(rows.stop - rows.start, -1) if candidates is None else clicks[candidates]

        tracemalloc.start()
        scoring.measure_scores(score, held_out, batch_size=64)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 3500 < 150


def test_a_saved_slice_knows_the_earlier_clicks(tmp_path: object) -> None:
    path = tmp_path / "evaluation.safetensors"  # type: ignore[operator]
    users = real_users()
    users.save(path)
    read = EvaluationSet.load(path, vocab_size=CONFIG.vocab_size)
    assert read.memory(slice(3, 9), 15).equal(users.memory(slice(3, 9), 15))  # type: ignore[union-attr,arg-type]
    model = random_model(VECTOR)
    assert scoring.measure(model, read).full.means() == scoring.measure(model, users).full.means()  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="give the interactions with --data"):
        scoring.measure(model, dataclasses.replace(read, earlier=None))
    for name, value in (("earlier_offsets", 3), ("earlier_items", 60)):
        from safetensors.torch import load_file, save_file

        tensors = load_file(path)
        tensors[name][1] = value
        save_file(tensors, tmp_path / "bad.safetensors")  # type: ignore[operator]
        if name == "earlier_offsets":
            tensors[name][2] = 2
            save_file(tensors, tmp_path / "bad.safetensors")  # type: ignore[operator]
        with pytest.raises(CocorrrecError, match="earlier_"):
            EvaluationSet.load(tmp_path / "bad.safetensors", vocab_size=CONFIG.vocab_size)  # type: ignore[operator]


@pytest.mark.parametrize("config", [CONFIG, VECTOR], ids=["kernel", "vector"])
@torch.no_grad()
def test_controls_are_what_they_are_called(config: object) -> None:
    model, users = random_model(config), real_users()  # type: ignore[arg-type]
    measured = scoring.measure_ways(model, users)
    found, paired = scoring.evaluate_controls(model, users, measured["alone"], measured["corrected"])
    ids = users.histories.long()
    memory = users.memory(slice(0, len(users)), 15)
    answers = model.answer(ids, memory)
    assert answers is not None
    mean = type(answers)(*(x.mean(0, keepdim=True).expand_as(x) for x in answers))  # type: ignore[call-arg]
    by_hand = scoring.measure(model, users, user=lambda rows: model.fuse(ids, mean)[rows])
    np.testing.assert_array_equal(found["mean"].sampled.above, by_hand.sampled.above)
    short = scoring.measure(model, users, user=lambda rows: model.fuse(ids, model.answer(ids))[rows])
    np.testing.assert_array_equal(found["short"].sampled.above, short.sampled.above)
    other = scoring._somebody_else(len(users), 0)
    assert sorted(other.tolist()) == list(range(len(users))) and (other != np.arange(len(users))).all()
    theirs = type(answers)(*(x[torch.from_numpy(other)] for x in answers))  # type: ignore[call-arg]
    swapped = scoring.measure(model, users, user=lambda rows: model.fuse(ids, theirs)[rows])
    np.testing.assert_array_equal(found["other"].sampled.above, swapped.sampled.above)
    difference, error = paired["own"]["full:mrr"]
    values = measured["corrected"].full.per_user()["mrr"] - measured["alone"].full.per_user()["mrr"]  # type: ignore[union-attr]
    assert (difference, error) == pytest.approx((values.mean(), values.std(ddof=1) / len(values) ** 0.5))
    assert paired.keys() == {"own", "other", "mean", "short"}
    if config is CONFIG:  # the kernel's cloud reads the phone's clicks alone
        np.testing.assert_array_equal(found["short"].sampled.above, measured["corrected"].sampled.above)


def test_references_by_hand() -> None:
    """Users 0 and 1 share 1 and 2; the neighbor of 1 is 2, the popular item is 3."""
    data = made([[1, 2, 3, 9, 8], [1, 2, 3, 9, 7], [4, 3, 5, 9, 6], [6, 1, 8, 2]], 9)
    split = leave_last_out(data, sequence_length=2)
    users = evaluation_set(data, split, NegativeSampler(data), part=TEST, negatives=2, seed=0)
    found = measure_references(users, vocab_size=data.vocab_size)
    popular, near = found[POPULARITY].full, found[NEIGHBORS].full
    assert popular is not None and near is not None
    # Training clicks: 1 and 3 three times, 2 twice, 4, 5 and 6 once, 7 to 9 never.
    assert popular.above[3] + popular.tied[3] == 1  # 2 behind 3 alone: 1, 6 and 8 were had before
    # Of the last user's clicks 1 and 8, 1 alone has users: cosine 2 / sqrt(3 2) with 2, 2 / sqrt(3 3) with 3.
    assert near.above[3] + near.tied[3] == 0
    without = dataclasses.replace(users, earlier=None)
    assert measure_references(without, vocab_size=data.vocab_size) == {}


RANK_MANY = """
import resource, sys
import numpy as np, torch
from cocorrrec_export.data.evaluation_set import EarlierClicks, EvaluationSet
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.training import scoring

torch.set_num_threads(1)
items, users = 60_000, int(sys.argv[1])
config = ModelConfig(vocab_size=items, hidden_size=4, num_heads=2, correction="none")
model = build_model(config, generator=torch.Generator().manual_seed(0)).eval()
rng = np.random.default_rng(0)
ids = torch.from_numpy(rng.integers(1, items, (users, 23)))
starts = np.arange(users, dtype=np.int64) * 9
clicks = EarlierClicks(rng.integers(1, items, users * 9).astype(np.int32), starts, starts + 9)
held_out = EvaluationSet(ids[:, :10], ids[:, 10:], clicks)
state = torch.zeros(users, 4)
for few in (True, False):
    chosen = EvaluationSet(ids[:80, :10], ids[:80, 10:], clicks) if few else held_out
    scoring.measure(model, chosen)
    scoring.catalog_places_of_sums(model, chosen, state, state, (0.0, 1.0))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_users_that_are_ranked() -> None:
    """The second peak is of 30 times as many users; a batch of them takes some 80 MB."""
    ended = subprocess.run([sys.executable, "-c", RANK_MANY, "2400"], capture_output=True, text=True, check=True)
    few, many = map(int, ended.stdout.split())
    assert many - few < 100
