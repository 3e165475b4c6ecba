"""Training and evaluation: one user state a history, next to one a pair.

Both sides train the same model on the same examples, 1 positive to 4 negatives, on one thread, in turns within one
run. The per-pair side (per_pair.py) is what one writes first: the equations line by line, a data set of (history, item,
label) pairs in batches of 1,024, torch's AdamW. Only ratios are worth reading: a machine that does other work slows
both.

    python benchmarks/training.py --data beauty.csv.gz --min-item 3 --min-user 13
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import per_pair
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from cocorrrec_export.data.held_out import TEST, evaluation_set
from cocorrrec_export.data.interactions import Filters, load_interactions
from cocorrrec_export.data.negatives import NegativeSampler
from cocorrrec_export.data.splits import leave_last_out
from cocorrrec_export.metrics import ranking_metrics
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig
from cocorrrec_export.training.config import TrainConfig
from cocorrrec_export.training.loop import Batch, Step, TrainingData
from cocorrrec_export.training.scoring import score_candidates

PAIRS = 1024
NEGATIVES = 4
HISTORIES = PAIRS // (1 + NEGATIVES) + 1


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--min-item", type=int, default=1)
    parser.add_argument("--min-user", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="steps of each side in one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=1000, help="users to evaluate")
    parser.add_argument("--json", type=Path, help="file for all raw samples")
    options = parser.parse_args()
    torch.set_num_threads(1)

    interactions = load_interactions(options.data, filters=Filters(options.min_item, options.min_user))
    split, sampler = leave_last_out(interactions, sequence_length=10), NegativeSampler(interactions)
    held_out = evaluation_set(interactions, split, sampler, part=TEST, negatives=100, seed=0)
    data = TrainingData(interactions, split.train, sampler, held_out)
    results = {}
    for name, gcn in (("SCN alone", False), ("SCN and GCN", True)):
        config = ModelConfig(vocab_size=interactions.vocab_size, gcn=gcn)
        results[name] = {
            "training": time_training(config, data, options.steps, options.rounds),
            "evaluation": time_evaluation(config, held_out.histories, held_out.candidates, options.users),
        }
        report(name, results[name], len(data.train))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def time_training(config: ModelConfig, data: TrainingData, steps: int, rounds: int) -> dict:
    train = data.train.all()
    negatives = data.sampler.sample(train.users, NEGATIVES, rng=np.random.default_rng(0))
    ours, pairs = build_model(config).train(), build_model(config).train()
    our_optimiser = torch.optim.AdamW(ours.parameters(), lr=0.005, weight_decay=0.01, fused=True)
    pair_optimiser = torch.optim.AdamW(pairs.parameters(), lr=0.005, weight_decay=0.01)
    order = np.random.default_rng(1).permutation(len(data.train))
    batches = iter(np.array_split(order, len(data.train) // HISTORIES))
    candidates = np.concatenate((train.targets[:, None], negatives), axis=1)
    dataset = TensorDataset(
        torch.from_numpy(train.histories).long().repeat_interleave(1 + NEGATIVES, 0),
        torch.from_numpy(candidates).long().flatten(),
        torch.tensor([1.0] + [0.0] * NEGATIVES).repeat(len(data.train)),
    )
    loader = iter(DataLoader(dataset, batch_size=PAIRS, shuffle=True))
    step, rng = Step(ours, data, TrainConfig(negatives=NEGATIVES), "bce"), np.random.default_rng(2)

    def our_steps() -> None:
        for _ in range(steps):
            rows = next(batches)
            our_optimiser.zero_grad(set_to_none=False)
            step(Batch.of(data.train.cut(rows)), rng)
            our_optimiser.step()

    def pair_steps() -> None:
        for _ in range(steps):
            ids, items, labels = next(loader)
            pair_optimiser.zero_grad()
            logits = per_pair.logits(pairs, ids, items)
            torch.nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
            pair_optimiser.step()

    our_steps(), pair_steps()  # warm up
    samples = [(cpu_seconds(our_steps) / steps, cpu_seconds(pair_steps) / steps) for _ in range(rounds)]
    return {"per_history": [s[0] for s in samples], "per_pair": [s[1] for s in samples]}


@torch.no_grad()
def time_evaluation(config: ModelConfig, histories: Tensor, candidates: Tensor, users: int) -> dict:
    model = build_model(config).eval()
    histories, candidates = histories[:users], candidates[:users]
    scores: dict[str, np.ndarray] = {}

    def ours() -> None:
        scores["ours"] = score_candidates(model, histories, candidates)

    def pairs() -> None:
        ids = histories.repeat_interleave(candidates.shape[1], 0)
        parts = zip(ids.split(PAIRS), candidates.flatten().split(PAIRS), strict=True)
        scores["pairs"] = torch.cat([per_pair.logits(model, *part) for part in parts]).reshape(candidates.shape).numpy()

    ours()
    samples = {"per_history": [cpu_seconds(ours) for _ in range(5)], "per_pair": [cpu_seconds(pairs) for _ in range(2)]}
    np.testing.assert_allclose(scores["ours"], scores["pairs"], atol=1e-4)
    ours_metrics, pair_metrics = ranking_metrics(scores["ours"]), ranking_metrics(scores["pairs"])
    assert all(abs(ours_metrics[name] - pair_metrics[name]) < 5e-4 for name in ours_metrics), (
        ours_metrics,
        pair_metrics,
    )
    return {key: [1000 / len(histories) * value for value in values] for key, values in samples.items()}


def report(name: str, result: dict, examples: int) -> None:
    steps = examples / HISTORIES
    for what, unit, scale in (("training", "s an epoch", steps), ("evaluation", "s per 1,000 users", 1.0)):
        ours, pairs = (scale * statistics.median(result[what][side]) for side in ("per_history", "per_pair"))
        print(f"{name}, {what}: {ours:.2f} {unit}, per pair {pairs:.2f}: {pairs / ours:.1f} times faster")


if __name__ == "__main__":
    main()
