"""Reading and writing that never leaves half a file behind."""

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from artune.errors import ArtuneError, no_such_file
from artune.runtime import fence
from artune.runtime.outside.arrays import BAD_NPZ, Header, names_of, read_array, read_header, rows_of
from artune.runtime.outside.regular import open_regular
from artune.runtime.outside.zips import open_zip
from artune.runtime.places import REFUSED, destination, passing_over, sync, sync_folder


@contextlib.contextmanager
def replacing(path: Path | str, named: Callable[[], Path] | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is fsynced and renamed over ``path``, otherwise removed.

    A symbolic link stays, and the file that it leads to is replaced. The folder is fsynced as well, so the caller may
    then remove older files; a file system that cannot do this has written the file all the same. The file gets the
    permissions that the umask gives to every new file, because safetensors makes its files readable by the owner alone.
    A process that has lost its lease (:mod:`artune.runtime.fence`) replaces nothing. A file whose name depends on its
    bytes gets it from ``named`` at the end.

    Raises:
        ArtuneError: the file cannot be written, or ``path`` is no place for an output
            (:func:`artune.runtime.places.destination`).
    """
    target = destination(path)
    temporary = fence.temporary(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777
        yield temporary
        with passing_over(REFUSED):
            temporary.chmod(mode)
        with open(temporary, "rb") as handle:
            sync(handle.fileno())
        fence.check()
        os.replace(temporary, target if named is None else destination(named()))
        sync_folder(target.parent)
    except OSError as error:
        with contextlib.suppress(ArtuneError):
            fence.check()  # a successor may have removed the temporary file
        raise ArtuneError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def move(source: Path, path: Path) -> None:
    """Give the file ``source`` the name ``path`` and the present time; a copy does where renaming is not possible.

    Raises:
        ArtuneError: ``path`` cannot be written.
    """
    target = destination(path)
    fence.check()
    try:
        source.touch()
        os.replace(source, target)
    except OSError:  # another file system behind a link, or one that refuses new times
        with replacing(path) as temporary:
            shutil.copyfile(source, temporary)
        source.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that it holds; of a link to one, only the contents. Raises OSError: it cannot."""
    if not folder.is_symlink():
        shutil.rmtree(folder)
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` in one step, as UTF-8; a byte of a file's name that is no letter is escaped."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN and infinity are refused with a ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON.

    Raises:
        ArtuneError: the file is missing, not a regular file, or not JSON.
    """
    try:
        return json.loads(_text(path))
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except (ValueError, RecursionError) as error:
        raise ArtuneError(f"{path}: not valid JSON ({error}); delete it and run again") from error


def _text(path: Path | str) -> str:
    with open_regular(path) as handle:
        return handle.read().decode("utf-8")


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """The objects of a JSONL file.

    Raises:
        ArtuneError: the file is missing or not a regular file, or a line is not a JSON object.
    """
    try:
        lines = [json.loads(line) for line in _text(path).splitlines()]
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except (ValueError, RecursionError) as error:
        raise ArtuneError(f"{path}: damaged ({error}); delete it and train again") from error
    if not all(isinstance(line, dict) for line in lines):
        raise ArtuneError(f"{path}: damaged (a line is not an object); delete it and train again")
    return lines


def save_npz(path: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an uncompressed npz in one step; keys may hold slashes."""
    with replacing(path) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]


def save_npz_rows(
    path: Path | str, name: str, pieces: Iterable[np.ndarray], count: int, rest: Mapping[str, np.ndarray]
) -> None:
    """Write the bytes of ``save_npz(path, {name: all pieces, **rest})`` with one piece in memory at a time.

    Args:
        path: the npz to write.
        name: name of the array that comes in pieces.
        pieces: rows [b, ...] of the array, in order.
        count: number of rows of all pieces.
        rest: further arrays, by name.

    Raises:
        ArtuneError: the pieces do not have ``count`` rows.
    """
    written = 0
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            for piece in pieces:
                if not written:
                    header = {"descr": np.lib.format.dtype_to_descr(piece.dtype), "fortran_order": False}
                    np.lib.format.write_array_header_1_0(member, header | {"shape": (count, *piece.shape[1:])})
                member.write(piece.tobytes())
                written += len(piece)
        if written != count:
            raise ArtuneError(f"{path}: {written} rows of {name} instead of {count}")
        for key, value in rest.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)


def load_npz(path: Path | str, *required: str) -> dict[str, np.ndarray]:
    """Read arrays of an npz (the ``required`` ones, otherwise all), never unpickling.

    Raises:
        ArtuneError: the file is missing, truncated, holds anything but arrays of numbers, lacks a required array, or
            claims more than it holds.
    """
    with _npz(path) as archive:
        names = names_of(archive)
        if missing := [name for name in required if name not in names]:
            raise ArtuneError(f"{path}: lacks {', '.join(missing)} (holds {', '.join(names)})")
        return {name: read_array(archive, name) for name in (required or names)}


def npz_rows(path: Path, name: str, batch: int) -> Iterator[np.ndarray]:
    """The array ``name`` of an npz in chunks of ``batch`` rows; the whole array is never in memory.

    Raises:
        ArtuneError: the file is missing, not an npz, truncated, lacks the array, or claims more than it holds.
    """
    with _npz_member(path, name) as (member, header):
        if header.fortran:  # whose rows do not lie one after another
            raise ArtuneError(f"{path}: {name} is not a plain array in C order")
        yield from rows_of(member, header, batch)


def npz_shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape of the array ``name`` of an npz, from its header; errors as :func:`npz_rows`."""
    with _npz_member(path, name) as (_, header):
        return header.shape


def npz_names(path: Path) -> list[str]:
    """The names of the arrays of an npz. Raises ArtuneError if the file is missing or not an npz."""
    with _npz(path) as archive:
        return names_of(archive)


@contextlib.contextmanager
def _npz(path: Path | str) -> Iterator[zipfile.ZipFile]:
    """Open an npz; errors of reading it inside the ``with`` block become one line as well."""
    try:
        with open_zip(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except BAD_NPZ as error:
        raise ArtuneError(f"{path}: truncated or not an npz ({error}); fetch or make it again") from error


@contextlib.contextmanager
def _npz_member(path: Path, name: str) -> Iterator[tuple[IO[bytes], Header]]:
    """Open an array of an npz just after its header."""
    with _npz(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            raise ArtuneError(f"{path}: lacks {name}")
        with archive.open(f"{name}.npy") as member:
            yield member, read_header(member, archive.getinfo(f"{name}.npy").file_size, name)


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 digest of a file's bytes.

    Raises:
        ArtuneError: not a regular file.
        OSError: the file is missing or cannot be read.
    """
    with open_regular(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
