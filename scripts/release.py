"""Check that a version can be released: version, changelog, tag and wheels fit together. Uploads nothing.

python scripts/release.py 0.2.0
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent


def text_problems(root: Path, version: str) -> list[str]:
    """What in the files does not fit a version."""
    found = []
    stated = re.search(r'__version__ = "([^"]+)"', (root / "cocorrrec_export" / "__init__.py").read_text())
    if stated is None or stated[1] != version:
        found.append(f"cocorrrec_export/__init__.py says {stated[1] if stated else 'nothing'}, not {version}")
    changelog = (root / "CHANGELOG.md").read_text()
    blocks = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", changelog, re.M | re.S))
    if "Unreleased" not in blocks:
        found.append("CHANGELOG.md has no block '## Unreleased'")
    elif blocks["Unreleased"].strip():
        found.append(f"CHANGELOG.md: move the lines of Unreleased to '## {version} - YYYY-MM-DD'")
    if not any(re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", title) for title in blocks):
        found.append(f"CHANGELOG.md has no block '## {version} - YYYY-MM-DD'")
    citation = re.search(r"^version: (.+)$", (root / "CITATION.cff").read_text(), re.M)
    if citation is None or citation[1] != version:
        found.append(f"CITATION.cff is of {citation[1] if citation else 'no version'}, not {version}")
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    if not {"Homepage", "Issues"} <= project.get("urls", {}).keys():
        found.append("pyproject.toml: [project.urls] needs Homepage and Issues, the public addresses of the project")
    (models,) = map(Requirement, project["optional-dependencies"]["models"])
    own = tomllib.loads((root / "models" / "pyproject.toml").read_text())["project"]["version"]
    if not models.specifier.contains(Version(own)):
        found.append(f"the extra 'models' asks for {models}, and models/pyproject.toml is {own}")
    return found


def tag_problems(root: Path, version: str) -> list[str]:
    """What in the repository does not fit a version."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True).stdout.strip()

    found = []
    if git("status", "--porcelain"):
        found.append("there are changes that are not committed")
    tag = git("rev-parse", "--verify", "--quiet", f"v{version}^{{commit}}")
    if not tag:
        found.append(f"there is no tag: git tag --annotate v{version} --message v{version}")
    elif tag != git("rev-parse", "HEAD"):
        found.append(f"the tag v{version} is on another commit")
    return found


def wheel_problems(wheel: Path, version: str) -> list[str]:
    """What in the built wheel does not fit a version."""
    found = []
    if wheel.name.split("-")[1] != version:
        found.append(f"{wheel.name} is not of {version}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for needed in ("licenses/LICENSE", "licenses/NOTICE", "shipped/docs/manifest.schema.json"):
        if not any(name.endswith(needed) for name in names):
            found.append(f"{wheel.name} lacks {needed}")
    if any(name.endswith(".safetensors") for name in names):
        found.append(f"{wheel.name} holds weights: they belong into cocorrrec-models")
    return found


def build(root: Path, out: Path) -> Path:
    """The wheel of the code."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = out.glob("*.whl")
    return wheel


def main() -> None:
    """Print every problem; 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    version = parser.parse_args().version
    found = text_problems(ROOT, version) + tag_problems(ROOT, version)
    with tempfile.TemporaryDirectory() as folder:
        found += wheel_problems(build(ROOT, Path(folder)), version)
    for problem in found:
        print(problem, file=sys.stderr)
    print("not ready" if found else f"{version} is ready: python -m build, then upload dist/*")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
