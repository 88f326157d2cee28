"""A finished training's outputs under a second name, given back when the very same training is asked for again.

Snakemake removes a job's outputs before it starts the job again, also where only Snakemake itself was killed and the
job went on to its end without it: hours of GPUs for bytes that were there. The second name is a hard link, so it takes
no space as long as the outputs are there.
"""

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import artune
from artune import fence
from artune.errors import ArtuneError
from artune.files import read_json, sha256, write_json

FOLDER = ".finished"
NOTE = "note.json"


def _key(identity: str) -> str:
    """Digest of what a training is, and of the code that ran it: other code is another training."""
    digest = hashlib.sha256(f"{identity}\ntorch {importlib.metadata.version('torch')}\n".encode())
    for path in sorted(Path(artune.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def keep(folder: Path, identity: str, outputs: Sequence[Path]) -> None:
    """Link ``outputs`` of a finished training into ``folder``/.finished; without links on that disk nothing is kept."""
    kept = folder / FOLDER
    fence.check()
    shutil.rmtree(kept, ignore_errors=True)
    try:
        kept.mkdir()
        for path in outputs:
            os.link(path, kept / path.name)
        write_json(kept / NOTE, {"key": _key(identity), "files": {path.name: sha256(path) for path in outputs}})
    except (OSError, ArtuneError):  # the outputs themselves are written; this is a second name
        shutil.rmtree(kept, ignore_errors=True)


def give_back(folder: Path, identity: str, outputs: Sequence[Path]) -> bool:
    """Whether ``outputs`` were kept under the same identity and code, are intact, and now are in their places again."""
    kept = folder / FOLDER
    try:
        note = read_json(kept / NOTE)
        if note["key"] != _key(identity) or any(
            sha256(kept / path.name) != note["files"][path.name] for path in outputs
        ):
            return False
        for path in outputs:
            link = path.with_name(f".{path.name}.{os.getpid()}.link")
            os.link(kept / path.name, link)
            fence.check()
            os.replace(link, path)
            link.unlink(missing_ok=True)  # renaming one of two names of a file onto the other does nothing
    except (OSError, ArtuneError, LookupError, TypeError):
        return False
    return True
