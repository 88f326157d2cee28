"""Finished pieces of long work, kept in a separate folder until the whole is written, so that a kill loses only one."""

import contextlib
import hashlib
import io
import shutil
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from artune.errors import ArtuneError
from artune.runtime.files import remove_folder, replacing
from artune.runtime.places import destination


class Chunks:
    """Numbered arrays in a folder named by the digest of the work: chunks of other settings are never used.

    Args:
        folder: folder that is not a declared output: Snakemake removes the declared outputs of a failed job.
        identity: text of everything that decides the arrays.
    """

    def __init__(self, folder: Path, identity: str):
        self.root = folder
        self.folder = folder / hashlib.sha256(identity.encode()).hexdigest()[:16]

    def clear_others(self) -> None:
        """Remove the chunks of other work."""
        for path in self.root.glob("*"):
            if path != self.folder:
                shutil.rmtree(path, ignore_errors=True)

    def count(self) -> int:
        """Number of chunks that all processes have saved."""
        return len(list(self.folder.glob("chunk-*.npy")))

    def save(self, number: int, array: np.ndarray) -> None:
        """Save ``array`` as chunk ``number``."""
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        with replacing(self.folder / f"chunk-{number:06d}-{_digest(buffer.getbuffer())}.npy") as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def has(self, number: int) -> bool:
        """Whether chunk ``number`` exists and is intact; a torn or altered one is removed."""
        for path in self.folder.glob(f"chunk-{number:06d}-*.npy"):
            if destination(path).is_file() and path.stem.endswith(_digest(path.read_bytes())):
                return True
            path.unlink()
        return False

    def load(self, number: int) -> np.ndarray:
        """Chunk ``number``.

        Raises:
            ArtuneError: the chunk does not exist.
        """
        for path in self.folder.glob(f"chunk-{number:06d}-*.npy"):
            return np.load(path, allow_pickle=False)
        raise ArtuneError(f"{self.folder}: chunk {number} is gone; run the same command again")

    def digest(self) -> str:
        """Digest of all chunks, from the digests in their names."""
        names = "\n".join(sorted(path.name for path in self.folder.glob("chunk-*.npy")))
        return hashlib.sha256(names.encode()).hexdigest()

    def remove(self) -> None:
        """Remove all chunks, once the whole is written."""
        with contextlib.suppress(OSError):
            remove_folder(self.root)


class Writer:
    """Saves arrays in a background thread while the caller computes the next ones, at most one step ahead.

    The next :meth:`save`, or the end of the ``with`` block, raises an error of the thread.
    """

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.pending: Future[None] | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.thread.shutdown(wait=True)
        if kind is None:
            self._finish()

    def save(self, number: int, arrays: Iterable[tuple[Chunks, np.ndarray]]) -> None:
        """Save each array as chunk ``number`` of its chunks, in this order, after the arrays of the previous call."""
        self._finish()
        self.pending = self.thread.submit(_save_all, number, list(arrays))

    def _finish(self) -> None:
        if self.pending is not None:
            self.pending.result()
        self.pending = None


def _save_all(number: int, arrays: Iterable[tuple[Chunks, np.ndarray]]) -> None:
    for chunks, array in arrays:  # a failure stops the arrays after it
        chunks.save(number, array)


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
