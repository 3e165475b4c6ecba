"""The process: start line, logs, TLS, token, metrics, and how it ends."""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import trustme

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.runtime.onnx import OnnxRuntime
from cocorrrec_export.serving.client import ClientError, GcnClient, RefusedError, SyncGcnClient
from tests.conftest import ROOT
from tests.serving.conftest import STOP_SECONDS, Running, running, uploads


def test_the_start_line_is_one_json_object_and_the_log_is_json(gcn_fp32: Artifact) -> None:
    with running(gcn_fp32.path, "--log-requests", "--server-timing") as server:
        version = gcn_fp32.manifest["model"]["sha256"][:16]
        assert server.facts == {
            "address": server.address,
            "model": "gcn",
            "version": version,
            "artifact": str(gcn_fp32.path),
        }
        with SyncGcnClient(server.address, version=version, deadline_s=30) as client:
            answer = client.correct(uploads(2), request_id="r1")
        assert answer.id == "r1" and answer.timing is not None
        assert 0 < answer.timing.compute_s <= answer.timing.answered - answer.timing.received < 30
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.address}/nothing", timeout=30)
        refused.value.close()
        code, log = server.stop()
    assert code == 0
    assert [line["message"] for line in log] == ["started", "request", "request", "stopped"]
    infer = log[1]
    assert (infer["status"], infer["users"], infer["id"], infer["method"]) == (200, 2, "r1", "POST")
    assert infer["compute_s"] > 0 and log[2]["status"] == 404  # type: ignore[operator]


def test_tls_and_token(gcn_fp32: Artifact, gcn: OnnxRuntime, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "token").write_text("secret\n")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    arguments = ("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem")
    with running(gcn_fp32.path, *arguments, "--token-file", tmp_path / "token") as server:
        assert server.address.startswith("https://")
        H = uploads(2)
        with SyncGcnClient(server.address, token="secret", tls=trust, deadline_s=30) as client:
            np.testing.assert_allclose(
                client.correct(H).tensors["k_b"], gcn.run("correct", {"H": H})["k_b"], rtol=1e-5, atol=1e-5
            )
        with (
            SyncGcnClient(server.address, token="wrong", tls=trust, deadline_s=30) as client,
            pytest.raises(RefusedError, match="401: a valid bearer token is needed"),
        ):
            client.correct(H)
        with (
            SyncGcnClient(server.address, token="secret", deadline_s=30) as client,
            pytest.raises(ClientError, match=r"(?i)certificate"),
        ):
            client.correct(H)
        assert server.stop()[0] == 0


def test_metrics_are_prometheus_text(server: Running) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with SyncGcnClient(server.address, deadline_s=30) as client:
        client.correct(uploads(5))
    with urllib.request.urlopen(f"{server.address}/metrics", timeout=30) as response:
        families = {family.name: family for family in text_string_to_metric_families(response.read().decode())}
    for name in ("requests", "users", "shed", "dropped", "batch_size", "queue_seconds", "compute_seconds", "ready"):
        assert f"cocorr_{name}" in families
    (users,) = families["cocorr_users"].samples[:1]
    assert users.value >= 5


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_an_idle_server_with_0(gcn_fp32: Artifact, how: signal.Signals) -> None:
    with running(gcn_fp32.path) as server:
        server.process.send_signal(how)
        _, stderr = server.process.communicate(timeout=STOP_SECONDS)
        assert server.process.returncode == 0, stderr
        assert "Traceback" not in stderr


def test_a_second_signal_cuts_the_drain_short(gcn_fp32: Artifact) -> None:
    async def scenario(server: Running) -> None:
        server.process.terminate()
        async with GcnClient(server.address, deadline_s=30) as client:
            while await client.ready():
                await asyncio.sleep(0.05)
            await client.correct(uploads(1))  # still served
        server.process.terminate()

    with running(gcn_fp32.path, "--drain-seconds", 3600) as server:
        asyncio.run(scenario(server))
        server.process.communicate(timeout=STOP_SECONDS)
        assert server.process.returncode == 0


def free_port() -> int:
    """A port that nobody listens on, for servers that cannot choose one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(*arguments: object) -> "subprocess.CompletedProcess[str]":
    program = "from cocorrrec_export.cli.serve.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "gcn", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=STOP_SECONDS,
    )


def test_wrong_usage_is_one_sentence(gcn_fp32: Artifact, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "empty").write_text("\n")
        (tmp_path / "bad.pem").write_text("no certificate")
        bad = tmp_path / "bad.pem"
        cases: list[tuple[int, str, tuple[object, ...]]] = [
            (1, f"cannot listen on 127.0.0.1:{port}", (gcn_fp32.path, "--port", port)),
            (2, "--tls-cert and --tls-key belong together", (gcn_fp32.path, "--tls-cert", bad)),
            (1, "certificate or key cannot be read", (gcn_fp32.path, "--port", 0, "--tls-cert", bad, "--tls-key", bad)),
            (2, "holds no bearer token", (gcn_fp32.path, "--token-file", tmp_path / "empty")),
            (2, "no such folder", (tmp_path / "nothing",)),
            (2, "Invalid value for '--max-batch'", (gcn_fp32.path, "--max-batch", 0)),
        ]
        for code, message, arguments in cases:
            ended = serve(*arguments)
            assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
            assert message in ended.stderr and "Traceback" not in ended.stderr


def test_a_damaged_artifact_is_not_served(gcn_fp32: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "gcn"
    folder.mkdir()
    for path in gcn_fp32.path.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    program = bytearray((folder / "gcn.onnx").read_bytes())
    program[1000] ^= 1
    (folder / "gcn.onnx").write_bytes(program)
    ended = serve(folder)
    assert ended.returncode == 1 and "changed: gcn.onnx" in ended.stderr


def test_only_a_gcn_is_served(gcn_fp32: Artifact, tmp_path: Path) -> None:
    manifest = json.loads((gcn_fp32.path / "manifest.json").read_text())
    assert manifest["kind"] == "gcn"
    (tmp_path / "x").mkdir()
    ended = serve(tmp_path / "x")
    assert ended.returncode == 2 and "holds no manifest.json" in ended.stderr
