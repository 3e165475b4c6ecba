"""The release script finds each thing that keeps a version from being released."""

import importlib.util
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

FILES = ("CHANGELOG.md", "CITATION.cff", "pyproject.toml", "models/pyproject.toml", "cocorrrec_export/__init__.py")


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files that the script reads, as they are when 3.4.5 is ready."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "cocorrrec_export" / "__init__.py").write_text('__version__ = "3.4.5"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 3.4.5 - 2031-02-03\n\n- A line.\n")
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 3.4.5\n")
    project = (tmp_path / "pyproject.toml").read_text()
    urls = '[project.urls]\nHomepage = "https://example.org"\nIssues = "https://example.org/i"\n\n'
    if "[project.urls]" not in project:
        project = project.replace("[project.optional-dependencies]", urls + "[project.optional-dependencies]")
    (tmp_path / "pyproject.toml").write_text(project)
    return tmp_path


def test_a_ready_version_has_no_problem(release: ModuleType, tree: Path) -> None:
    assert release.text_problems(tree, "3.4.5") == []


@pytest.mark.parametrize(
    ("file", "before", "after", "problem"),
    [
        ("cocorrrec_export/__init__.py", "3.4.5", "3.4.4", "says 3.4.4, not 3.4.5"),
        ("CHANGELOG.md", "## Unreleased\n", "## Unreleased\n\n- New.\n", "move the lines of Unreleased"),
        ("CHANGELOG.md", "2031-02-03", "soon", "has no block '## 3.4.5 - YYYY-MM-DD'"),
        ("CHANGELOG.md", "## Unreleased", "## Next", "has no block '## Unreleased'"),
        ("CITATION.cff", "version: 3.4.5", "version: 3.4.4", "is of 3.4.4"),
        ("pyproject.toml", "[project.urls]", "[tool.urls]", "needs Homepage and Issues"),
        ("models/pyproject.toml", 'version = "', 'version = "9', "asks for cocorrrec-models"),
    ],
)
def test_what_does_not_fit_is_named(
    release: ModuleType, tree: Path, file: str, before: str, after: str, problem: str
) -> None:
    path = tree / file
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    (found,) = release.text_problems(tree, "3.4.5")
    assert problem in found


def test_the_tag_is_on_this_commit_and_nothing_is_left_over(release: ModuleType, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "--message", "One")
    assert "there is no tag" in release.tag_problems(tmp_path, "3.4.5")[0]
    git("tag", "v3.4.5")
    assert release.tag_problems(tmp_path, "3.4.5") == []
    (tmp_path / "new").touch()
    assert release.tag_problems(tmp_path, "3.4.5") == ["there are changes that are not committed"]
    git("add", "new")
    git("commit", "--message", "Two")
    assert "on another commit" in release.tag_problems(tmp_path, "3.4.5")[0]


def test_what_is_in_the_wheel(release: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "cocorrrec_export-3.4.4-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("cocorrrec_export-3.4.4.dist-info/licenses/LICENSE", "")
        archive.writestr("cocorrrec_export/shipped/docs/manifest.schema.json", "")
        archive.writestr("cocorrrec_export/shipped/models/a/weights.safetensors", "")
    found = release.wheel_problems(wheel, "3.4.5")
    assert [
        any(word in problem for problem in found) for word in ("not of 3.4.5", "lacks licenses/NOTICE", "weights")
    ] == [
        True,
        True,
        True,
    ]
