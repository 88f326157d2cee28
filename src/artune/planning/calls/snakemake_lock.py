"""Snakemake's lock with a name on it, and one Snakemake at a time per results folder.

Snakemake's lock does not say who holds it, so after a kill a user has to remove it by hand. Here every lock is signed
by its process. A lock whose process has ended on this machine is removed; any other is left alone, because a process
on another machine, or in another container, cannot be looked up. Ending a process unlocks only its own files.

Two clones that share one results folder do not share Snakemake's lock: the second would remove outputs, such as
``features.npz``, that jobs of the first are reading. A lease on the results folder keeps them apart: the second waits
before it plans, so that it finds what the first has made.
"""

import atexit
import contextlib
import fcntl
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import snakemake.api  # before snakemake.workflow, because the two import each other
import snakemake.workflow
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.persistence.file import FilePersistence
from snakemake_interface_executor_plugins.settings import ExecMode

from artune.errors import ArtuneError
from artune.runtime import lease


def guard(results: Path) -> None:
    """Let this call of Snakemake use the lock of this module, and continue after a kill without further options.

    Call it while the Snakefile is read. ``results`` is the folder that only one Snakemake at a time may write to.
    """
    Persistence.results = results
    snakemake.workflow.FilePersistence = Persistence  # type: ignore[attr-defined, misc]


class Persistence(FilePersistence):
    """Snakemake's records of a folder, with the lock described above."""

    results = Path("results")

    def __init__(self, **options: Any):
        workflow: Any = getattr(options.get("dag"), "workflow", None)
        executes = workflow is not None and workflow.executor_plugin is not None
        if (
            executes
            and workflow.exec_mode == ExecMode.DEFAULT
            and not (options.get("nolock") or options.get("warn_only"))
        ):
            hold_results(self.results)
        if workflow is not None and workflow.dag_settings is not None:
            # As --rerun-incomplete: the files of a killed job are made again, from its last saved state if it has one.
            workflow.dag_settings.force_incomplete = True
        super().__init__(**options)
        self._signature: Path | None = None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the files of the plan; removes the lock of a process that was killed on this machine.

        Raises:
            LockException: another Snakemake has a part of these files, or may have.
        """
        with contextlib.ExitStack() as stack:
            with self._alone() as alone:
                if self.locked and alone:
                    self._remove_stale_locks()
                if self.locked:
                    logger.error(self._advice())
                stack.enter_context(super().lock())
                self._sign()
            yield

    def cleanup_locks(self) -> None:
        """Remove all locks of this folder and the leases on the results (``snakemake --unlock``).

        The leases of all scales, because the scale of the call that was refused may have been given by ``--config``.

        Raises:
            WorkflowError: the holder of a lock is alive on this machine.
        """
        for _, holder in self._signatures():
            if lease.is_here(holder) and not lease.has_ended(holder):
                raise WorkflowError(f"Not unlocked: {_described(holder)} is alive; end it first.")
        super()._delete_locks()
        for held in sorted(self.results.parent.glob(f"*/{lease.FILE}")):
            with contextlib.suppress(OSError):
                holder = lease.parse_holder(held.read_bytes())
                if lease.has_ended(holder) or not lease.is_here(holder):
                    held.unlink()
                    logger.warning(f"{held.parent}: no longer held by {lease.describe_holder(holder)}")

    def _delete_locks(self) -> None:
        """Remove the locks of this process; the released method removes those of all processes."""
        for file in [*map(Path, self._lockfile.values()), *([self._signature] if self._signature else [])]:
            file.unlink(missing_ok=True)
        self._lockfile.clear()
        self._signature = None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process of this machine takes or removes a lock within the block."""
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open(Path(self.path) / "locks.mutex", "w"))
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # a file system without such locks: then nothing is removed
                yield False
                return
            yield True

    def _signatures(self) -> list[tuple[Path, dict[str, Any]]]:
        found = []
        for path in sorted(Path(self._lockdir).glob("*.holder")):
            with contextlib.suppress(OSError):
                found.append((path, lease.parse_holder(path.read_bytes())))
        return found

    def _sign(self) -> None:
        holder = {**lease.this_process(), "files": [Path(file).name for file in self._lockfile.values()]}
        self._signature = Path(self._lockdir) / f"{uuid.uuid4().hex}.holder"
        self._signature.write_bytes(json.dumps(holder).encode() + b"\n")

    def _remove_stale_locks(self) -> None:
        """Remove the locks of processes that have ended here, unless another process took the same file since."""
        signatures = self._signatures()
        kept = {name for _, holder in signatures if not lease.has_ended(holder) for name in _files(holder)}
        for path, holder in signatures:
            if not lease.has_ended(holder):
                continue
            signed = path.stat().st_mtime_ns
            for file in (Path(self._lockdir) / name for name in _files(holder) - kept):
                if file.exists() and file.stat().st_mtime_ns <= signed:
                    file.unlink()
            path.unlink()
            logger.warning(
                f"{_described(holder)} has ended or was killed; its lock is removed, and its unfinished jobs run again."
            )

    def _advice(self) -> str:
        """One line that says who holds the lock and what to do."""
        holders = [holder for _, holder in self._signatures()]
        alive = [_described(holder) for holder in holders if lease.is_here(holder) and not lease.has_ended(holder)]
        if alive:
            return f"Locked by {', '.join(alive)}, which is alive: wait for it or end it, then type the same command."
        who = ", ".join(map(_described, holders)) or "a Snakemake that left no name"
        return f"Locked by {who}. If it has ended, type `snakemake --unlock`, then the same command."


