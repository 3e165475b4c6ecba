"""The docs site: nothing is left undocumented, no link leads nowhere, and every question is two clicks away."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import cocorrrec_export
from cocorrrec_export.artifact import recipe
from tests.conftest import ROOT, script


@pytest.fixture(scope="module")
def site() -> ModuleType:
    return script("docs_site", "scripts")


@pytest.fixture(scope="module")
def made(site: ModuleType) -> dict[str, str]:
    return site.pages()  # type: ignore[no-any-return]


def test_every_command_and_option_is_in_the_reference(site: ModuleType, made: dict[str, str]) -> None:
    count = 0
    for program in site.PROGRAMS:
        page = made[f"reference/cocorr-{program}.md"]
        for name, command in site.commands(program):
            own = [each for each in site.own_parameters(command) if each.param_type_name == "option"]
            assert f"`{name}`" in page or " " not in name, name
            section = re.split(rf"^#+ `{re.escape(name)}`$", page, flags=re.M)[-1].split("\n## ")[0]
            assert all(f"`{option}`" in section for each in own for option in each.opts), name
            count += len(own)
    assert count > 100
    assert "| `--data` | Interactions: CSV" in made["reference/cocorr-export.md"]


def test_every_public_name_is_in_the_reference(made: dict[str, str]) -> None:
    page = made["reference/python.md"]
    assert all(re.search(rf"^::: cocorrrec_export\.api\.\w+\.{name}$", page, re.M) for name in cocorrrec_export.__all__)


def test_what_is_not_documented_is_found(site: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.undocumented() == []
    app = typer.Typer()

    @app.command()
    def bare(option: int = 1) -> None: ...

    app.command("other")(bare)
    real = site.get_command
    monkeypatch.setattr(site, "PROGRAMS", ("profile",))
    monkeypatch.setattr(site, "get_command", lambda _: real(app))
    problems = site.undocumented()
    assert "cocorr-profile bare: the command has no help" in problems
    assert "cocorr-profile bare: option has no help" in problems
    one = recipe.shipped_recipes()[0]
    table = recipe.Recipe.as_table(one) | {"new_key": 1}
    monkeypatch.setattr(recipe.Recipe, "as_table", lambda _: table)
    assert "docs/recipe.md: the key new_key is not explained" in site.undocumented()


def test_links_fit_the_site(site: ModuleType) -> None:
    places: dict[Path, str] = site.sources()
    page = ROOT / "docs" / "guide.md"

    def fit(text: str) -> Any:
        return site.with_links_of_the_site(text, page, places)

    assert fit("[a](data.md#ties) [b](https://x.y/z) [c](#d)") == "[a](data.md#ties) [b](https://x.y/z) [c](#d)"
    assert fit("[card](../models/sasrec-movielens/README.md)") == "[card](models/sasrec-movielens.md)"
    assert fit("[code](../examples/rank.py)") == "code (`examples/rank.py`)"
    assert fit("[examples/rank.py](../examples/rank.py)") == "examples/rank.py"
    assert fit("```\n[a](nowhere.md)\n```") == "```\n[a](nowhere.md)\n```"
    with pytest.raises(site.Undocumented, match=r"docs/guide\.md: nowhere\.md leads nowhere"):
        fit("[a](nowhere.md)")
    light, dark = "pictures/sizes-light.svg", "pictures/sizes-dark.svg"
    themed = f'<picture><source media="m" srcset="{dark}"><img alt="t" src="{light}"></picture>'
    assert fit(themed) == f"![t]({light}#only-light) ![t]({dark}#only-dark)"


def test_a_page_that_the_navigation_does_not_name_is_still_in_it(site: ModuleType) -> None:
    nav = [{"Start": "index.md"}, {"Guide": ["guide.md", {"Data": "data.md"}]}]
    places = {"index.md", "guide.md", "data.md", "new.md"}
    assert site.nav_with_all(nav, places) == [*nav, {"More": ["new.md"]}]
    assert site.nav_with_all(nav, places - {"new.md"}) == nav


def test_the_questions_have_answers_within_two_clicks(made: dict[str, str]) -> None:
    page = made["faq.md"]
    questions = re.split(r"^### ", page.split("## Where the questions are from")[0], flags=re.M)[1:]
    assert len(questions) >= 15
    for question in questions:
        title = question.splitlines()[0]
        assert title.endswith("?"), title
        assert re.search(r"\]\([^)]+\)", question), f"{title} leads to no page"
    asked = re.findall(r"https://github\.com/[\w.-]+/[\w.-]+/issues/\d+", page)
    assert len(set(asked)) >= 10


@pytest.mark.slow
def test_the_site_builds_and_a_link_that_leads_nowhere_ends_it(tmp_path: Path) -> None:
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("docs", "scripts", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name != "build" and not (tmp_path / path.name).exists():
            (tmp_path / path.name).symlink_to(path)

    def build() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, tmp_path / "scripts" / "docs_site.py"]
        return subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=600)

    ended = build()
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "build" / "site" / "reference" / "python" / "index.html").is_file()
    page = tmp_path / "docs" / "faq.md"
    page.write_text(page.read_text() + "\n[a](guide.md#no-such-place)\n")
    ended = build()
    assert ended.returncode != 0 and "no-such-place" in ended.stderr + ended.stdout
