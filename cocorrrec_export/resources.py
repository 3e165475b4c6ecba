"""Where the shipped models, recipes, schemas and sources for apps are: inside the installed wheel, or at the root of a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "shipped"
_ROOT = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent

MODELS_DIR = _ROOT / "models"
RECIPES_DIR = _ROOT / "export_recipes"
MANIFEST_SCHEMA = _ROOT / "docs" / "manifest.schema.json"
PROFILE_SCHEMA = _ROOT / "docs" / "profile.schema.json"
ANDROID_DEMO = _ROOT / "android_demo"
"""The modules whose sources a bundle takes along; in a wheel only those."""
IOS_DEMO = _ROOT / "ios_demo"
DEFAULT_MODEL = "cocorrrec-movielens"
