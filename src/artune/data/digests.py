"""Measures files and folders from outside, and tells whether one was altered since it was measured.

A file has the SHA-256 of its bytes. A folder has a digest of the names and sizes of its files, which is the same on
every machine, and, unless it is too large to be read at every use, one of their contents. Links are followed.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from artune.errors import ArtuneError
from artune.runtime.files import sha256

# Bytes up to which all contents are read at every use: 1.2 s per GB on one core, and the use reads them anyway. What is
# larger (the training images) is read again only if sizes, times or inodes have changed.
READ = 20 * 10**9
DEPTH = 16  # folders inside folders; deeper ones are no set of images or weights


def files_in(folder: Path, name: str = "", above: tuple[tuple[int, int], ...] = ()) -> Iterator[tuple[str, Path]]:
    """Name and path of every regular file under a folder, in no particular order; links are followed.

    Raises:
        ArtuneError: a link that leads nowhere or into its own folder, folders nested too deeply, or one that cannot
            be read.
    """
    try:
        here = folder.stat()
        if (here.st_dev, here.st_ino) in above or len(above) > DEPTH:
            raise ArtuneError(f"{folder}: a link to a folder above it, or more than {DEPTH} folders deep; remove it")
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            inside = f"{name}{entry.name}"
            kind = os.stat(entry.path).st_mode
            if stat.S_ISDIR(kind):
                yield from files_in(Path(entry.path), f"{inside}/", (*above, (here.st_dev, here.st_ino)))
            elif stat.S_ISREG(kind):
                yield inside, Path(entry.path)
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
    found = path.stat()
    times = {"mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
    return {"bytes": found.st_size, **times, "inode": found.st_ino}


def _listing(folder: Path) -> dict[str, Any]:
    names, seconds, state = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    total = 0
    for name, file in sorted(files_in(folder)):
        own = _evidence_of_file(file)
        line = f"{name}\t{own['bytes']}"
        names.update(f"{line}\n".encode(errors="surrogateescape"))
        seconds.update(f"{line}\t{own['mtime_ns'] // 10**9}\n".encode(errors="surrogateescape"))
        state.update(f"{line}\t{sorted(own.items())}\n".encode(errors="surrogateescape"))
        total += own["bytes"]
    digests = {"sha256": names.hexdigest(), "seconds": seconds.hexdigest(), "state": state.hexdigest()}
    return {"bytes": total, "mtime_ns": 0, **digests}


def _contents(folder: Path) -> str:
    digest = hashlib.sha256()
    for name, file in sorted(files_in(folder)):
        digest.update(f"{name}\t{sha256(file)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
