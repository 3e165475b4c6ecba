"""From a trained model to files that phones and the cloud run.

Called, it is :func:`cocorrrec_export.api.artifacts.export`: as an attribute of the package, this package and that
function have one name, and importing anything from here sets the attribute to the package.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """The one place where a room knows of the Python face above it, and only when it is called."""

    @property
    def __wrapped__(self) -> Any:
        return importlib.import_module("cocorrrec_export.api.artifacts").export

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
