"""What operators of inference servers expect next to the six endpoints: Triton's model configuration, statistics and
repository index, in Triton's form."""

import time
from dataclasses import dataclass, field
from typing import Any

from cocorrrec_export.contract import TensorSpec

EXTENSIONS = ("model_configuration", "statistics", "model_repository")
_TRITON_TYPES = {"float32": "TYPE_FP32", "int32": "TYPE_INT32", "int64": "TYPE_INT64"}


@dataclass
class Statistics:
    """Counts since the start; times in nanoseconds."""

    requests: int = 0
    users: int = 0
    failed: int = 0
    total_ns: int = 0
    failed_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    batches: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By users of a batch: how many there were, and their compute."""
    last_ms: int = 0

    def succeeded(self, users: int, *, total_s: float, queue_s: float, compute_s: float) -> None:
        """Count a request that was answered."""
        self.requests += 1
        self.users += users
        self.total_ns += _ns(total_s)
        self.queue_ns += _ns(queue_s)
        self.compute_ns += _ns(compute_s)
        self.last_ms = round(time.time() * 1000)

    def refused(self, total_s: float) -> None:
        """Count a request that was not."""
        self.failed += 1
        self.failed_ns += _ns(total_s)

    def computed(self, users: int, seconds: float) -> None:
        """Count a batch."""
        count, total = self.batches.get(users, (0, 0))
        self.batches[users] = (count + 1, total + _ns(seconds))

    def as_dict(self, name: str, version: str) -> dict[str, Any]:
        """The answer of ``/stats``."""

        def duration(count: int, total_ns: int) -> dict[str, int]:
            return {"count": count, "ns": total_ns}

        nothing = duration(0, 0)
        model = {
            "name": name,
            "version": version,
            "last_inference": self.last_ms,
            "inference_count": self.users,
            "execution_count": sum(count for count, _ in self.batches.values()),
            "inference_stats": {
                "success": duration(self.requests, self.total_ns),
                "fail": duration(self.failed, self.failed_ns),
                "queue": duration(self.requests, self.queue_ns),
                "compute_input": duration(self.requests, 0),
                "compute_infer": duration(self.requests, self.compute_ns),
                "compute_output": duration(self.requests, 0),
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "batch_stats": [
                {
                    "batch_size": users,
                    "compute_input": duration(count, 0),
                    "compute_infer": duration(count, total_ns),
                    "compute_output": duration(count, 0),
                }
                for users, (count, total_ns) in sorted(self.batches.items())
            ],
        }
        return {"model_stats": [model]}


def model_config(
    name: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    *,
    max_batch: int,
    max_delay_s: float,
) -> dict[str, Any]:
    """The answer of ``/config``: shapes are without the batch dimension."""

    def tensors(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
        return [
            {
                "name": x.name,
                "data_type": _TRITON_TYPES[x.dtype],
                "dims": [-1 if isinstance(n, str) else n for n in x.shape[1:]],
            }
            for x in specs
        ]

    return {
        "name": name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": max_batch,
        "input": tensors(inputs),
        "output": tensors(outputs),
        "dynamic_batching": {"max_queue_delay_microseconds": round(max_delay_s * 1e6)},
        "instance_group": [{"name": f"{name}_0", "kind": "KIND_CPU", "count": 1}],
    }


def repository_index(name: str, version: str, *, ready: bool) -> list[dict[str, str]]:
    """The answer of ``/v2/repository/index``."""
    state = {"state": "READY", "reason": ""} if ready else {"state": "UNAVAILABLE", "reason": "stopping"}
    return [{"name": name, "version": version} | state]


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
