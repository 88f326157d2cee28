"""Reading and writing that never leaves half a file behind."""

import contextlib
import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from artune.errors import ArtuneError
from artune.runtime import fence

# Exceptions from reading an npz with wrong bytes; NumPy leaves most of the reading to zipfile and ast.
BAD_NPZ = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, OSError, RuntimeError, MemoryError,
           NotImplementedError, SyntaxError, TypeError, LookupError)  # fmt: skip


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is fsynced and renamed over ``path``, otherwise removed.

    The folder is fsynced as well, so the caller may then remove older files. The file gets the permissions that the
    umask gives to every new file, because safetensors makes its files readable by the owner alone. A process that has
    lost its lease (:mod:`artune.runtime.fence`) replaces nothing.
    """
    path = Path(path)
    temporary = fence.temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777
        yield temporary
        temporary.chmod(mode)
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        fence.check()
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(ArtuneError):
            fence.check()  # a successor may have removed the temporary file
        raise ArtuneError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN and infinity are refused with a ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON.

    Raises:
        ArtuneError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtuneError(f"{path}: no such file") from error
    except (ValueError, RecursionError) as error:
        raise ArtuneError(f"{path}: not valid JSON ({error}); delete it and run again") from error


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """The objects of a JSONL file.

    Raises:
        ArtuneError: the file is missing, or a line is not a JSON object.
    """
    try:
        lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise ArtuneError(f"{path}: no such file") from error
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
        ArtuneError: the file is missing, truncated, holds pickled objects, or lacks a required array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in required if name not in archive.files]
            if missing:
                raise ArtuneError(f"{path}: lacks {', '.join(missing)} (holds {', '.join(archive.files)})")
            return {name: archive[name] for name in (required or archive.files)}
    except FileNotFoundError as error:
        raise ArtuneError(f"{path}: no such file") from error
    except BAD_NPZ as error:
        raise ArtuneError(f"{path}: truncated or not an npz ({error}); delete it and run again") from error


def npz_rows(path: Path, name: str, batch: int) -> Iterator[np.ndarray]:
    """The array ``name`` of an npz in chunks of ``batch`` rows; the whole array is never in memory.

    Raises:
        ArtuneError: the file is missing, not an npz, truncated, or lacks the array.
    """
    with _npz_member(path, name) as (member, shape, dtype):
        row = dtype.itemsize * int(np.prod(shape[1:]))
        for at in range(0, shape[0], batch):
            count = min(batch, shape[0] - at)
            data = member.read(count * row)
            if len(data) != count * row:
                raise EOFError(f"row {at + len(data) // max(row, 1)} of {shape[0]}")
            yield np.frombuffer(data, dtype).reshape(count, *shape[1:])


def npz_shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape of the array ``name`` of an npz, from its header; errors as :func:`npz_rows`."""
    with _npz_member(path, name) as (_, shape, _):
        return shape


@contextlib.contextmanager
def _npz_member(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    """Open an array of an npz just after its header; yields the stream, the array's shape and its dtype."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(member)
            if fortran or dtype.hasobject:
                raise ArtuneError(f"{path}: {name} is not a plain array in C order")
            yield member, shape, dtype
    except FileNotFoundError as error:
        raise ArtuneError(f"{path}: no such file") from error
    except KeyError as error:
        raise ArtuneError(f"{path}: lacks {name}") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise ArtuneError(f"{path}: truncated or not an npz ({error}); fetch or make it again") from error


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 digest of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
