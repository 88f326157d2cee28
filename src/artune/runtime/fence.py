"""Keep a process from writing anything once another process has taken over its lease.

See :mod:`artune.runtime.lease`.

A process can be suspended between any two instructions, so checking the lease before a rename is not enough. A file
that is written under a lease has the holder's id in its name until it is renamed, and a process that takes the lease
over first removes the files with another id: a rename that comes too late finds no file.
"""

import glob
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
        """End the process at once if another one has the lease. Raises OSError: the lease cannot be read."""


_held: list[Holder] = []


def hold(holder: Holder) -> None:
    """From now on this process writes as ``holder``."""
    _held.append(holder)


def let_go(holder: Holder) -> None:
    """From now on this process no longer writes as ``holder``."""
    _held.remove(holder)


def check() -> None:
    """Return only if this process still has every lease that it took; call it just before a file is replaced.

    Raises:
        ArtuneError: a lease cannot be read.
    """
    for holder in _held:
        try:
            holder.check()
        except OSError as error:
            raise ArtuneError(f"{holder.path}: cannot be read ({error.strerror or error})") from error


def temporary(path: Path) -> Path:
    """The temporary name beside ``path`` under which this process writes the file."""
    return path.with_name(f".{path.name}.{_held[-1].id if _held else os.getpid()}.tmp{path.suffix}")


def sweep(folder: Path, holder: str) -> None:
    """Remove the unfinished files that other holders than ``holder`` left in ``folder``, and of its links' targets."""
    paths = [*folder.rglob(".*.tmp*")]
    for link in (path for path in folder.rglob("*") if path.is_symlink()):
        target = link.resolve()
        paths += target.parent.glob(f".{glob.escape(target.name)}.*.tmp*")  # others may write beside it
    for path in paths:
        match = TEMPORARY.match(path.name)
        if match and match[1] != holder:
            path.unlink(missing_ok=True)
