"""From an exported GCN to what a server serves."""

from pathlib import Path

from cocorrrec_export.artifact.copies import checked_copy
from cocorrrec_export.artifact.manifest import Artifact, open_artifact
from cocorrrec_export.errors import UsageError
from cocorrrec_export.isolation import in_child
from cocorrrec_export.runtime.onnx import OnnxRuntime, describe
from cocorrrec_export.runtime.open import rehearse
from cocorrrec_export.serving.app import Served
from cocorrrec_export.serving.protocol import Array
from cocorrrec_export.serving.versions import version_of


def open_served(path: Path, *, threads: int = 1) -> tuple[Artifact, Served]:
    """Check an exported GCN by its hashes, load it, and run it once.

    Once loaded, the file is not read again: it may be replaced or removed while the server runs.

    Args:
        path: folder of the artifact.
        threads: of one batch's compute.

    Raises:
        UsageError: no such folder, or no GCN for ONNX Runtime.
        CocorrrecError: a file is missing or changed.
    """
    artifact = open_artifact(path)
    if artifact.kind != "gcn":
        raise UsageError(
            f"{path} holds a {artifact.kind} for {artifact.target}; the server takes what 'cocorr-export gcn' wrote"
        )
    (contract,) = artifact.entry_points
    with checked_copy(artifact) as program:
        in_child(f"running {artifact.program}", rehearse, artifact.target, program, artifact.entry_points)
        runtime = OnnxRuntime(program, artifact.entry_points, threads=threads)
        (spec,) = contract.inputs
        vocab_size = int(describe(program).metadata["vocab_size"]) if spec.dtype == "int32" else None

    def compute(upload: Array) -> dict[str, Array]:
        return runtime.run(contract.name, {spec.name: upload})

    served = Served(compute=compute, contract=contract, version=version_of(artifact), vocab_size=vocab_size)
    return artifact, served
