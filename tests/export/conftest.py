"""One export of each kind, shared by the tests that look at exported files."""

import pytest

from cocorrrec_export.export.artifact import Artifact
from cocorrrec_export.modeling.store import ModelFolder
from tests.models import export_model


@pytest.fixture(scope="session")
def scn_int8(tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The phone's half in int8."""
    return export_model(tiny, tmp_path_factory.mktemp("dist"), "scn", "executorch", "int8")
