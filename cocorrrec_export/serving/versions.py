"""How a model is named between phone and server."""

from cocorrrec_export.artifact.manifest import Artifact


def version_of(artifact: Artifact) -> str:
    """Which model an artifact was made from: the on-device model of the same model has the same."""
    return str(artifact.manifest["model"]["sha256"])[:16]
