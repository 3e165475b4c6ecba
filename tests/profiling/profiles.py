"""A small profile document."""

import json
from typing import Any

SHA = "0" * 64
_MEMORY = {"peak_kb": 9, "resident_kb": 8, "anonymous_kb": 2, "mapped_kb": 6, "heap_bytes": 1000}
_STATE = {"governor": None, "thermal_status": 0, "battery_celsius": 25.0}
_RUN = {"threads": 1, "latency_ns": [1000, 2000, 3000], "p50_us": 2.0, "p90_us": 2.8, "p99_us": 2.98}
_PROFILE: dict[str, Any] = {
    "schema_version": 1,
    "toolkit_version": "0.1.0",
    "created": "2026-01-02T03:04:05+00:00",
    "artifact": {
        "name": "scn-executorch-int8",
        "kind": "scn",
        "target": "executorch",
        "precision": "int8",
        "model": "tiny",
        "model_sha256": SHA,
        "program": "scn.pte",
        "bytes": 5000,
        "sha256": SHA,
        "manifest_sha256": SHA,
        "sequence_length": 10,
        "candidates": 100,
        "flops_per_token": {"all": 52_864, "paper": 17_039_360},
    },
    "machine": {
        "kind": "device",
        "serial": "R5<&>",
        "name": "A <phone>",
        "soc": "SoC",
        "os": "Android 14",
        "abi": "arm64-v8a",
        "kernel": "5.10",
        "page_size": 4096,
        "cpus": 8,
        "memory_kb": 8_000_000,
        "emulated": False,
        "before": _STATE,
        "after": _STATE | {"battery_celsius": 26.5},
        "throttled": False,
    },
    "runner": {"runtime": "executorch 1.5.1", "id": "0123456789abcdef"},
    "settings": {"iterations": 3, "warmup": 1, "threads": [1, 2]},
    "parity": {"verdict": "pass", "cases": 5, "max_abs": 0.01, "max_rel": 0.02, "top10_overlap": 1.0, "problems": []},
    "entry_points": [
        {
            "name": name,
            "cold_load_ns": [1_000_000, 2_000_000, 3_000_000],
            "first_call_ns": [100_000, 200_000, 300_000],
            "planned_bytes": 500,
            "memory": dict.fromkeys(("idle", "before_load", "loaded", "first_call", "end"), _MEMORY),
            "peak_over_idle_kb": 4,
            "heap_over_idle_bytes": 6000,
            "heap_parts": {"program": 5100, "planned": 500, "load": 300, "first_call": 100, "later": 0},
            "runs": [_RUN, _RUN | {"threads": 2}],
            "operators": [{"name": "add <1>", "backend": None, "operators": 2, "mean_us": 0.5}],
        }
        for name in ("encode", "rank")
    ],
    "flops": [
        {
            "name": "scn",
            "mini_batch": mini_batch,
            "lengths": [10, 15],
            "paper": [100, 150],
            "all": [1000, 1600],
            "per_token": {"paper": 10, "all": 120},
        }
        for mini_batch in (None, 10)
    ],
    "entry_flops": {
        name: {"call": 5000, "per_token": token, "elementwise": 300, "elementwise_per_token": token}
        for name, token in (("rank", 20), ("score", None))
    },
    "shapes": {
        "rows": [
            {
                "entry_point": "rank",
                "length": length,
                "candidates": candidates,
                "program_bytes": 5000,
                "planned_bytes": 100 * length,
                "peak_over_idle_kb": [4, 5],
                "heap_over_idle_bytes": [1000 * length] * 2,
                "latency_ns": [1000],
                "p50_us": 1.0,
                "p90_us": 1.0,
                "p99_us": 1.0,
            }
            for length, candidates in ((10, 100), (15, 100), (10, 50))
        ],
        "per_token": [
            {
                "entry_point": "rank",
                "lengths": [10, 15],
                "planned_bytes_per_token": 100.0,
                "peak_bytes_per_token": 0.0,
                "heap_bytes_per_token": 1000.0,
            }
        ],
    },
}


def small_profile() -> dict[str, Any]:
    """A profile that has something for every table and picture."""
    profile: dict[str, Any] = json.loads(json.dumps(_PROFILE))  # a deep copy would share what is shared above
    return profile
