"""The whole job from Python: train on a file of clicks, evaluate, export, rank, check and profile.

    python examples/python_face.py clicks.csv

The file has the columns user, item and, if there is one, timestamp. Everything is written below the current folder.
"""

import sys

import numpy as np

import cocorrrec_export as cocorr

folder = cocorr.train(sys.argv[1], "models/mine", settings={"training.epochs": 2, "model.correction": "none"})
print(cocorr.evaluate(folder).metrics["alone"]["ndcg@10"])

artifact = cocorr.export("scn", "onnx", precision="int8", model=folder)
print(artifact.program, artifact.bytes)

runtime = cocorr.open_runtime(artifact)
ids = np.array([[3, 5, 2, 0, 0, 0, 0, 0, 0, 0]], dtype=np.int32)  # [1, 10] the last clicks, oldest first, then zeros
candidates = (np.arange(100, dtype=np.int32)[None] % 20) + 1  # [1, 100]
scores = runtime.run("rank", {"ids": ids, "candidates": candidates})["scores"][0]  # [100]; larger is better
print("best item:", candidates[0, scores.argmax()])

print(cocorr.check_parity(artifact, model=folder).tensors.max_abs)
print(cocorr.profile(artifact, "profiles/mine", model=folder)["parity"]["verdict"])
