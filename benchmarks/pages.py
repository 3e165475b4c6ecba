"""Figures on a page: a page's words are in docs/, a benchmark fills in what is between its marks.

A block starts with ``<!-- name -->`` and ends with ``<!-- /name -->``, each on a line of its own.
"""

import re
from pathlib import Path

from cocorrrec_export.files import publish_file

BLOCK = re.compile(r"^<!-- (?P<name>[a-z0-9-]+) -->\n(?P<text>.*?)^<!-- /(?P=name) -->$", re.M | re.S)


def filled(page: str, blocks: dict[str, list[str]]) -> str:
    """A page with the lines of each block between its marks.

    Raises:
        ValueError: the page lacks the marks of a block, or has a block that is not given.
    """
    on_page = [match["name"] for match in BLOCK.finditer(page)]
    if sorted(on_page) != sorted(blocks):
        raise ValueError(f"the page has the blocks {', '.join(on_page) or 'none'}; to fill in: {', '.join(blocks)}")

    def fill(match: re.Match[str]) -> str:
        lines = "\n".join(blocks[match["name"]]).strip("\n")
        text = f"\n{lines}\n\n" if lines else ""  # a block that was never filled in is empty
        return f"<!-- {match['name']} -->\n{text}<!-- /{match['name']} -->"

    return BLOCK.sub(fill, page)


def fill(path: Path, blocks: dict[str, list[str]]) -> None:
    """The same with a file."""
    page = filled(path.read_text(encoding="utf-8"), blocks)
    with publish_file(path) as staging:
        staging.write_text(page, encoding="utf-8")


def kept(path: Path, name: str) -> list[str]:
    """The lines that a page has in a block, for a run that does not measure them again."""
    found = (match for match in BLOCK.finditer(path.read_text(encoding="utf-8")) if match["name"] == name)
    return next(found)["text"].strip("\n").splitlines()
