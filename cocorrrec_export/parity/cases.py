"""What is tried: histories with their edges, and what the float32 model answers to them."""

from typing import Any

import torch
from torch import Tensor, nn

from cocorrrec_export.contract import RECOMMEND, EntryPoint
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.modeling.joint import CoCorrRec
from cocorrrec_export.modeling.ranker import Ranker
from cocorrrec_export.parity.vectors import Case
from cocorrrec_export.runtime.base import Arrays

REAL_HISTORIES = 16
_ITEMS_AT_ONCE = 65_536
STREAM_CLICKS = 12
"""More than one mini-batch of the default model, so that a commit of the state is among the cases."""


def history_cases(config: ModelConfig, real: EvaluationSet | None, *, seed: int = 0) -> dict[str, Tensor]:
    """Histories to test with, each ``[1, L]``: real ones first, then the edges.

    Args:
        config: the model's sizes.
        real: held-out users; random histories take their place where there are none.
        seed: of the random ones.
    """
    generator = torch.Generator().manual_seed(seed)
    length, vocab = config.sequence_length, config.vocab_size
    random = torch.randint(1, vocab, (REAL_HISTORIES, length), generator=generator)
    rows = real.histories[:REAL_HISTORIES] if real is not None else random
    cases = {f"{'user' if real is not None else 'random'}{i}": row for i, row in enumerate(rows)}
    full = rows[int((rows != 0).sum(1).argmax())]
    for clicks in sorted({0, 1, 2, length // 2, length - 1} & set(range(length))):
        cases[f"length{clicks}"] = torch.where(torch.arange(length) < clicks, full, 0)
    cases["first_item"] = torch.full((length,), 1)
    cases["last_item"] = torch.full((length,), vocab - 1)
    cases["both_ends"] = torch.where(torch.arange(length) % 2 == 0, 1, vocab - 1)
    cases["noise"] = random[0]
    half = torch.arange(length) < length // 2
    cases["half_repeated"] = torch.where(half, random[1], random[1][-1])
    cases["repeated_first"] = torch.where(half, random[2][0], random[2])
    return {name: row.reshape(1, length) for name, row in cases.items()}


@torch.no_grad()
def scn_cases(
    model: Ranker,
    config: ModelConfig,
    entry_points: dict[str, EntryPoint],
    real: EvaluationSet | None,
    *,
    probability: bool = False,
) -> list[Case]:
    """Cases for the phone's entry points; with ``probability`` scores are the sigmoids of the model's."""
    cases: list[Case] = []
    generator = torch.Generator().manual_seed(1)

    def add(entry_point: str, name: str, inputs: dict[str, Tensor], *outputs: Tensor) -> None:
        if entry_point in entry_points:
            names = (spec.name for spec in entry_points[entry_point].outputs)
            cases.append(Case(entry_point, name, _arrays(inputs), _arrays(dict(zip(names, outputs, strict=True)))))

    def scored(user: Any, candidates: Tensor) -> Tensor:
        logits = model.match(user, model.item_vectors(candidates))
        return torch.sigmoid(logits) if probability else logits

    for index, (name, ids) in enumerate(history_cases(config, real).items()):
        candidates = _candidates(config, entry_points, real, index, generator)
        user = model.user_state(ids, corrected=False)
        if isinstance(model, CoCorrRec):
            add("encode", name, {"ids": ids}, model.scn.encode(ids))
            add("user", name, {"ids": ids}, user)
        if RECOMMEND in entry_points:
            count = int(entry_points[RECOMMEND].outputs[0].shape[1])
            items, logits = _best(_every_logit(model, config, user), ids, count)
            add(RECOMMEND, name, {"ids": ids}, items, torch.sigmoid(logits) if probability else logits)
        if candidates is None:
            continue
        scores = scored(user, candidates)
        add("rank", name, {"ids": ids, "candidates": candidates}, scores)
        add("score", name, {"user": user, "candidates": candidates}, scores)
        if isinstance(model, CoCorrRec) and (answer := model.answer(ids)) is not None:
            inputs = {"ids": ids, "candidates": candidates} | answer._asdict()
            add("rank_corrected", name, inputs, scored(model.fuse(ids, answer), candidates))
    if "step" in entry_points:
        names = [spec.name for spec in entry_points["step"].inputs[1:]]
        state = model.start_stream(1)
        for click, item in enumerate(stream_items(config, real, STREAM_CLICKS)):
            before = dict(zip(names, state, strict=True))
            state, user = model.step(item, state)
            add("step", f"click{click}", {"item": item} | before, *state, user)
    return cases


def _every_logit(model: Ranker, config: ModelConfig, user: Any) -> Tensor:
    """Logits ``[1, V - 1]`` of all items, some at a time: their vectors together may be as large as the table."""
    parts = torch.arange(1, config.vocab_size).split(_ITEMS_AT_ONCE)
    return torch.cat([model.match(user, model.item_vectors(items[None])) for items in parts], dim=1)


def _best(logits: Tensor, ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best ``count`` items, and their logits, of ``logits [1, V - 1]``, without those of ``ids [1, L]``."""
    clicked = ids[ids != 0].long() - 1
    best, places = logits[0].index_fill(0, clicked, -torch.inf).topk(count)
    return places[None] + 1, best[None]


@torch.no_grad()
def gcn_cases(model: Ranker, config: ModelConfig, real: EvaluationSet | None) -> list[Case]:
    """Cases for the cloud's entry point: each history alone, and all of them as one batch."""
    assert isinstance(model, CoCorrRec)
    histories = history_cases(config, real)
    if config.correction == "vector":
        histories |= _memories(config, real)
        width = config.cloud_length
        histories = {name: nn.functional.pad(ids, (0, width - ids.shape[1])) for name, ids in histories.items()}
    histories["batch"] = torch.cat(list(histories.values()))
    cases = []
    for name, ids in histories.items():
        answer = model.answer(ids)
        assert answer is not None
        upload = {"ids": ids} if config.correction == "vector" else {"H": model.scn.encode(ids)}
        cases.append(Case("correct", name, _arrays(upload), _arrays(answer._asdict())))
    return cases


def _memories(config: ModelConfig, real: EvaluationSet | None) -> dict[str, Tensor]:
    """Histories as long as the cloud's memory, each ``[1, L_cloud]``: real ones where their clicks are known."""
    random = torch.randint(1, config.vocab_size, (2, config.cloud_length), generator=torch.Generator().manual_seed(3))
    memory = real.memory(slice(0, REAL_HISTORIES), config.cloud_length) if real is not None else None
    rows = random if memory is None else torch.cat((memory, random))
    return {f"memory{index}": row[None] for index, row in enumerate(rows)}


def stream_items(config: ModelConfig, real: EvaluationSet | None, clicks: int) -> list[Tensor]:
    """Clicks to stream, each ``[1]``: those of the first real users in a row, else random ones."""
    if real is None:
        items = torch.randint(1, config.vocab_size, (clicks,), generator=torch.Generator().manual_seed(2))
    else:
        flat = real.histories[real.histories != 0]
        items = flat.repeat(-(-clicks // len(flat)))[:clicks]
    return list(items.reshape(-1, 1))


def _candidates(
    config: ModelConfig,
    entry_points: dict[str, EntryPoint],
    real: EvaluationSet | None,
    index: int,
    generator: torch.Generator,
) -> Tensor | None:
    """``[1, C]``: a real user's candidates filled up with random items; both ends of the vocabulary are among them."""
    sizes = [spec.shape[1] for e in entry_points.values() for spec in e.inputs if spec.name == "candidates"]
    if not sizes:
        return None
    size = int(sizes[0])
    items = torch.randint(1, config.vocab_size, (1, size), generator=generator)
    if real is not None:
        own = real.candidates[index % len(real)][:size]
        items[0, : len(own)] = own
    if size >= 4:
        items[0, -2], items[0, -1] = 1, config.vocab_size - 1
    return items


def _arrays(tensors: dict[str, Tensor]) -> Arrays:
    return {name: x.numpy() for name, x in tensors.items()}
