"""The whole exchange on one machine: start the server, let the exported SCN ask it for an answer, rank, stop it.

Run after:
    cocorr-export scn --target executorch --precision int8
    cocorr-export gcn --target onnx
"""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from demo_user import MEMORY, most_helped, place

from cocorrrec_export import open_artifact, open_runtime
from cocorrrec_export.data.catalogue import read_titles
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.modeling.store import find_model, open_model
from cocorrrec_export.serving.client import GcnClient
from cocorrrec_export.serving.phone import Phone, Ranking

DEADLINE_S = 1.0  # generous: this shows the exchange; `cocorr-profile link` measures it

folder = open_model(find_model("cocorrrec-movielens"))
titles = read_titles(folder.items_path)
held_out = EvaluationSet.load(folder.evaluation_path, vocab_size=folder.config.vocab_size)
artifact = open_artifact("dist/scn-executorch-int8")
scn = open_runtime(artifact)
user = most_helped(scn, open_runtime(open_artifact("dist/gcn-onnx-fp32")), held_out)
ids = held_out.histories[user : user + 1].numpy()  # [1, 10] the last clicks, oldest first
memory = held_out.memory(slice(user, user + 1), MEMORY).int().numpy()  # [1, 50] what is sent
candidates = held_out.candidates[user, :100].numpy()  # 100 films; the first is what the user watched next


def show(title: str, ranking: Ranking) -> None:
    """The ten best of a ranking."""
    print(f"\n{title}: the film watched next is at place {place(ranking.scores)}")
    for rank, index in enumerate(np.argsort(-ranking.scores)[:10], start=1):
        print(f"{rank:3}. {ranking.scores[index]:6.3f}  {titles[int(candidates[index])]}")


async def ask(address: str, version: str) -> None:
    """Rank with a deadline that the cloud can meet; then with one that it cannot, and again with the late answer."""
    async with GcnClient(address, version=version) as client:
        phone = Phone(scn, client, deadline_s=DEADLINE_S)
        show("the cloud was in time", await phone.rank(ids, candidates, memory))
        phone = Phone(scn, client, deadline_s=0.0)
        pending = phone.begin(ids, memory)
        start = time.perf_counter()
        show("the cloud was late, ranked alone", await pending.rank(candidates))
        shown = time.perf_counter()
        second = await pending.rerank(candidates)
        assert second is not None, "the server was started by this script, and answers"
        late_ms = (time.perf_counter() - shown) * 1e3
        show(f"ranked again {late_ms:.1f} ms after the {(shown - start) * 1e3:.1f} ms of the first list", second)
        print(f"\n{phone.counts}")


command = shutil.which("cocorr-serve", path=Path(sys.executable).parent) or "cocorr-serve"
with subprocess.Popen(
    [command, "gcn", "dist/gcn-onnx-fp32", "--port", "0", "--json", "--drain-seconds", "0"],
    stdout=subprocess.PIPE,
    text=True,
) as server:
    try:
        started = json.loads(server.stdout.readline())  # one line, when it is ready
        # The server must have the weights that this SCN was trained with: it refuses another version.
        asyncio.run(ask(started["address"], artifact.manifest["model"]["sha256"][:16]))
    finally:
        server.terminate()  # SIGTERM: it answers what it has taken, and ends with 0
