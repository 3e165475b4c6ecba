"""MLServer: the Open Inference Protocol on FastAPI with adaptive batching; run.py writes its two settings files."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from model import Gcn


class GcnModel(MLModel):
    async def load(self) -> bool:
        self.gcn = Gcn()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        H = NumpyCodec.decode_input(payload.inputs[0])
        named = zip(("k_attn", "k_b"), self.gcn.correct(H), strict=True)
        outputs = [NumpyCodec.encode_output(name, x) for name, x in named]
        return InferenceResponse(model_name=self.name, outputs=outputs)
