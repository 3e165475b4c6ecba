"""Text that is not ours (paths, names in files, what devices and adb say), made safe to show.

Everything that reaches a terminal or a page passes here: markup is shown as it is, and what would move the cursor,
hide or reorder text is shown as an escape.
"""

import html
import unicodedata

_UNSHOWN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Controls, invisible formatting (with the marks that reorder text), halves of characters, and what has no form."""


def printable(text: str, *, keep: str = "\n\t") -> str:
    """``text`` with every character that a terminal would obey, or not show, written as an escape such as ``\\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _UNSHOWN else _escape(c) for c in text)


def shortened(text: str, length: int) -> str:
    """``text``, or its beginning and how much more there is."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text) - length:,} characters more)"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def html_text(text: str) -> str:
    """``text`` as it may stand in a page, in content and in a quoted attribute."""
    return html.escape(printable(text))
