"""FLOPs per token, in two conventions that are always given together.

A count is taken on the plain model at sequence lengths 10, 15, 20 and 25 with the inner mini-batch as long as the
sequence; the slope over the lengths is the figure per token. What does not depend on the length, such as the item
side, falls out.

``paper``: the convention behind the published table. Only layers count: a Linear layer by its multiply-accumulates, a
LayerNorm by four operations an element, a GRU by a formula; the matrix products between them do not. The sum is over a
batch of 1,024, and every position of the sequence is read out, as the released implementation does.

``all``: every matrix product, two operations a multiply-accumulate, for one user, as this toolkit's model runs: only
the last position is read out.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.curves import FIXED_LENGTHS, FIXED_MINI_BATCH, LENGTHS, PAPER_BATCH, FlopCurve, Flops
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker

_VOCABULARY = 32  # the size of the table does not change the count


def scn_flops(config: ModelConfig) -> Flops:
    """The phone's network alone."""
    return forward_curve(dataclasses.replace(config, correction="none")).per_token


def gcn_flops(config: ModelConfig) -> Flops:
    """What the cloud's network adds.

    Raises:
        ValueError: the model has no GCN.
    """
    if not config.gcn:
        raise ValueError("a model without a GCN has no FLOPs of one")
    if config.correction == "vector":
        counts = tuple(_count_answer(config, length) for length in LENGTHS)
        return FlopCurve("correct", None, LENGTHS, counts).per_token
    return forward_curve(config).per_token - scn_flops(config)


def forward_curve(config: ModelConfig) -> FlopCurve:
    """Both halves of a CoCorrRec model, or the whole of a baseline: every position read out, as in the paper."""
    return FlopCurve("forward", None, LENGTHS, tuple(_count_every_position(config, length) for length in LENGTHS))


@functools.lru_cache(maxsize=8)
def flop_curves(config: ModelConfig) -> tuple[FlopCurve, ...]:
    """The whole model: with the mini-batch as long as the sequence, and with it fixed at ten.

    With the mini-batch fixed, what comes after the second one is not counted but continued: each further one costs the
    same, and a count takes time with every operation. What an exported entry point costs is counted on its graph:
    :mod:`cocorrrec_export.export.flops`.
    """
    if config.architecture != "cocorrrec":
        return (forward_curve(config),)
    curves = []
    for mini_batch, lengths in ((None, LENGTHS), (FIXED_MINI_BATCH, FIXED_LENGTHS)):
        short = [length for length in lengths if mini_batch is None or length <= max(LENGTHS)]
        rows = {length: _count_halves(config, length, mini_batch or length) for length in short}
        for name in rows[short[0]]:
            known = {length: row[name] for length, row in rows.items()}
            counts = tuple(known[x] if x in known else _continued(known, x) for x in lengths)
            curves.append(FlopCurve(name, mini_batch, lengths, counts))
    return tuple(curves)


def _continued(known: dict[int, Flops], length: int) -> Flops:
    """The count at ``length``, a multiple of the fixed mini-batch, from those of one and two mini-batches."""
    one, two = known[FIXED_MINI_BATCH], known[2 * FIXED_MINI_BATCH]
    more, rest = divmod(length - FIXED_MINI_BATCH, FIXED_MINI_BATCH)
    assert rest == 0, length
    return Flops(one.paper + more * (two.paper - one.paper), one.all + more * (two.all - one.all))


def _count_halves(config: ModelConfig, length: int, mini_batch: int) -> dict[str, Flops]:
    """The count of one call of the on-device model, and of both, every position read out."""
    model, ids = _build(config, length, mini_batch)
    assert isinstance(model, CoCorrRec)
    scn = model.scn
    with torch.no_grad():
        H = scn.encode(ids)
        correction, answer = model.correction(H), model.answer(ids)
    counts = {"scn": _count(model, lambda: scn.every_position(H))}
    if answer is not None:  # a vector is added to what every position reads out
        counts["scn+gcn"] = _count(model, lambda: scn.every_position(H, correction))
        counts["scn+gcn"] += _count(model, lambda: model.answer(ids))
    return counts


def _count_every_position(config: ModelConfig, length: int) -> Flops:
    model, ids = _build(config, length, length)
    return _count(model, lambda: model.every_position(ids, model.item_embedding(ids)))


def _count_answer(config: ModelConfig, length: int) -> Flops:
    """What a cloud that answers with a vector computes for ``length`` clicks."""
    model, ids = _build(config, length, config.mini_batch)
    assert isinstance(model, CoCorrRec)
    return _count(model, lambda: model.answer(ids))


def _build(config: ModelConfig, length: int, mini_batch: int) -> tuple[Ranker, Tensor]:
    config = dataclasses.replace(
        config,
        vocab_size=_VOCABULARY,
        mini_batch=mini_batch,
        sequence_length=length,
        cloud_length=max(length, config.cloud_length),
    )
    model = build_model(config, generator=torch.Generator().manual_seed(0)).eval()
    return model, torch.ones(1, length, dtype=torch.int64)


@torch.no_grad()
def _count(model: Ranker, call: Callable[[], object]) -> Flops:
    with count_layers(model) as operations, FlopCounterMode(display=False) as counter:
        call()
    return Flops(paper=PAPER_BATCH * sum(operations), all=counter.get_total_flops())


@contextmanager
def count_layers(model: nn.Module) -> Iterator[list[int]]:
    """Collect the ``paper`` operations of each Linear, LayerNorm and GRU that runs inside the block."""
    operations: list[int] = []

    def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        operations.append(_layer_operations(layer, inputs[0], output))

    # What the released implementation ran as one operation, its counter did not see.
    fused = {id(x) for layer in model.modules() if getattr(layer, "fused", False) for x in layer.modules()}
    layers = (x for x in model.modules() if isinstance(x, (nn.Linear, nn.LayerNorm, nn.GRU)))
    counted = [x for x in layers if id(x) not in fused]
    handles = [layer.register_forward_hook(hook) for layer in counted]
    try:
        yield operations
    finally:
        for handle in handles:
            handle.remove()


def _layer_operations(layer: nn.Module, x: Tensor, output: Any) -> int:
    if isinstance(layer, nn.Linear):
        return layer.in_features * output.numel()
    if isinstance(layer, nn.LayerNorm):
        return 4 * x.numel()
    if isinstance(layer, nn.GRU):
        steps, size, hidden = x.numel() // x.shape[-1], layer.input_size, layer.hidden_size
        return steps * (3 * (size * hidden + hidden * hidden + 2 * hidden) + 7 * hidden)
    raise TypeError(f"no formula for {type(layer).__name__}")
