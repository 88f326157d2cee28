"""What a process may still write: nothing more once another process has taken over its lease.

See :mod:`artune.runtime.lease`.

A process can be suspended between any two instructions, so a look at the lease before a rename is not enough. A file
that is written under a lease also bears the holder's id until it is renamed, and who takes the lease over removes
what bears another's before it begins: a rename that comes too late finds nothing to put in place.
"""

import os
import re
from pathlib import Path
from typing import Protocol

from artune.errors import ArtuneError

TEMPORARY = re.compile(r"\..+\.([0-9a-f]{32})\.tmp")


class Holder(Protocol):
    """A lease that this process holds."""

    id: str  # 32 hexadecimal digits
    path: Path

    def check(self) -> None:
        """End the process at once if another one has the lease. Raises OSError: it cannot be read."""


_held: list[Holder] = []


def hold(holder: Holder) -> None:
    """From now on this process writes as ``holder``."""
    _held.append(holder)


def let_go(holder: Holder) -> None:
    """The end of it."""
    _held.remove(holder)


def check() -> None:
    """Return only if this process still has every lease that it took; to be called just before something is replaced.

    Raises:
        ArtuneError: that cannot be known.
    """
    for holder in _held:
        try:
            holder.check()
        except OSError as error:
            raise ArtuneError(f"{holder.path}: cannot be read ({error.strerror or error})") from error


def temporary(path: Path) -> Path:
    """The name beside ``path`` under which this process writes it."""
    return path.with_name(f".{path.name}.{_held[-1].id if _held else os.getpid()}.tmp{path.suffix}")


def sweep(folder: Path, holder: str) -> None:
    """Remove what other holders than ``holder`` were writing in ``folder``, which is now its."""
    for path in folder.rglob(".*.tmp*"):
        match = TEMPORARY.match(path.name)
        if match and match[1] != holder:
            path.unlink(missing_ok=True)
