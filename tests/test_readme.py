"""What the README says is what is there."""

import re

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_example_is_the_file_that_the_demo_runs() -> None:
    (shown,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", README, re.S)
    assert shown == (ROOT / "examples" / "rank.py").read_text()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_every_command_is_mentioned() -> None:
    for command in ("train", "evaluate", "scn", "gcn", "parity", "inspect", "doctor", "models", "recipes", "bundle"):
        assert f"cocorr-export {command}" in README
    for command in ("cocorr-serve gcn", "cocorr-profile link"):
        assert command in README


def test_the_page_on_serving_names_every_option_and_metric() -> None:
    from typer.main import get_command

    from cocorrrec_export.cli.serve.app import app as serve
    from cocorrrec_export.serving.metrics import Metrics

    page = (ROOT / "docs" / "serving.md").read_text()
    explained = set(re.findall(r"`(--[a-z-]+)", page))
    for parameter in get_command(serve).commands["gcn"].params:  # type: ignore[attr-defined]
        option = parameter.opts[0]
        if option.startswith("--max") or option in ("--timeout", "--threads", "--drain-seconds", "--token-file"):
            assert option in explained, option
    for family in Metrics().registry.collect():
        assert f"`{family.name}" in page, family.name


@pytest.mark.parametrize("page", ["docs/serving.md", "docs/decisions/0001-serving-stack.md"])
def test_links_of_the_pages_on_serving(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link
