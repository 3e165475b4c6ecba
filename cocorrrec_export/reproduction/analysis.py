"""From each user's places to the figures of a table: means, spread over seeds, and paired differences over users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLIPS = 10_000
_CHUNK = 500
_Z95 = 1.959964

PerUser = dict[str, NDArray[np.float64]]
"""Each metric ``[users]`` of one trained model."""


@dataclass(frozen=True)
class Score:
    """One metric of one model."""

    mean: float
    std: float | None
    """Over seeds, ddof 1; None with one seed."""


@dataclass(frozen=True)
class Difference:
    """One metric of the reference minus that of another model, over the same users."""

    mean: float
    low: float
    high: float
    """95% interval of the mean over users."""
    p: float
    """Two-sided, of the paired randomization test; adjusted for the number of models by Holm's procedure."""


def scores(seeds: Sequence[PerUser]) -> dict[str, Score]:
    """Each metric of a row, over its seeds."""
    values = {name: [float(own[name].mean()) for own in seeds] for name in seeds[0]}
    return {
        name: Score(float(np.mean(own)), float(np.std(own, ddof=1)) if len(own) > 1 else None)
        for name, own in values.items()
    }


def differences(
    rows: dict[str, Sequence[PerUser]], reference: str, metrics: Sequence[str]
) -> dict[str, dict[str, Difference]]:
    """The reference against every other row, each user's mean over the row's seeds: by row and metric; of ``metrics``
    those that the rows have.

    The test is the paired randomization test over users (Smucker et al., CIKM 2007): were there no difference, each
    user's could as well have the other sign.
    """
    means = {row: _user_means(seeds) for row, seeds in rows.items()}
    others = [row for row in rows if row != reference]
    found: dict[str, dict[str, Difference]] = {row: {} for row in others}
    for metric in (name for name in metrics if name in means[reference]):
        paired = {row: means[reference][metric] - means[row][metric] for row in others}
        adjusted = holm({row: sign_flip_test(values) for row, values in paired.items()})
        for row, values in paired.items():
            mean, half = float(values.mean()), _Z95 * float(values.std(ddof=1)) / len(values) ** 0.5
            found[row][metric] = Difference(mean, mean - half, mean + half, adjusted[row])
    return found


def _user_means(seeds: Sequence[PerUser]) -> PerUser:
    return {name: np.mean([own[name] for own in seeds], axis=0) for name in seeds[0]}


def sign_flip_test(values: NDArray[np.float64], *, flips: int = FLIPS, seed: int = 0) -> float:
    """Chance of a mean as far from 0 as that of ``values [users]``, if each sign were drawn by a coin."""
    generator = np.random.default_rng(seed)
    observed, extreme = abs(values.sum()), 0
    for start in range(0, flips, _CHUNK):
        signs = generator.integers(0, 2, (min(_CHUNK, flips - start), len(values)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((np.abs(signs @ values) >= observed * (1 - 1e-12)).sum())
    return (1 + extreme) / (1 + flips)


def holm(p: dict[str, float]) -> dict[str, float]:
    """Holm's adjustment of several p values."""
    adjusted, worst = {}, 0.0
    for index, name in enumerate(sorted(p, key=p.__getitem__)):
        worst = max(worst, min(1.0, p[name] * (len(p) - index)))
        adjusted[name] = worst
    return adjusted
