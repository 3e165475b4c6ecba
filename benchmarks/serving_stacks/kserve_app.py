"""KServe's Python SDK: the Open Inference Protocol with binary tensors on FastAPI; it has no batching of its own."""

import sys

import kserve
from kserve import InferOutput, InferRequest, InferResponse
from model import Gcn


class GcnModel(kserve.Model):
    def __init__(self) -> None:
        super().__init__("gcn")
        self.gcn = Gcn()
        self.ready = True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        outputs = []
        for name, array in zip(("k_attn", "k_b"), self.gcn.correct(payload.inputs[0].as_numpy()), strict=True):
            output = InferOutput(name=name, shape=list(array.shape), datatype="FP32")
            output.set_data_from_numpy(array, binary_data=True)
            outputs.append(output)
        return InferResponse(response_id=payload.id or "", model_name="gcn", infer_outputs=outputs)


if __name__ == "__main__":
    kserve.ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, access_log_format=None).start([GcnModel()])
