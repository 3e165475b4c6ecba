"""Hand the GCN to an existing engine: a Triton model repository, and a KServe manifest that serves it."""

import hashlib
import json
import shutil
from pathlib import Path

from cocorrrec_export.artifact.copies import checked_copy
from cocorrrec_export.artifact.manifest import Artifact, open_artifact
from cocorrrec_export.contract import TensorSpec
from cocorrrec_export.errors import UsageError
from cocorrrec_export.files import publish_directory
from cocorrrec_export.serving.protocol import DATATYPES
from cocorrrec_export.serving.versions import version_of

MODEL = "gcn"
CONFIG = f"{MODEL}/config.pbtxt"
KSERVE = "kserve.yaml"
_SIGNATURE = "# written by cocorr-export; SHA-256 of the lines above: "
VERSION_FOLDER = "1"
"""Triton numbers versions; the digest of the weights is in the parameters."""


def bundle_triton(
    artifact_path: Path, out: Path, *, max_batch: int, max_queue_delay_us: int, storage_uri: str
) -> dict[str, str]:
    """Write ``out/gcn/config.pbtxt``, ``out/gcn/1/model.onnx`` and ``out/kserve.yaml``.

    Args:
        artifact_path: folder of an exported GCN; its hashes are checked first.
        out: the model repository.
        max_batch: users of one batch.
        max_queue_delay_us: how long Triton waits for more.
        storage_uri: where the cluster finds the repository.

    Returns:
        The paths of what was written.

    Raises:
        UsageError: no GCN for ONNX Runtime.
        CocorrrecError: a file is missing or changed.
    """
    artifact = open_artifact(artifact_path)
    if artifact.kind != "gcn":
        raise UsageError(f"{artifact_path} holds a {artifact.kind} for {artifact.target}: bundle a GCN for onnx")
    with publish_directory(out, owned_files) as staging:
        model = staging / MODEL / VERSION_FOLDER / "model.onnx"
        model.parent.mkdir(parents=True)
        with checked_copy(artifact) as program:
            shutil.copyfile(program, model)
        config = triton_config(artifact, max_batch=max_batch, max_queue_delay_us=max_queue_delay_us)
        (staging / CONFIG).write_text(_signed(config), encoding="utf-8")
        (staging / KSERVE).write_text(_signed(kserve_manifest(artifact, storage_uri)), encoding="utf-8")
    return {
        "repository": str(out),
        "config": str(out / CONFIG),
        "model": str(out / MODEL / VERSION_FOLDER / "model.onnx"),
        "kserve": str(out / KSERVE),
    }


def owned_files(folder: Path) -> set[str] | None:
    """The files of a repository that :func:`bundle_triton` wrote and nobody has edited; None where it wrote none."""
    files = {name for name in (CONFIG, KSERVE) if _is_signed(folder / name)}
    return files | {f"{MODEL}/{VERSION_FOLDER}/model.onnx"} if files else None


def _signed(text: str) -> str:
    """A text with a comment at its end by which a later command sees that it is still as it was written."""
    return f"{text}{_SIGNATURE}{hashlib.sha256(text.encode()).hexdigest()}\n"


def _is_signed(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return _signed(text.partition(_SIGNATURE)[0]) == text


def triton_config(artifact: Artifact, *, max_batch: int, max_queue_delay_us: int) -> str:
    """``config.pbtxt``: ONNX Runtime on the CPU with one thread, dynamic batching, the contract, and the digest."""
    (entry,) = artifact.entry_points

    def tensors(kind: str, specs: tuple[TensorSpec, ...]) -> str:
        # Triton's shapes leave out the batch dimension.
        lines = (
            f'  {{ name: "{x.name}" data_type: TYPE_{DATATYPES[x.dtype]} '
            f"dims: [ {', '.join(map(str, x.shape[1:]))} ] }}"
            for x in specs
        )
        return f"{kind} [\n" + ",\n".join(lines) + "\n]"

    parameters = {"intra_op_thread_count": "1", "model_sha256": artifact.manifest["model"]["sha256"]}
    return "\n".join(
        [
            f'name: "{MODEL}"',
            'backend: "onnxruntime"',
            f"max_batch_size: {max_batch}",
            tensors("input", entry.inputs),
            tensors("output", entry.outputs),
            f"dynamic_batching {{ max_queue_delay_microseconds: {max_queue_delay_us} }}",
            "instance_group [ { kind: KIND_CPU count: 1 } ]",
            *(
                f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
                for key, value in parameters.items()
            ),
            "",
        ]
    )


def kserve_manifest(artifact: Artifact, storage_uri: str) -> str:
    """An InferenceService that serves the repository with Triton, by the same protocol."""
    return f"""apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: cocorrrec-{MODEL}
  annotations:
    cocorrrec/model-version: {json.dumps(version_of(artifact))}
spec:
  predictor:
    minReplicas: 1
    maxReplicas: 8
    scaleMetric: concurrency
    scaleTarget: 64
    model:
      modelFormat:
        name: triton
      protocolVersion: v2
      storageUri: {json.dumps(storage_uri)}
      resources:
        requests: {{cpu: "1", memory: 512Mi}}
        limits: {{cpu: "1", memory: 1Gi}}
"""
