"""The application on Ray Serve: two local replicas, one killed under load."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.errors import UsageError
from cocorrrec_export.runtime.onnx import OnnxRuntime
from cocorrrec_export.serving.client import ClientError, GcnClient, RefusedError
from cocorrrec_export.serving.ray import build, deploy, keep_driver_folder_out
from tests.conftest import ROOT
from tests.serving.conftest import uploads
from tests.serving.test_server import free_port

START_SECONDS = 120.0


@pytest.mark.parametrize("arguments", [{}, {"artifact": "x", "replicas": "2"}])
def test_wrong_arguments(arguments: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="give artifact=FOLDER"):
        deploy(arguments)


@pytest.mark.parametrize(
    ("started_in", "left"),
    [("/somewhere", ["/usr/lib", str(ROOT), "/site"]), (str(ROOT), ["/somewhere", "/usr/lib", "/site", str(ROOT)])],
)
def test_the_driver_s_folder_is_left_out_or_last(
    started_in: str, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica's own processes find the package in a checkout too, and nothing there in the place of a library."""
    monkeypatch.setattr(sys, "path", ["/somewhere", "", "/usr/lib", str(ROOT), "/site"])
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    keep_driver_folder_out(started_in)
    assert sys.path == left


@pytest.fixture(scope="module")
def cluster(gcn_fp32: Artifact) -> Iterator[str]:
    """A local Ray with two replicas; its address."""
    import ray
    from ray import serve

    port = free_port()
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(build(gcn_fp32.path, min_replicas=2, max_replicas=2, num_cpus=0.5), name="gcn")
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


async def replica_pids() -> set[int]:
    """Processes of the replicas that run now."""
    import psutil

    return {p.pid for p in psutil.process_iter(["name"]) if "ServeReplica" in (p.info["name"] or "")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_replica_killed_under_load_loses_no_request_that_may_be_sent_again(cluster: str, gcn: OnnxRuntime) -> None:
    H = uploads(2)
    expected = gcn.run("correct", {"H": H})["k_b"]

    async def scenario() -> None:
        async with GcnClient(cluster, deadline_s=60, retries=10) as client:
            deadline = time.monotonic() + START_SECONDS
            while not await client.ready() and time.monotonic() < deadline:
                await asyncio.sleep(0.5)
            answer = await client.correct(H, request_id="ray")
            assert answer.id == "ray"
            np.testing.assert_allclose(answer.tensors["k_b"], expected, rtol=1e-5, atol=1e-5)
            with pytest.raises(RefusedError, match="400: input 'H' has shape"):
                await client.correct(np.zeros((1, 9, 64), np.float32))
            ends: Counter[str] = Counter()
            stop = time.monotonic() + 12.0

            async def load() -> None:
                while time.monotonic() < stop:
                    for _ in range(5):  # a request whose replica died is answered 500 by Ray's proxy: safe to repeat
                        try:
                            tensors = (await client.correct(H)).tensors
                            np.testing.assert_allclose(tensors["k_b"], expected, rtol=1e-5, atol=1e-5)
                            ends["answered"] += 1
                            break
                        except RefusedError as error:
                            ends[str(error.status)] += 1
                            await asyncio.sleep(0.2)
                        except ClientError as error:
                            ends[repr(error)] += 1
                            await asyncio.sleep(0.2)
                    else:
                        ends["lost"] += 1

            clients = [asyncio.ensure_future(load()) for _ in range(8)]
            await asyncio.sleep(3)
            before = await replica_pids()
            assert len(before) == 2, before
            os.kill(min(before), 9)
            await asyncio.gather(*clients)
            assert ends["lost"] == 0 and ends["answered"] > 50, ends
            deadline = time.monotonic() + START_SECONDS
            while len(await replica_pids()) < 2 and time.monotonic() < deadline:
                await asyncio.sleep(0.5)
            assert len(await replica_pids()) == 2, "the dead replica was replaced"

    asyncio.run(scenario())
