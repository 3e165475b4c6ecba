"""How a file of interactions is read: the ``[data.reading]`` table, one option for each part of what is sniffed."""

import codecs
from dataclasses import dataclass
from typing import Literal

from cocorrrec_export.errors import UsageError
from cocorrrec_export.toml import check_types

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "space": " ", "colons": "::"}
"""What separates fields, by the name that an option takes; the character itself is taken too."""


@dataclass(frozen=True)
class Reading:
    """What the user says about a file; an empty value is sniffed."""

    separator: str = ""
    """One of :data:`SEPARATORS`, or the character."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether line 1 names the columns."""
    encoding: str = ""
    """Empty: by the byte order mark, else UTF-8."""
    time_format: str = ""
    """A unit since 1970 (``seconds`` to ``nanoseconds``), ``number`` for numbers that are not dates, or a strptime
    pattern. Empty: found by the values."""
    order: Literal["time", "file"] = "time"
    """``file``: rows count in the order of the file, whatever columns there are."""
    ties: Literal["shuffle", "file"] = "shuffle"
    """Clicks of one user at one time: shuffled by a seed, or in the order of the file, which may carry the answer."""
    unknown_times: Literal["refuse", "drop", "first"] = "refuse"
    """Rows whose time is empty, 0 or -1 among dates."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.separator and self.separator not in SEPARATORS and self.separator not in SEPARATORS.values():
            raise UsageError(f"separator must be one of {', '.join(SEPARATORS)}, got {self.separator!r}")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError:
            raise UsageError(
                f"encoding {self.encoding!r} is not known; such as utf-8, utf-16, latin-1, cp1252"
            ) from None

    @property
    def separator_text(self) -> str:
        """The separator itself; empty: to be sniffed."""
        return SEPARATORS.get(self.separator, self.separator)
