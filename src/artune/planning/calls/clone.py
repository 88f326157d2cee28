"""Whether Snakemake and its jobs can work in these folders: the clone, results, caches, temporary files."""

import errno
import os
import shlex
import shutil
import tempfile
import uuid
from pathlib import Path

from artune.errors import ArtuneError
from artune.runtime.files import write_text
from artune.runtime.lease import lease

UNFIT = {":": "cannot stand in PATH", "%": "keeps MLflow from making its store"}  # in the path of an environment
SPARE = 1 << 20  # bytes that must fit into a folder of caches or temporary files
REFUSED = {"{": "an opening brace", "}": "a closing brace"}  # Snakemake takes what they enclose for a wildcard


def check_clone(folder: Path, python: Path) -> None:
    """Refuse a path with which Snakemake, or the search for programs, would fail in the middle of something.

    Args:
        folder: folder of the Snakefile.
        python: the interpreter whose folder is searched first for programs.

    Raises:
        ArtuneError: the folder's path holds a brace; or the interpreter's a colon, which separates folders in PATH, or
            a percent sign, with which MLflow cannot set up its store.
    """
    for character, name in REFUSED.items():
        if character in str(folder):
            raise ArtuneError(f"{folder}: Snakemake cannot work in a path with {name} ({character}); move the clone")
    for character, reason in UNFIT.items():
        if character in str(python.parent):
            raise ArtuneError(f"{python}: a path with {character} {reason}; make the environment elsewhere")


def path_prefix(python: Path) -> str:
    """Shell text that puts the folder of ``python`` first in PATH, with the braces doubled for Snakemake's format."""
    folder = shlex.quote(str(python.parent)).replace("{", "{{").replace("}", "}}")
    return f'export PATH={folder}:"$PATH"; '


def try_results(folder: Path) -> None:
    """Hold a lease in ``folder`` and write a file, as a training does; nothing stays. Raises ArtuneError: it fails."""
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        with lease(probe, "doctor"):
            write_text(probe / "probe", "probe")
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def problem_of_caches() -> str | None:
    """What is wrong with the folder of caches, which Snakemake and matplotlib need, and the variable that helps."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:  # neither HOME nor an entry in the system's list of users
        return "no home folder; set XDG_CACHE_HOME to a folder that can be written"
    reason = _try_to_fill(folder)
    return reason and f"{folder}: {reason}; set XDG_CACHE_HOME to a folder that can be written"


def problem_of_temporary_files() -> str | None:
    """What is wrong with the folder of temporary files, and the variable that helps."""
    wanted = os.environ.get("TMPDIR")
    try:
        folder = Path(wanted) if wanted and Path(wanted).is_dir() else Path(tempfile.gettempdir())
    except OSError as error:  # Python found none that can be written
        return f"{error.strerror}; set TMPDIR to a folder with free space"
    reason = f"{wanted} is no folder" if wanted and not Path(wanted).is_dir() else _try_to_fill(folder)
    return reason and f"{folder}: {reason}; set TMPDIR to a folder with free space"


def _try_to_fill(folder: Path) -> str | None:
    """Why ``folder``, which is created if it is missing, does not take :data:`SPARE` bytes; None if it does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as handle:
            handle.write(bytes(SPARE))
            if handle.tell() < SPARE:  # a disk that fills up takes a part
                return os.strerror(errno.ENOSPC)
    except OSError as error:
        return str(error.strerror)
    return None
