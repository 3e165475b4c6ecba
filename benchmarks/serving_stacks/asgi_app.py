"""The bare minimum as an ASGI application: the binary infer endpoint and micro-batches. For uvicorn and granian."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
from model import Gcn, tensor

MAX_BATCH = 64
gcn = Gcn()
thread = ThreadPoolExecutor(1)
waiting: list[tuple[np.ndarray, asyncio.Future]] = []
busy = False


async def correct(upload: np.ndarray) -> list[np.ndarray]:
    future = asyncio.get_running_loop().create_future()
    waiting.append((upload, future))
    if not busy:
        start()
    return await future


def start() -> None:
    global busy
    busy = True
    asyncio.get_running_loop().call_soon(flush)


def flush() -> None:
    batch = [waiting.pop(0) for _ in range(min(MAX_BATCH, len(waiting)))]
    loop = asyncio.get_running_loop()
    thread.submit(compute, loop, batch)


def compute(loop: asyncio.AbstractEventLoop, batch: list) -> None:
    uploads = np.concatenate([upload for upload, _ in batch]) if len(batch) > 1 else batch[0][0]
    loop.call_soon_threadsafe(finish, batch, gcn.correct(uploads))


def finish(batch: list, outputs: list[np.ndarray]) -> None:
    global busy
    busy = False
    row = 0
    for upload, future in batch:
        if not future.cancelled():
            future.set_result([output[row : row + len(upload)] for output in outputs])
        row += len(upload)
    if waiting:
        start()


async def app(scope, receive, send) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["method"] == "GET":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    size = int(dict(scope["headers"])[b"inference-header-content-length"])
    header = msgspec.json.decode(body[:size])
    upload = np.frombuffer(body, gcn.dtype, offset=size).reshape(header["inputs"][0]["shape"])
    outputs = await correct(upload)
    told = [tensor(name, output) for name, output in zip(gcn.outputs, outputs, strict=True)]
    answer = msgspec.json.encode({"model_name": "gcn", "outputs": told})
    parts = (answer, *(output.tobytes() for output in outputs))
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"inference-header-content-length", str(len(answer)).encode()),
        (b"content-length", str(sum(map(len, parts))).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"".join(parts)})
