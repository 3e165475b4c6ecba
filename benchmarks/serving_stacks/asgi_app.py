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


async def correct(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    future = asyncio.get_running_loop().create_future()
    waiting.append((H, future))
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
    H = np.concatenate([H for H, _ in batch]) if len(batch) > 1 else batch[0][0]
    loop.call_soon_threadsafe(finish, batch, *gcn.correct(H))


def finish(batch: list, k_attn: np.ndarray, k_b: np.ndarray) -> None:
    global busy
    busy = False
    row = 0
    for H, future in batch:
        if not future.cancelled():
            future.set_result((k_attn[row : row + len(H)], k_b[row : row + len(H)]))
        row += len(H)
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
    H = np.frombuffer(body, "<f4", offset=size).reshape(header["inputs"][0]["shape"])
    k_attn, k_b = await correct(H)
    answer = msgspec.json.encode({"model_name": "gcn", "outputs": [tensor("k_attn", k_attn), tensor("k_b", k_b)]})
    parts = (answer, k_attn.tobytes(), k_b.tobytes())
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"inference-header-content-length", str(len(answer)).encode()),
        (b"content-length", str(sum(map(len, parts))).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"".join(parts)})
