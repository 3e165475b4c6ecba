"""Better, worse or noise."""

import numpy as np
import pytest

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.report.compare import compare_profiles, median_ratio_interval, regressions, warnings
from tests.profiling.profiles import small_profile


def test_the_interval_holds_the_truth_and_narrows_with_samples() -> None:
    generator = np.random.default_rng(3)
    widths = []
    for count in (50, 5000):
        first, second = generator.normal(100, 5, count), generator.normal(120, 5, count)
        low, high = median_ratio_interval(first, second)
        assert low < 1.2 < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


def test_the_same_profile_is_the_same() -> None:
    changes = compare_profiles(small_profile(), small_profile())
    assert {change.verdict for change in changes} == {"same"}
    assert warnings(small_profile(), small_profile()) == []


def test_a_slower_entry_point_is_a_regression_and_a_smaller_file_is_not() -> None:
    old, new = small_profile(), small_profile()
    for profile, scale in ((old, 1), (new, 2)):
        samples = (scale * np.random.default_rng(1).normal(1000, 10, 200)).astype(int).tolist()
        profile["entry_points"][1]["runs"][0]["latency_ns"] = samples
    new["artifact"]["bytes"] = 4000
    new["entry_points"][0]["peak_over_idle_kb"] = 5
    changes = {change.what: change for change in compare_profiles(old, new)}
    assert changes["rank: latency"].verdict == "worse" and changes["rank: latency"].ratio == pytest.approx(2, rel=0.01)
    assert changes["file"].verdict == "better"
    assert [c.what for c in regressions(list(changes.values()), 0.1)] == [
        "encode: peak memory over idle",
        "rank: latency",
    ]
    assert [c.what for c in regressions(list(changes.values()), 0.5)] == ["rank: latency"]


def test_noise_is_no_regression() -> None:
    old, new = small_profile(), small_profile()
    old["entry_points"][0]["runs"][0]["latency_ns"] = [100, 500, 900]
    new["entry_points"][0]["runs"][0]["latency_ns"] = [100, 700, 900]
    changes = {change.what: change for change in compare_profiles(old, new)}
    assert changes["encode: latency"].ratio > 1.1 and changes["encode: latency"].verdict == "same"


def test_what_makes_it_unfair() -> None:
    old, new = small_profile(), small_profile()
    new["machine"] |= {"soc": "Another", "throttled": True}
    new["parity"]["verdict"] = "fail"
    said = " ".join(warnings(old, new))
    assert (
        "soc is 'SoC' and 'Another'" in said and "second profile was taken on a hot" in said and "parity failed" in said
    )


def test_nothing_in_common() -> None:
    other = small_profile()
    for entry in other["entry_points"]:
        entry["name"] += "_other"
    with pytest.raises(CocorrrecError, match="no entry point in common"):
        compare_profiles(small_profile(), other)
