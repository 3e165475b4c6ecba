"""The one family of errors that the command line turns into a message and an exit code."""

import difflib
from collections.abc import Iterable


class CocorrrecError(Exception):
    """Something went wrong that the user can act on. The message says what, where, and what to do.

    ``exit_code`` is what the command line ends with: 1, the work failed.
    """

    exit_code = 1


class UsageError(CocorrrecError):
    """The command, a recipe or a configuration asks for something that does not exist. Exit code 2."""

    exit_code = 2


class ParityError(CocorrrecError):
    """An exported file does not compute, or does not rank, what the float32 model does."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: the closest known one, then all of them."""
    known = sorted(known)
    begun = [name for name in known if word and name.startswith(word)]
    close = begun or difflib.get_close_matches(word, known, n=1)
    did_you_mean = f"did you mean '{close[0]}'? " if close else ""
    return f"{did_you_mean}known: {', '.join(known)}"


def listed(words: Iterable[str], *, count: int = 20) -> str:
    """Words from a stranger's file, for a message: a few of them, short, on one line."""
    shown = ["".join(c if c.isprintable() else "?" for c in word[:40]) for word in words]
    return ", ".join(shown[:count]) + (", ..." if len(shown) > count else "") if shown else "none"