def _files(holder: dict[str, Any]) -> set[str]:
    """Names of the lock files of a process."""
    return {Path(str(name)).name for name in holder.get("files") or []}


def _described(holder: dict[str, Any]) -> str:
    return (
        f"Snakemake (process {holder.get('pid', '?')} on {holder.get('host', '?')}, since {holder.get('since', '?')})"
    )


class ResultsLease(lease.Lease):
    """The lease of one Snakemake on a results folder. It is never taken from a live process."""

    sweeps = False
    follows = False  # whether this process works already, because another call of its clone holds the folder

    def _contend(self) -> None:
        """Wait until the folder is free.

        Raises:
            ArtuneError: the holder is on another machine and has been silent for too long.
        """
        seen, since, said = None, time.monotonic(), False
        while not self._link():
            if self.stop.is_set():
                raise ArtuneError(f"{self.path.parent}: this process ends before its turn")
            raw, now = self._read(self.path), time.monotonic()
            if raw is None:
                continue
            if raw != seen:
                seen, since = raw, now
            holder = lease.parse_holder(raw)
            if lease.has_ended(holder):
                self._remove(raw)
                continue
            if self.follows:
                time.sleep(min(0.2, self.every / 5))  # sooner than another clone that waits
                continue
            who = f"{lease.describe_holder(holder)}, in {holder.get('clone', 'another clone')}"
            if not lease.is_here(holder) and now - since > self.every * self.missed:
                raise ArtuneError(
                    f"{self.path.parent}: held by {who}, silent for {now - since:.0f} s; if it has ended, type "
                    "`snakemake --unlock`, then the same command"
                )
            if not said:
                said = True
                sys.stderr.write(f"{self.path.parent}: held by {who}; waiting for it to end\n")
                sys.stderr.flush()
            time.sleep(min(1.0, self.every / 5))

    def _end(self, why: str) -> None:
        """Unlike a job, Snakemake goes on: its jobs have leases of their own."""
        if not self.stop.is_set():
            self.stop.set()
            logger.warning(f"{self.path.parent}: {why}; another Snakemake may write here")

    def holder(self) -> dict[str, Any]:
        """The present holder; {} if there is none."""
        return lease.parse_holder(self._read(self.path) or b"")


def hold_results(folder: Path) -> None:
    """Hold ``folder`` until this process ends. Snakemakes of one clone share it: they have Snakemake's own lock.

    A call beside another one of its clone takes the folder when that one ends.

    Raises:
        WorkflowError: a holder on another machine has been silent for too long.
    """
    own = str(Path.cwd())
    new = ResultsLease(folder, "snakemake", lease.EVERY, lease.MISSED, clone=own)
    present = new.holder()
    if present.get("clone") == own and lease.is_here(present) and not lease.has_ended(present):
        _follow(new)
        return
    try:
        new.acquire()
    except ArtuneError as error:
        if isinstance(error.__cause__, OSError):
            logger.warning(f"{error}: clones that share this folder are not kept apart")
            return
        raise WorkflowError(str(error)) from error
    atexit.register(new.release)


def _follow(new: ResultsLease) -> None:
    """Take the lease as soon as its holder ends, unless this process ends before."""
    new.follows, taken = True, threading.Event()

    def run() -> None:
        with contextlib.suppress(ArtuneError):
            new.acquire()
            taken.set()

    def end() -> None:
        new.stop.set()
        thread.join()
        if taken.is_set():
            new.release()

    thread = threading.Thread(target=run, name="results", daemon=True)
    thread.start()
    atexit.register(end)
