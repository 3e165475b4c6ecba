"""Take the CoCorrRec recommender from training to phones and cloud, and prove that it still ranks the same.

    import cocorrrec_export as cocorr

    folder = cocorr.train("clicks.csv", "models/mine")
    artifact = cocorr.export("scn", "executorch", precision="int8", model=folder)
    runtime = cocorr.open_runtime(artifact)

The functions are those that the commands call. Nothing heavy is imported before one of them needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocorrrec_export.api.artifacts import check_parity, export, open_artifact, open_runtime, profile
    from cocorrrec_export.api.models import evaluate, load_model, train

__version__ = "0.1.0"
__all__ = ["check_parity", "evaluate", "export", "load_model", "open_artifact", "open_runtime", "profile", "train"]

_ARTIFACTS = ("check_parity", "export", "open_artifact", "open_runtime", "profile")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    if name == "export":  # the package of that name, which can be called: importing it would replace a function
        return importlib.import_module(f"{__name__}.export")
    return getattr(importlib.import_module(f"{__name__}.api.{'artifacts' if name in _ARTIFACTS else 'models'}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
