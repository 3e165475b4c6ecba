"""Data that stay in their file: the same rows and the same chance as those that are in memory, whatever the parts."""

import errno
import hashlib
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cocorrrec_export.data import interactions, mapping, negatives, splits
from cocorrrec_export.data.held_out import TEST, VALIDATION, evaluation_set
from cocorrrec_export.data.interactions import Interactions
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.prepared import read_cut, write_cut
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.data.statistics import quality
from cocorrrec_export.data.windows import training_counts, training_windows
from cocorrrec_export.errors import CocorrrecError
from tests.conftest import script

EARLIER = {
    "split": "899a53affdb79c79",
    "windows": "fee7e4770f8ff319",
    "counts": "0e1cc05cfc2c30c9",
    "test": "a67a02cb35b373c6",
    "validation": "a99512f90defd960",
    "negatives": "91092e0ac20113e6",
}
"""What versions made of these data that held all of them in memory."""


def data() -> Interactions:
    """501 users, one of them with far more clicks than the others."""
    rng = np.random.default_rng(5)
    counts = np.concatenate((rng.integers(3, 40, size=500), [400]))
    clicks = int(counts.sum())
    items = (rng.integers(1, 301, size=clicks) * rng.random(clicks)).astype(np.int32) + 1
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    times = np.sort(rng.integers(0, 10**6, size=clicks))
    names = [f"u{user}" for user in range(len(counts))]
    return Interactions(items, offsets, [str(item) for item in range(300)], names, times=times)


def digest(*arrays: NDArray[Any]) -> str:
    made = hashlib.sha256()
    for x in arrays:
        made.update(f"{x.dtype}{x.shape}".encode() + np.ascontiguousarray(x).tobytes())
    return made.hexdigest()[:16]


def made_of(source: Interactions) -> dict[str, str]:
    split, sampler = leave_last_out(source, sequence_length=7), NegativeSampler(source)
    found = {"split": digest(*(x for part in (split.train, split.validation, split.test) for x in part.all()))}
    found["windows"] = digest(*training_windows(source, length=6, rng=np.random.default_rng(3)).all())
    found["counts"] = digest(training_counts(source))
    for name, part in (("test", TEST), ("validation", VALIDATION)):
        held = evaluation_set(source, split, sampler, part=part, negatives=60, seed=4)
        assert held.earlier is not None
        arrays = (held.histories.numpy(), held.candidates.numpy(), held.earlier.starts, held.earlier.stops)
        found[name] = digest(*arrays)
    drawn = sampler.sample(np.arange(500).repeat(3), 4, rng=np.random.default_rng(1))
    found["negatives"] = digest(drawn, sampler.free(np.arange(501)))
    return found


def test_what_is_made_is_what_earlier_versions_made() -> None:
    assert made_of(data()) == EARLIER


@pytest.mark.parametrize("clicks", [1, 50, 5_000])
def test_the_parts_and_where_they_are_kept_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clicks: int
) -> None:
    write_cut(tmp_path / "a.cut", data(), {"data": {}})
    whole = quality(data())
    monkeypatch.setattr(interactions, "_BLOCK", clicks)
    monkeypatch.setattr(splits, "_BLOCK", clicks)
    monkeypatch.setattr(negatives, "_VALUES", 60 * clicks)
    monkeypatch.setattr(mapping, "SCRATCH_BYTES", 0)
    mapped = read_cut(tmp_path / "a.cut").interactions
    assert made_of(mapped) == EARLIER
    assert quality(mapped) == whole
    blocks = list(mapped.blocks())
    assert [block.users.start for block in blocks] == [0, *(block.users.stop for block in blocks[:-1])]
    assert blocks[-1].clicks.stop == len(mapped.items)


def test_clicks_of_a_prepared_data_set_stay_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.cut"
    write_cut(path, data(), {"data": {}})
    read = read_cut(path).interactions
    for array in (read.items, read.offsets, read.times):
        assert array is not None
        assert is_mapped(array) and not array.flags.writeable
    path.unlink()  # or replaced: what was checked is what is read
    mapping.release(read.items)
    np.testing.assert_array_equal(read.items, data().items)


def is_mapped(array: NDArray[Any]) -> bool:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def test_only_large_arrays_are_kept_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_mapped(mapping.scratch((3, 4)))
    monkeypatch.setattr(mapping, "SCRATCH_BYTES", 48)
    large = mapping.scratch((3, 4))
    large[:] = np.arange(12).reshape(3, 4)
    mapping.release(large)
    assert is_mapped(large) and large.tolist() == np.arange(12).reshape(3, 4).tolist()


@pytest.mark.skipif(not hasattr(mapping.os, "posix_fallocate"), reason="room is not reserved here")
def test_a_full_disk_is_said_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapping, "SCRATCH_BYTES", 0)
    monkeypatch.setattr(mapping.os, "posix_fallocate", full)
    with pytest.raises(CocorrrecError, match=r"no room for 48 bytes .* No space left .* TMPDIR"):
        mapping.scratch((3, 4))


def test_generated_clicks_are_the_same_for_a_seed_and_follow_zipf() -> None:
    clicks = script("clicks", "benchmarks")
    made, again, other = (clicks.make_clicks(9_000, 3_000, 500, heavy=2_000, seed=seed) for seed in (1, 1, 2))
    counts = np.diff(made.offsets)
    assert counts.tolist() == [3] * 3_000 + [2_000]
    np.testing.assert_array_equal(made.items, again.items)
    assert (made.items != other.items).any()
    per_item = np.bincount(made.items, minlength=501)[1:]
    assert per_item.argmax() == 0 and per_item[:50].sum() > 3 * per_item[-50:].sum() > 0
    shared = np.diff(clicks.make_clicks(9_000, 1_000, 500).offsets)
    assert shared.min() >= 3 and shared.sum() == 9_000 and shared.std() > 3


def test_a_user_of_very_many_clicks_among_users_of_three() -> None:
    made = script("clicks", "benchmarks").make_clicks(9_000, 3_000, 5_000, heavy=4_000)
    split, sampler = leave_last_out(made, sequence_length=10), NegativeSampler(made)
    assert len(split.train) == 4_000 - 3 and len(split.test) == 3_001
    assert set(split.train.all().users.tolist()) == {3_000}
    drawn = sampler.sample(np.array([3_000, 5]), 200, rng=np.random.default_rng(0), distinct=True)
    assert not set(drawn[0].tolist()) & set(made.items[made.offsets[3_000] :].tolist())
    windows = training_windows(made, length=10, rng=np.random.default_rng(0)).all()
    assert (windows.targets != 0).sum() == 4_000 - 3
