"""Finished pieces of long work, kept in a folder of their own until the whole is written, so that a kill loses one."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np

from artune.errors import ArtuneError
from artune.files import replacing


class Chunks:
    """Numbered arrays under the digest of what they are chunks of: those of other settings are never taken up.

    Args:
        folder: undeclared to Snakemake, which removes the declared outputs of a job that failed.
        identity: everything that decides the arrays.
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
        """How many there are, of all processes."""
        return len(list(self.folder.glob("chunk-*.npy")))

    def save(self, number: int, array: np.ndarray) -> None:
        """Keep ``array`` as chunk ``number``."""
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        with replacing(self.folder / f"chunk-{number:06d}-{_digest(buffer.getbuffer())}.npy") as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def has(self, number: int) -> bool:
        """Whether chunk ``number`` is there, whole; a torn or altered one is removed."""
        for path in self.folder.glob(f"chunk-{number:06d}-*.npy"):
            if path.stem.endswith(_digest(path.read_bytes())):
                return True
            path.unlink()
        return False

    def load(self, number: int) -> np.ndarray:
        """Chunk ``number``.

        Raises:
            ArtuneError: it is not there.
        """
        for path in self.folder.glob(f"chunk-{number:06d}-*.npy"):
            return np.load(path, allow_pickle=False)
        raise ArtuneError(f"{self.folder}: chunk {number} is gone; run the same command again")

    def remove(self) -> None:
        """The whole is written: remove all chunks."""
        shutil.rmtree(self.root, ignore_errors=True)


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
