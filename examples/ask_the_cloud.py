"""The whole exchange on one machine: start the server, let the exported SCN ask it for a correction, rank, stop it.

Run after:
    cocorr-export scn --target executorch --precision int8
    cocorr-export gcn --target onnx
"""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from cocorrrec_export.artifact.manifest import open_artifact
from cocorrrec_export.data.catalogue import read_titles
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.modeling.store import find_model, open_model
from cocorrrec_export.runtime.open import open_runtime
from cocorrrec_export.serving.client import GcnClient
from cocorrrec_export.serving.phone import Phone

USER = 7
DEADLINE_S = 1.0  # generous: this shows the exchange; `cocorr-profile link` measures it

folder = open_model(find_model("cocorrrec-movielens"))
titles = read_titles(folder.items_path)
held_out = EvaluationSet.load(folder.evaluation_path, vocab_size=folder.config.vocab_size)
ids = held_out.histories[USER : USER + 1].int().numpy()  # [1, 10] the last clicks, oldest first
candidates = held_out.candidates[USER, :100].numpy()  # 100 films; the first is what the user watched next
artifact = open_artifact(Path("dist/scn-executorch-int8"))
scn = open_runtime("executorch", artifact.program, artifact.entry_points)


async def ask(address: str, version: str) -> None:
    """Rank twice: with a deadline that the cloud can meet, and with one that it cannot."""
    async with GcnClient(address, version=version) as client:
        for title, deadline_s in (("the cloud was in time", DEADLINE_S), ("the cloud was late", 0.0)):
            phone = Phone(scn, client, deadline_s=deadline_s)
            ranking = await phone.rank(ids, candidates)
            await phone.drain()
            order = np.argsort(-ranking.scores)
            print(f"\n{title} ({'corrected' if ranking.corrected else 'ranked alone'}, {phone.counts})")
            print(f"the film watched next is at place {int(np.flatnonzero(order == 0)[0]) + 1}")
            for place, index in enumerate(order[:10], start=1):
                print(f"{place:3}. {ranking.scores[index]:.3f}  {titles[int(candidates[index])]}")


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
