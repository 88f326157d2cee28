"""Where an output may be written, and what a file system may refuse without harm to it."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from artune.errors import ArtuneError
from artune.runtime.outside.regular import KINDS

# Answers of a file system that does not know a call. What the call would have added is lost there for every program.
UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
REFUSED = (*UNKNOWN, errno.EPERM, errno.EACCES)  # vfat and CIFS refuse permissions, links and times so


@contextlib.contextmanager
def passing_over(codes: tuple[int, ...]) -> Iterator[None]:
    """Leave the block without an exception at an OSError with one of ``codes``."""
    try:
        yield
    except OSError as error:
        if error.errno not in codes:
            raise


def sync(handle: int) -> None:
    """Write a file through to the disk, if its file system can. Raises OSError: the disk is full or failing."""
    with passing_over(UNKNOWN):
        os.fsync(handle)


def sync_folder(folder: Path) -> None:
    """Write a folder's names through to the disk, where the file system can and the folder may be read."""
    with passing_over(REFUSED):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def destination(path: Path | str) -> Path:
    """The file that an output called ``path`` is written to: ``path`` itself or, through a link, where it leads.

    Raises:
        ArtuneError: there is something else than a regular file (a folder, device, named pipe or socket), the links
            lead in a circle, or they lead into a folder that does not exist.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = "its links lead in a circle" if getattr(error, "errno", 0) == errno.ELOOP else error
        raise ArtuneError(f"{path}: cannot be written ({getattr(reason, 'strerror', reason)})") from error
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "of another kind")
        raise ArtuneError(f"{path}: is {kind}, and an output is a regular file; name another file")
    if not path.is_symlink():
        return path
    target = path.resolve()
    if not target.parent.is_dir():
        raise ArtuneError(f"{path}: is a link to {target}, whose folder does not exist; make it, or remove the link")
    return target
