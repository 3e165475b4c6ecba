"""Where models, recipes, schemas and sources for apps are: in the installed wheels, or at the root of a checkout.

The models are a distribution of their own, ``cocorrrec-models``: what they were trained on has terms of its own
(``docs/decisions/0002-licenses.md``).
"""

import importlib.util
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "shipped"
_ROOT = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent

MODELS_DISTRIBUTION = "cocorrrec-models"
NO_MODELS = f"no ready model is installed: pip install {MODELS_DISTRIBUTION}"


def _models_dir() -> Path:
    """In a checkout its own folder; else that of the installed distribution, which may be missing."""
    if _PACKAGE.parent == _ROOT:
        return _ROOT / "models"
    found = importlib.util.find_spec(MODELS_DISTRIBUTION.replace("-", "_"))
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0]) if places else _SHIPPED / "models"


MODELS_DIR = _models_dir()
"""One folder per model; without the distribution of the models it does not exist."""
RECIPES_DIR = _ROOT / "export_recipes"
MANIFEST_SCHEMA = _ROOT / "docs" / "manifest.schema.json"
PROFILE_SCHEMA = _ROOT / "docs" / "profile.schema.json"
ANDROID_DEMO = _ROOT / "android_demo"
"""The modules whose sources a bundle takes along; in a wheel only those."""
IOS_DEMO = _ROOT / "ios_demo"
DEFAULT_MODEL = "cocorrrec-movielens"
