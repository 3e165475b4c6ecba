"""The exported SCN and GCN in use: rank a real user's candidates on the phone's runtime, then with the cloud's answer.

Run after:
    cocorr-export scn --target executorch --precision int8
    cocorr-export gcn --target onnx
"""

import numpy as np
from demo_user import MEMORY, most_helped, place

from cocorrrec_export import open_artifact, open_runtime
from cocorrrec_export.data.catalogue import read_titles
from cocorrrec_export.data.evaluation_set import EvaluationSet
from cocorrrec_export.modeling.store import find_model, open_model
from cocorrrec_export.runtime.base import score_list

folder = open_model(find_model("cocorrrec-movielens"))
titles = read_titles(folder.items_path)
held_out = EvaluationSet.load(folder.evaluation_path, vocab_size=folder.config.vocab_size)

# open_artifact checks every hash before a native runtime sees a byte.
scn = open_runtime(open_artifact("dist/scn-executorch-int8"))
gcn = open_runtime(open_artifact("dist/gcn-onnx-fp32"))

user = most_helped(scn, gcn, held_out)  # by the rule that demo_user.py states
ids = held_out.histories[user : user + 1].numpy()  # [1, 10] the last clicks, oldest first
memory = held_out.memory(slice(user, user + 1), MEMORY).int().numpy()  # [1, 50] the upload
candidates = held_out.candidates[user, :100].numpy()  # 100 films; the first is what the user watched next

alone = score_list(scn, "rank", {"ids": ids}, candidates)
answer = gcn.run("correct", {"ids": memory})  # vector [1, 64]: the download
corrected = score_list(scn, "rank_corrected", {"ids": ids} | answer, candidates)

print(f"upload {memory.nbytes:,} bytes, download {sum(x.nbytes for x in answer.values()):,} bytes")
print("last clicks:", "; ".join(titles[i] for i in ids[0] if i))
print("watched next:", titles[int(candidates[0])])
for name, scores in (("without the cloud", alone), ("with its answer", corrected)):
    print(f"\n{name}: the film watched next is at place {place(scores)}")
    for rank, index in enumerate(np.argsort(-scores)[:10], start=1):
        print(f"{rank:3}. {scores[index]:6.3f}  {titles[int(candidates[index])]}")
