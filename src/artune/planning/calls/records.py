"""Snakemake's records, kept inside ``results/`` so that they travel with it. Never imports torch.

Snakemake decides what to make again by two things that a copy of a results folder loses: its records of the settings
and inputs of every file, which lie in ``.snakemake``, and the modification times, which ``cp -r`` and ``rsync -r`` set
anew in any order. Here the records lie in ``results/records/metadata``, to which ``.snakemake/metadata`` is a link,
and ``results/records/files.json`` lists size, time and digest of every file that a rule has made. In a folder that was
moved or copied, a file with the listed size and digest gets the listed time back, so that what was finished stays
finished, and what was out of date stays out of date.
"""

import base64
import contextlib
import hashlib
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from artune.errors import ArtuneError
from artune.runtime.files import read_json, sha256, write_json
from artune.runtime.progress import say, warn

FOLDER = "records"
SHOWN = 5  # altered files that a warning names
LARGE = 2e9  # bytes whose comparison is announced
LATE = 4e9  # bytes of a file that is read only at the end of a call: Snakemake often deletes such a one (samples) soon


class Records:
    """The records of one results folder.

    Args:
        results: the folder; its parent is the folder in which Snakemake runs.
    """

    def __init__(self, results: Path = Path("results")):
        self.root = results.parent
        self.folder = results / FOLDER
        self.metadata, self.list = self.folder / "metadata", self.folder / "files.json"
        self.link = self.root / ".snakemake/metadata"
        self.lock, self.began = threading.Lock(), time.time_ns()

    def attach(self) -> None:
        """Before planning: let Snakemake read the records beside the results; in a copy, restore the times of files.

        Without records nothing is made, and a folder that may not be written to is left as it is.
        """
        with contextlib.suppress(OSError, ArtuneError):
            if self.metadata.is_dir():
                self._link()
                self._restore()
            elif self.link.is_symlink():  # the results are gone; Snakemake fails at a link to nothing
                self.link.unlink()

    def remember(self, late: bool = True) -> None:
        """List every file that a rule has made; only new and altered files are read.

        Args:
            late: whether to read files of more than :data:`LATE` bytes, too.
        """
        with self.lock, contextlib.suppress(OSError, ArtuneError):
            if not self.metadata.is_dir():
                return
            before = self._read()
            files: dict[str, list] = {}
            here = self._place()
            place = here if before["place"] is None else before["place"]
            for name in self._made():
                found = self._measure(name, before["files"].get(name), late, copied=place != here)
                if found is not None:
                    files[name] = found
            after = {"place": place, "files": dict(sorted(files.items()))}
            if after != before:
                write_json(self.list, after)

    def begin(self, every: float = 15.0) -> None:
        """Before the first job: let Snakemake write its records beside the results, and list new files now and then.

        A thread calls :meth:`remember` every so many seconds, so that a kill loses little and the end is quick.
        """
        with contextlib.suppress(OSError):
            self.metadata.mkdir(parents=True, exist_ok=True)
            self._link()
        self.remember(late=False)

        def run() -> None:
            while not pause.wait(every):
                self.remember(late=False)

        pause = threading.Event()
        threading.Thread(target=run, name="records", daemon=True).start()

    def _link(self) -> None:
        link = self.link
        if link.is_symlink():
            if link.exists() and link.samefile(self.metadata):
                return
            link.unlink()
        elif link.is_dir():  # Snakemake's own folder; records that lie beside the results already are theirs
            for path in [path for path in link.rglob("*") if path.is_file()]:
                target = self.metadata / path.relative_to(link)
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, target)
            shutil.rmtree(link)
        # Records without this folder would be those of an old Snakemake, which the present one converts.
        (link.parent / "incomplete").mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(self.metadata.resolve(), link.parent.resolve()))

    def _restore(self) -> None:
        """In a folder that is not where the list was written, give unchanged files the listed times."""
        listed, here = self._read(), self._place()
        if listed["place"] in (None, here):
            return
        try:
            altered = self._restore_listed(listed["files"])
            self._restore_unlisted(listed["files"])
        except OSError as error:
            warn(
                f"{self.folder.parent}: times cannot be set ({error.strerror or error}), and finished work may be "
                "planned again; own the copy, or copy with the times (cp -a, rsync -a)"
            )
            return
        if altered:
            more = f" and {len(altered) - SHOWN} more" if len(altered) > SHOWN else ""
            warn(
                f"{', '.join(altered[:SHOWN])}{more}: differs from what was recorded before the results were moved or "
                "copied; if it was cut short, copy it again or delete it"
            )
        write_json(self.list, {**listed, "place": here})

    def _restore_listed(self, files: dict[str, list]) -> list[str]:
        """Give files with the listed size and digest the listed time; returns the names of the others."""
        there = {name: path.stat() for name in files if (path := self.root / name).is_file()}
        differ = [name for name, found in there.items() if [found.st_size, found.st_mtime_ns] != files[name][:2]]
        if (total := sum(there[name].st_size for name in differ)) > LARGE:
            say(f"{self.folder.parent}: copied; {total / 1e9:.0f} GB are compared with their recorded digests")
        altered = []
        for name in differ:
            size, time, digest = files[name]
            if there[name].st_size == size and sha256(self.root / name) == digest:
                os.utime(self.root / name, ns=(there[name].st_atime_ns, time))
            else:
                altered.append(name)
        return altered

    def _restore_unlisted(self, files: dict[str, list]) -> None:
        """Give files that were finished just before a kill, and are not listed yet, the time in Snakemake's record."""
        for name, record in self._made().items():
            path = self.root / name
            if name in files or not path.is_file():
                continue
            with contextlib.suppress(ArtuneError, LookupError, TypeError, ValueError):
                os.utime(path, (path.stat().st_atime, float(read_json(record)["endtime"])))

    def _place(self) -> str:
        """Where the folder lies: ``mv`` within a disk keeps the number of its inode, a copy has another one."""
        return hashlib.sha256(f"{self.folder.resolve()} {self.folder.stat().st_ino}".encode()).hexdigest()[:16]

    def _read(self) -> dict[str, Any]:
        """The list; an empty one if there is none or it is damaged."""
        empty: dict[str, Any] = {"place": None, "files": {}}
        with contextlib.suppress(ArtuneError, LookupError, TypeError, ValueError):
            found = read_json(self.list)
            files = {str(name): [int(size), int(time), str(digest)]
                     for name, (size, time, digest) in found["files"].items() if self._inside(name)}  # fmt: skip
            return {"place": found["place"], "files": files}
        return empty

    def _made(self) -> dict[str, Path]:
        """The files of the results folder that a rule has made, with Snakemake's records, whose names are theirs."""
        names = {}
        for path in self.metadata.rglob("*"):
            if path.is_file():  # a long name is spread over folders whose names begin with @
                parts = (part.removeprefix("@") for part in path.relative_to(self.metadata).parts)
                with contextlib.suppress(ValueError):
                    names[base64.urlsafe_b64decode("".join(parts)).decode()] = path
        return {name: path for name, path in names.items() if self._inside(name)}

    def _inside(self, name: str) -> bool:
        """Whether a name from a list or a record, which others may have written, is that of a file of the results."""
        path = Path(name)
        return path.is_relative_to(self.folder.parent.relative_to(self.root)) and ".." not in path.parts

    def _measure(self, name: str, known: list | None, late: bool, copied: bool) -> list | None:
        """Size, time and digest of a file; None if it is gone, or is to be read later.

        ``copied``: this is a copy whose times could not be set. What is listed of a file that this call did not make is
        kept there, for a call by the owner of the files.
        """
        path = self.root / name
        with contextlib.suppress(OSError):
            found = path.stat()
            state = [found.st_size, found.st_mtime_ns]
            if known is not None and known[:2] == state:
                return known
            if copied and known is not None and known[0] == found.st_size and found.st_mtime_ns < self.began:
                return known
            if not late and found.st_size > LATE:
                return None
            return [*state, sha256(path)]
        return None
