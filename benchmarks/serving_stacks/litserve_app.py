"""LitServe. It has no Open Inference Protocol: a JSON of its own with the tensor in base64, its own batching."""

import base64
import sys

import litserve
import numpy as np
from model import Gcn


class GcnApi(litserve.LitAPI):
    def setup(self, device) -> None:
        self.gcn = Gcn()

    def decode_request(self, request) -> np.ndarray:
        return np.frombuffer(base64.b64decode(request["H"]), "<f4").reshape(10, 64)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, H):
        return self.gcn.correct(H)

    def unbatch(self, output):
        return list(zip(*output, strict=True))

    def encode_response(self, output):
        return {name: base64.b64encode(x.tobytes()).decode() for name, x in zip(("k_attn", "k_b"), output, strict=True)}


if __name__ == "__main__":
    api = GcnApi(max_batch_size=64, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(port=int(sys.argv[1]), host="127.0.0.1", log_level="error", generate_client_file=False)
