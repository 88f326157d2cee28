"""Exceptions whose messages are written for the user."""

import difflib
from collections.abc import Iterable


class ArtuneError(Exception):
    """Bad input, or a state that the user must fix.

    The message is one line that names the file, key or argument and says what to do; the command line prints it
    without a traceback and exits with status 2. A line break or control character in a quoted key or name is shown as
    its escape sequence.
    """

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


class SharedError(ArtuneError):
    """An error that every process of a command raises at the same place; only rank 0 prints it."""


class StoppedError(SharedError):
    """A signal asked the command to stop and its state is saved; the exit status is not 0, so that it is run again."""


def near(name: object, known: Iterable[str]) -> str:
    """A hint such as ``did you mean llamagen_l-ours?``; an empty string if no known name is similar to ``name``."""
    found = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(found)}?" if found else ""


def unknown(name: object, known: Iterable[str], what: str = "", most: int = 20) -> str:
    """The text of an error, such as ``unknown run 'llamagen_l-our'; did you mean llamagen_l-ours?``.

    Args:
        name: the name that was asked for.
        known: all valid names; listed if none of them is similar.
        what: the kind of thing that is named, such as ``run``.
        most: largest number of names that are listed.
    """
    names = list(known)
    asked = f"unknown {what} {name!r}" if what else f"unknown {name!r}"
    if meant := near(name, names):
        return f"{asked}; {meant}"
    listed = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"{asked}; known are {listed}"
