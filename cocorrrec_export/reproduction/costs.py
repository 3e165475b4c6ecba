"""What the models cost, whatever they were trained on: parameters, FLOPs and memory per token, time by mini-batch."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cocorrrec_export.isolation import in_child
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.curves import LENGTHS, PAPER_BATCH, FlopCurve
from cocorrrec_export.modeling.flops import forward_curve
from cocorrrec_export.modeling.threads import one_thread
from cocorrrec_export.reproduction.plan import MINI_BATCH_LENGTH

TIMED_CALLS = 200
_WARMUP = 50
_VOCABULARY = 1000
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """Of one model."""

    parameters: int
    flops: FlopCurve
    peak_bytes: tuple[int, ...] | None
    """Of one forward pass over a batch of 1,024, by the lengths of ``flops``; None where the system tells none."""

    @property
    def memory_per_token(self) -> float | None:
        """Bytes of one token of one user: the slope of the peak over the lengths, by the batch."""
        if self.peak_bytes is None:
            return None
        slope = np.polyfit(self.flops.lengths, np.asarray(self.peak_bytes, dtype=np.float64), 1)[0]
        return float(slope) / PAPER_BATCH


def measure_costs(
    configs: dict[str, ModelConfig], *, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Cost]:
    """Cost of each model, the mini-batch of a TTT layer as long as the sequence, as in the paper.

    Args:
        configs: by name.
        progress: receives what is being done.
    """
    found = {}
    for name, config in configs.items():
        progress(f"cost of {name}")
        parameters = sum(x.numel() for x in build_model(config).parameters())
        peaks = [_peak(name, _at_length(config, length)) for length in LENGTHS] if _CLEAR_REFS.exists() else None
        found[name] = Cost(parameters, forward_curve(config), tuple(peaks) if peaks else None)
    return found


def _at_length(config: ModelConfig, length: int) -> ModelConfig:
    return dataclasses.replace(config, vocab_size=_VOCABULARY, sequence_length=length, mini_batch=length)


def _peak(name: str, config: ModelConfig) -> int:
    return in_child(f"memory of {name}", peak_bytes, config)


@torch.inference_mode()
def peak_bytes(config: ModelConfig) -> int:
    """Growth of this process's peak by one forward pass of the plain model, every position read out; on Linux.

    Call it in a process of its own, by :func:`~cocorrrec_export.isolation.in_child`.
    """
    from cocorrrec_export.profiling.machines.worker import memory  # it needs a module that Windows has not

    torch.set_num_threads(1)
    model = build_model(config, generator=torch.Generator().manual_seed(0)).eval()
    ids = torch.randint(1, config.vocab_size, (PAPER_BATCH, config.sequence_length))
    model.every_position(ids[:1], model.item_embedding(ids[:1]))  # what is set up once
    _CLEAR_REFS.write_text("5")  # the peak starts again from what is resident
    before = memory()["resident_kb"]
    model.every_position(ids, model.item_embedding(ids))
    return 1024 * (memory()["peak_kb"] - before)


@torch.inference_mode()
def inference_times(config: ModelConfig, mini_batches: Sequence[int]) -> dict[int, float]:
    """Milliseconds that the plain model takes to read one user at L = 20, on one thread: medians, by mini-batch."""
    with one_thread():
        return {size: _inference_time(config, size) for size in mini_batches}


def _inference_time(config: ModelConfig, mini_batch: int) -> float:
    config = dataclasses.replace(
        config, vocab_size=_VOCABULARY, sequence_length=MINI_BATCH_LENGTH, mini_batch=mini_batch
    )
    model = build_model(config, generator=torch.Generator().manual_seed(0)).eval()
    ids = torch.randint(1, _VOCABULARY, (1, MINI_BATCH_LENGTH))
    samples = []
    for call in range(_WARMUP + TIMED_CALLS):
        start = time.perf_counter()
        model.user_state(ids)
        if call >= _WARMUP:
            samples.append(1e3 * (time.perf_counter() - start))
    return statistics.median(samples)
