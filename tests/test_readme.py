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
    for command in ("train", "evaluate", "scn", "gcn", "parity", "inspect", "doctor", "models", "recipes"):
        assert f"cocorr-export {command}" in README
