"""Windows of training clicks: by hand, and every click predicted once whatever the offset."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.windows import training_counts, training_windows


def made(users: list[list[int]], items: int) -> Interactions:
    offsets = np.concatenate(([0], np.cumsum([len(user) for user in users]))).astype(np.int64)
    flat = np.array([item for user in users for item in user], dtype=np.int32)
    return Interactions(flat, offsets, [str(i) for i in range(items)], [f"u{i}" for i in range(len(users))])


def test_by_hand() -> None:
    data = made([[1, 2, 3, 4, 8, 9], [5, 6, 7], [9, 8, 7, 6]], 9)
    found = training_windows(data, length=5, rng=np.random.default_rng(0)).all()
    assert found.users.tolist() == [0, 2]  # the second user has one training click and nothing to predict
    assert found.histories.tolist() == [[1, 2, 3, 0, 0], [9, 0, 0, 0, 0]]
    assert found.targets.tolist() == [[2, 3, 4, 0, 0], [8, 0, 0, 0, 0]]


@pytest.mark.parametrize("held_out", [1, 2])
@pytest.mark.parametrize("length", [1, 3, 10])
def test_every_training_click_is_predicted_once_from_the_click_before(length: int, held_out: int) -> None:
    users = [(1 + np.arange(count)).tolist() for count in np.random.default_rng(1).integers(3, 40, size=30)]
    data = made(users, 40)
    offsets = set()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        windows = training_windows(data, length=length, rng=rng, held_out=held_out).all()
        rows, columns = np.nonzero(windows.targets)
        pairs = Counter(
            (int(windows.users[r]), int(windows.histories[r, c]), int(windows.targets[r, c]))
            for r, c in zip(rows, columns, strict=True)
        )
        wanted = Counter((u, a, b) for u, x in enumerate(users) for a, b in pairwise(x[: len(x) - held_out]))
        assert pairs == wanted
        assert ((windows.histories != 0) == (windows.targets != 0)).all()
        assert (windows.histories[:, 0] != 0).all()
        offsets.add(tuple((windows.histories != 0).sum(1).tolist()))
    assert len(offsets) == (1 if length == 1 else 4)


def test_a_target_may_be_further_ahead_but_not_held_out() -> None:
    data = made([[1, 2, 3, 4, 5, 6, 7, 8, 9], [10, 11, 12], [13, 14, 15, 16]], 16)
    windows = training_windows(data, length=10, rng=np.random.default_rng(0))
    nearest, rng = windows.all(), np.random.default_rng(1)
    seen: dict[int, set[int]] = {}
    for _ in range(60):
        users, histories, targets = windows.cut(np.arange(len(windows)), ahead=3, rng=rng)
        assert (users == nearest.users).all() and (histories == nearest.histories).all()
        assert ((targets != 0) == (nearest.targets != 0)).all()
        for click, target in zip(histories[targets != 0].tolist(), targets[targets != 0].tolist(), strict=True):
            seen.setdefault(click, set()).add(target)
    assert seen == {1: {2, 3, 4}, 2: {3, 4, 5}, 3: {4, 5, 6}, 4: {5, 6, 7}, 5: {6, 7}, 6: {7}, 13: {14}}


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_near_targets_are_likelier(ahead: int) -> None:
    """Each distance k with a chance of log(1 + 1 / k) over log(n + 1), where n clicks are within reach."""
    clicks = 40
    windows = training_windows(made([list(range(1, clicks + 1))], clicks), length=100, rng=np.random.default_rng(0))
    rng, drawn = np.random.default_rng(2), Counter[tuple[int, int]]()
    rounds = 4000
    for _ in range(rounds):
        _, histories, targets = windows.cut(np.arange(len(windows)), ahead=ahead, rng=rng)
        drawn.update(
            (min(ahead, clicks - 2 - click), target - click)
            for click, target in zip(histories[0].tolist(), targets[0].tolist(), strict=True)
            if target
        )
    of_reach = Counter[int]()
    for (reach, _), count in drawn.items():
        of_reach[reach] += count
    assert set(of_reach) == set(range(1, ahead + 1))
    for (reach, distance), count in drawn.items():
        share, n = np.log1p(1 / distance) / np.log(reach + 1), of_reach[reach]
        assert abs(count / n - share) < 5 * np.sqrt(share * (1 - share) / n) + 1e-12, (reach, distance)


def test_counts_leave_out_what_is_held_out() -> None:
    data = made([[1, 2, 2, 3, 1], [3, 2, 1]], 3)
    assert training_counts(data).tolist() == [0, 1, 2, 1]
    assert training_counts(data, held_out=1).tolist() == [0, 1, 3, 2]
