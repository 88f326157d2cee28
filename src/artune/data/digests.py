"""Measures files and folders from outside, and tells whether one was altered since it was measured.

A file has the SHA-256 of its bytes. A folder has a digest of the names and sizes of its files, which is the same on
every machine, and, unless it is too large to be read at every use, one of their contents. Links are followed.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from artune.errors import ArtuneError
from artune.runtime.files import sha256

# Bytes up to which all contents are read at every use: 1.2 s per GB on one core, and the use reads them anyway. What is
# larger (the training images) is read again only if sizes, times or inodes have changed.
READ = 20 * 10**9
LISTING = 16  # threads that list a folder's folders
DEPTH = 16  # folders inside folders; deeper ones are no set of images or weights


def files_in(folder: Path, name: str = "", above: tuple[tuple[int, int], ...] = ()) -> Iterator[tuple[str, Path]]:
    """Name and path of every regular file under a folder, in no particular order; links are followed.

    Raises:
        ArtuneError: a link that leads nowhere or into its own folder, folders nested too deeply, or one that cannot
            be read.
    """
    with _told(folder):
        here, found = _entries(folder, above)
        for entry in found:
            inside = f"{name}{entry.name}"
            kind = os.stat(entry.path).st_mode
            if stat.S_ISDIR(kind):
                yield from files_in(Path(entry.path), f"{inside}/", (*above, here))
            elif stat.S_ISREG(kind):
                yield inside, Path(entry.path)


def _entries(folder: Path, above: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], list[os.DirEntry[str]]]:
    """What identifies a folder below the folders ``above``, and its entries, sorted. Raises as :func:`files_in`."""
    here = folder.stat()
    if (here.st_dev, here.st_ino) in above or len(above) > DEPTH:
        raise ArtuneError(f"{folder}: a link to a folder above it, or more than {DEPTH} folders deep; remove it")
    with os.scandir(folder) as entries:
        return (here.st_dev, here.st_ino), sorted(entries, key=lambda entry: entry.name)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn the error of a folder that cannot be listed into one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArtuneError(f"{error.filename}: a link that leads nowhere; put the file there or remove it") from error
    except OSError as error:
        raise ArtuneError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from error


def holds_bytes(path: Path) -> bool:
    """Whether a path is a regular file that is not empty, or a folder with such a file somewhere inside.

    What cannot be read counts as well: its use then says why.
    """
    try:
        if path.is_file():
            return path.stat().st_size > 0
        return path.is_dir() and any(file.stat().st_size for _, file in files_in(path))
    except (OSError, ArtuneError):
        return True


def evidence(path: Path) -> dict[str, Any]:
    """Bytes, times and inode of a file; for a folder, its bytes and a digest of those of its files. Reads no contents.

    Equal evidence means that no program has written to the files since, even if one has set their times back.
    """
    if not path.is_dir():
        return _evidence_of_file(path)
    return {key: value for key, value in _listing(path).items() if key in ("bytes", "mtime_ns", "state")}


def measure(path: Path) -> dict[str, Any]:
    """:func:`evidence` of a file or folder, and its digests.

    Returns:
        ``bytes``, ``mtime_ns`` and ``sha256``; of a file also ``ctime_ns`` and ``inode``; of a folder also ``state``,
        ``seconds`` (digests of the listing with all times, and with modification times in whole seconds) and, up to
        :data:`READ` bytes, ``contents``.

    Raises:
        ArtuneError: something cannot be read.
    """
    try:
        if not path.is_dir():
            return {**_evidence_of_file(path), "sha256": sha256(path)}
        found = _listing(path)
        return found if found["bytes"] > READ else {**found, "contents": _contents(path)}
    except OSError as error:
        raise ArtuneError(f"{path}: cannot be read ({error.strerror or error})") from error


def alteration(path: Path, record: Mapping[str, Any]) -> str | None:
    """How a file or folder differs from its record by :func:`measure`; None if it does not.

    Up to :data:`READ` bytes the contents are read, so that not even a byte whose change left size and time as they
    were goes unnoticed; beyond, they are read where the :func:`evidence` differs from the record.

    Raises:
        ArtuneError: something cannot be read.
    """
    try:
        if not path.is_dir():
            return _alteration_of_file(path, record)
        found = _listing(path)
        if found["sha256"] != record["sha256"]:
            return f"holds files of other names or sizes ({found['bytes']:,} bytes in all, not {record['bytes']:,})"
        if found["bytes"] <= READ and "contents" in record:
            return None if _contents(path) == record["contents"] else "holds a file of another content"
        same = found["state"] == record.get("state", found["state"]) or found["seconds"] == record.get("seconds")
        return None if same else "holds files that were written to"
    except OSError as error:
        raise ArtuneError(f"{path}: cannot be read ({error.strerror or error})") from error


def _alteration_of_file(path: Path, record: Mapping[str, Any]) -> str | None:
    found = _evidence_of_file(path)
    if found["bytes"] != record["bytes"]:
        return f"has {found['bytes']:,} bytes, not {record['bytes']:,}"
    if found["bytes"] > READ and found.items() <= record.items():
        return None
    digest = sha256(path)
    return None if digest == record["sha256"] else f"has sha256 {digest[:16]}..., not {record['sha256'][:16]}..."


def _evidence_of_file(path: Path) -> dict[str, int]:
    return _evidence_of(path.stat())


def _evidence_of(found: os.stat_result) -> dict[str, int]:
    times = {"mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
    return {"bytes": found.st_size, **times, "inode": found.st_ino}


def _listing(folder: Path) -> dict[str, Any]:
    names, seconds, state = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    total = 0
    for name, own in sorted(_evidence_in(folder)):
        line = f"{name}\t{own['bytes']}"
        names.update(f"{line}\n".encode(errors="surrogateescape"))
        seconds.update(f"{line}\t{own['mtime_ns'] // 10**9}\n".encode(errors="surrogateescape"))
        state.update(f"{line}\t{sorted(own.items())}\n".encode(errors="surrogateescape"))
        total += own["bytes"]
    digests = {"sha256": names.hexdigest(), "seconds": seconds.hexdigest(), "state": state.hexdigest()}
    return {"bytes": total, "mtime_ns": 0, **digests}


def _evidence_in(folder: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Name and evidence of every regular file under a folder, which is asked for once per file. Raises as files_in.

    Threads list the folders of a level: on a network disk the 1.28 million answers of the training images add up.
    """
    waiting: list[tuple[Path, str, tuple[tuple[int, int], ...]]] = [(folder, "", ())]
    with ThreadPoolExecutor(LISTING) as pool:
        while waiting:
            level = pool.map(lambda place: _folder(*place), waiting)
            waiting = []
            for files, below in level:
                yield from files
                waiting += below


def _folder(
    folder: Path, name: str, above: tuple[tuple[int, int], ...]
) -> tuple[list[tuple[str, dict[str, int]]], list[tuple[Path, str, tuple[tuple[int, int], ...]]]]:
    """Names and evidence of the files directly in a folder, and what :func:`_evidence_in` has to list next."""
    files, below = [], []
    with _told(folder):
        here, found = _entries(folder, above)
        for entry in found:
            own = os.stat(entry.path)
            if stat.S_ISDIR(own.st_mode):
                below.append((Path(entry.path), f"{name}{entry.name}/", (*above, here)))
            elif stat.S_ISREG(own.st_mode):
                files.append((f"{name}{entry.name}", _evidence_of(own)))
    return files, below


def _contents(folder: Path) -> str:
    digest = hashlib.sha256()
    for name, file in sorted(files_in(folder)):
        digest.update(f"{name}\t{sha256(file)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
