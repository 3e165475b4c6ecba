"""Traces of the LiteRT runner; those of ExecuTorch are real ones, in test_host.py."""

import pytest

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.machines.traces import operator_times


def test_sums_become_means_of_one_call() -> None:
    trace = b'{"calls": 4, "kinds": [["CAST", false, 8, 2], ["Add (ND)", true, 12, 10]]}'
    assert operator_times(trace) == [
        {"name": "Add (ND)", "backend": "XNNPACK", "operators": 3, "mean_us": 2.5},
        {"name": "CAST", "backend": None, "operators": 2, "mean_us": 0.5},
    ]


@pytest.mark.parametrize(
    "trace", [b"{", b"{}", b'{"calls": 0, "kinds": [["A", true, 1, 1]]}', b'{"calls": 1, "kinds": 5}']
)
def test_a_damaged_trace(trace: bytes) -> None:
    with pytest.raises(CocorrrecError, match="the runner's trace is damaged"):
        operator_times(trace)
