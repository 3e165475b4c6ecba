"""Ray Serve: a deployment of one replica with its own batching, behind its own proxy; raw bytes in and out."""

import sys
import time

import numpy as np
import ray
from model import Gcn
from ray import serve


@serve.deployment(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0.5})
class GcnDeployment:
    def __init__(self) -> None:
        self.gcn = Gcn()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.0)
    async def correct(self, rows: list[np.ndarray]) -> list[bytes]:
        k_attn, k_b = self.gcn.correct(np.concatenate(rows))
        return [a.tobytes() + b.tobytes() for a, b in zip(k_attn, k_b, strict=True)]

    async def __call__(self, request):
        from starlette.responses import Response

        if request.method == "GET":
            return Response(b"")
        body = await request.body()
        H = np.frombuffer(body, "<f4", offset=int(request.headers["inference-header-content-length"]))
        return Response(await self.correct(H.reshape(1, 10, 64)), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(GcnDeployment.bind())
    while True:
        time.sleep(1)
