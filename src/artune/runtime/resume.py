"""Saved states from which a training resumes, and the kept outputs of a finished training.

The last two states are kept; the digest in the name of a state shows whether the state is torn or altered.

The outputs of a finished training also get a second name, and are restored when the very same training is asked for
again: Snakemake removes a job's outputs before it starts the job again, even if only Snakemake itself was killed and
the job ran to its end. The second name is a hard link, so it takes no space as long as the outputs exist.
"""

import hashlib
import importlib.metadata
import io
import os
import pickle
import shutil
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import torch

import artune
from artune.errors import ArtuneError
from artune.runtime import fence
from artune.runtime.files import read_json, replacing, sha256, write_json
from artune.runtime.places import destination

KEEP = 2
# Exceptions from torch.load for wrong bytes.
BAD_BYTES = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)


def save_state(folder: Path, iteration: int, state: dict[str, Any]) -> Path:
    """Write ``state`` (tensors, numbers, strings) after ``iteration`` iterations; only the last two states are kept.

    Raises:
        ArtuneError: the state cannot be written.
    """
    path, digest = folder / f"state-{iteration:06d}.pt", hashlib.sha256()

    def named() -> Path:
        return path.with_stem(f"{path.stem}-{digest.hexdigest()[:16]}")

    with replacing(path, named) as temporary, open(temporary, "wb") as handle:
        sink = _HashedFile(handle, digest)
        torch.save(state, sink)  # type: ignore[arg-type]
        sink.check()
    for old in sorted(folder.glob("state-*.pt"))[:-KEEP]:
        old.unlink(missing_ok=True)
    return named()


class _HashedFile:
    """Hashes and writes at once, so that no second copy of a state lies in memory; both let other threads run.

    An error of the disk waits for :meth:`check`: it must not cross the C++ code of torch.save, which calls this.
    """

    def __init__(self, handle: IO[bytes], digest: Any):
        self.handle, self.digest = handle, digest
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        if self.error is None:
            self.digest.update(data)
            try:
                self.handle.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Called by torch.save; closing the file flushes it."""

    def check(self) -> None:
        """Raises OSError: the disk is full or failing."""
        if self.error is not None:
            raise self.error


def load_state(folder: Path, config: str) -> tuple[int, dict[str, Any]] | None:
    """The newest intact state that was saved under the same ``config`` text, with its iteration; otherwise None.

    Raises:
        ArtuneError: a state is no regular file.
    """
    for path in sorted(folder.glob("state-*.pt"), reverse=True):
        destination(path)  # reading a named pipe would never end
        _, iteration, digest = path.stem.split("-")
        data = path.read_bytes()
        state = _read(data) if hashlib.sha256(data).hexdigest()[:16] == digest else None
        if state is None:
            warnings.warn(f"{path}: torn or altered; the previous state is used", stacklevel=2)
            path.unlink()
        elif state.get("config") == config:
            return int(iteration), state
    return None


def _read(data: bytes) -> dict[str, Any] | None:
    """The state in ``data``; None if it is not a state, or if loading it would run code."""
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except BAD_BYTES:
        return None
    return state if isinstance(state, dict) else None


def clear_states(folder: Path) -> None:
    """Remove every saved state: states of other settings would crowd out the new ones."""
    paths = list(folder.glob("state-*.pt"))
    fence.check()  # after the listing, which holds no state of a successor
    for path in paths:
        path.unlink(missing_ok=True)


FOLDER = ".finished"
NOTE = "note.json"


def _key(identity: str) -> str:
    """Digest of a training's identity and of the code: a training by other code is another training."""
    digest = hashlib.sha256(f"{identity}\ntorch {importlib.metadata.version('torch')}\n".encode())
    for path in sorted(Path(artune.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def keep(folder: Path, identity: str, outputs: Sequence[Path]) -> None:
    """Link ``outputs`` of a finished training into ``folder``/.finished; a disk without hard links keeps nothing."""
    kept = folder / FOLDER
    fence.check()
    shutil.rmtree(kept, ignore_errors=True)
    try:
        kept.mkdir()
        for path in outputs:
            os.link(destination(path), kept / path.name)
        write_json(kept / NOTE, {"key": _key(identity), "files": {path.name: sha256(path) for path in outputs}})
    except (OSError, ArtuneError):  # only the second name is lost, the outputs are written
        shutil.rmtree(kept, ignore_errors=True)


def give_back(folder: Path, identity: str, outputs: Sequence[Path]) -> bool:
    """Restore ``outputs`` that were kept under the same identity and code; False if one is missing or damaged."""
    kept = folder / FOLDER
    try:
        note = read_json(kept / NOTE)
        if note["key"] != _key(identity) or any(
            sha256(kept / path.name) != note["files"][path.name] for path in outputs
        ):
            return False
        for path in outputs:
            give_name(kept / path.name, path)
    except (OSError, ArtuneError, LookupError, TypeError):
        return False
    return True


def give_name(kept: Path, path: Path) -> None:
    """Give the file ``kept`` the second name ``path``; a copy where the two lie on different disks."""
    path.parent.mkdir(exist_ok=True)
    target = destination(path)
    link = target.with_name(f".{target.name}.{os.getpid()}.link")
    try:
        os.link(kept, link)
        fence.check()
        os.replace(link, target)
    except OSError:
        with replacing(path) as temporary:
            shutil.copyfile(kept, temporary)
    finally:
        link.unlink(missing_ok=True)  # renaming one of two names of a file onto the other does nothing
