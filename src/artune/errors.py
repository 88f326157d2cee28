"""The exceptions that a user is meant to read."""

import difflib
from collections.abc import Iterable


class ArtuneError(Exception):
    """Bad input or a state the user must mend.

    The message is one line that names the file, key or argument and says what to do; the command line prints it
    without a traceback and exits with status 2. A line break or control character in it, of a key or name that it
    quotes, is shown as its escape.
    """

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


class SharedError(ArtuneError):
    """An error that every process of a command raises at the same place; the first one alone prints it."""


class StoppedError(SharedError):
    """A signal asked to stop and the state is saved; the exit status is not 0, so that the command is run again."""


def near(name: object, known: Iterable[str]) -> str:
    """``did you mean llamagen_l-ours?``, or nothing where no known name is like ``name``."""
    found = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(found)}?" if found else ""


def unknown(name: object, known: Iterable[str], what: str = "", most: int = 20) -> str:
    """``unknown run 'llamagen_l-our'; did you mean llamagen_l-ours?``, for a message.

    Args:
        name: what was asked for.
        known: the names that there are; listed where none is near.
        what: the kind of thing, such as ``run``.
        most: names that are listed.
    """
    names = list(known)
    asked = f"unknown {what} {name!r}" if what else f"unknown {name!r}"
    if meant := near(name, names):
        return f"{asked}; {meant}"
    listed = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"{asked}; known are {listed}"
