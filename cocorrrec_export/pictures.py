"""Pictures in matplotlib's own style, and PNG files that say who drew them: a command replaces its own alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOFTWARE = "cocorrrec-export"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAID = b"tEXtSoftware\0" + _SOFTWARE.encode()
_HEAD_BYTES = 1024
"""What is said of a picture is in front of it."""


@contextmanager
def plain_style() -> Iterator[None]:
    """Draw as matplotlib does without settings, whatever file of settings is in the current folder.

    That folder may have come from a stranger, and settings can have TeX run, with commands of theirs.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def write_png(figure: "Figure", path: Path) -> None:
    """Write a figure at its own resolution; the same figure gives the same file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path, metadata={"Software": _SOFTWARE})


def is_own_png(path: Path) -> bool:
    """Whether a file is a picture that :func:`write_png` drew.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return head.startswith(_SIGNATURE) and _SAID in head
