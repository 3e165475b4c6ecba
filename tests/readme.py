"""The commands of a page, and the shape of what they print."""

import re
from dataclasses import dataclass

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
_BORDER = re.compile(r"^[\s┏┡└┃━─┳╇┴┓┩┘├┼┤]+$")
_NUMBER = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Shown:
    """One command of a page, and the lines below it."""

    command: str
    lines: tuple[str, ...]


def shown(page: str) -> list[Shown]:
    """Every command that a page shows with its output, in order: ``$ command``, then lines; ``...`` leaves some out."""
    found = []
    for block in BLOCK.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *lines = part.rstrip("\n").split("\n")
            found.append(Shown(command, tuple(lines)))
    return found


def shape(line: str) -> str | None:
    """What stays of a line from one run to the next: the first cell of a table's row, the words elsewhere.

    None for borders, and for further lines of a cell that was wrapped.
    """
    if not line.strip() or _BORDER.match(line):
        return None
    if line.lstrip()[0] in "│┃":
        cells = [cell.strip() for cell in re.split("[│┃]", line.strip())[1:-1]]
        header = line.lstrip()[0] == "┃"
        if not cells[0] and not header:
            return None
        return "|".join(_NUMBER.sub("N", cell) for cell in cells) if header else f"{cells[0]} of {len(cells)} cells"
    return " ".join(_NUMBER.sub("N", line).split())


def is_part(lines: tuple[str, ...], printed: str) -> str | None:
    """The first shown line whose shape is not printed, in order; None where all are."""
    remaining = iter([found for line in printed.splitlines() if (found := shape(line))])
    for line in lines:
        wanted = shape(line)
        if wanted is None or wanted == "...":
            continue
        if wanted not in remaining:
            return line
    return None
