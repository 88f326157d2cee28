"""One writer per folder of a run: a lease that also works on file systems where locks do not (NFS, Lustre).

A job that outlives its Snakemake, and the job that Snakemake submits in its place, must not write the same files. The
lease is a hard link, which only one process can make, to a file of its holder. Heartbeats are written into the holder's
file, so they never touch the lease of a successor. Clocks of two machines are never compared: a lease has expired when
the process that wants it has seen its bytes unchanged for long enough. A holder that was only suspended and wakes after
that writes nothing more: :mod:`artune.runtime.fence`. A file system without hard links (vfat, some network shares) gets
a lease that is created exclusively, which all of them allow to one process only.
"""

import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artune.errors import ArtuneError
from artune.runtime import fence
from artune.runtime.places import REFUSED, passing_over, sync
from artune.runtime.processes import launch
from artune.runtime.progress import say

FILE = ".lease"
EVERY = 10.0  # seconds between heartbeats
MISSED = 12  # missed heartbeats after which a holder counts as dead if nothing else is known of it
LOST = 3  # exit status of a process whose lease another process took
# SLURM's states of a job whose processes have ended; not NODE_FAIL: behind a broken network they may still run.
ENDED = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE"}


@contextlib.contextmanager
def lease(folder: Path, work: str, every: float = EVERY, missed: int = MISSED) -> Iterator[None]:
    """Hold ``folder`` for the length of a ``with`` block; of several processes of one command, only rank 0 does.

    Waits for a holder that is about to end and takes over from a dead one. A process whose lease was taken over (it was
    suspended or cut off) ends at once with status 3, before it can write anything more.

    Args:
        folder: folder of the run; created if it does not exist.
        work: name of the work that is done in the folder, for messages.
        every: seconds between heartbeats.
        missed: heartbeats after which a holder counts as dead.

    Raises:
        ArtuneError: a live process holds the folder, still after a little more than ``every * missed`` seconds.
    """
    if launch().rank != 0:
        yield
        return
    held = Lease(folder, work, every, missed)
    held.acquire()
    fence.hold(held)
    try:
        yield
    finally:
        fence.let_go(held)
        held.release()


def _place() -> str:
    """The scope of process ids: a boot of a machine, and a namespace of processes on it; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""


def _began(pid: int) -> str:
    """When a process started, in ticks since boot, because process ids are reused; empty if none is alive."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # a zombie has ended, though its parent has not noticed
    except (OSError, IndexError):
        return ""


def this_process() -> dict[str, Any]:
    """What tells this process from all others, on any machine: host, id, scope of the id, start."""
    own = os.getpid()
    return {"host": socket.gethostname(), "pid": own, "place": _place(), "began": _began(own),
            "since": time.strftime("%Y-%m-%d %H:%M")}  # fmt: skip


def is_here(process: dict[str, Any]) -> bool:
    """Whether ``process``, see :func:`this_process`, belongs to this boot of this machine and can be looked up."""
    return bool(_place()) and process.get("place") == _place()


def has_ended(process: dict[str, Any]) -> bool:
    """Whether ``process``, see :func:`this_process`, ran here and has ended; if False it may run anywhere."""
    return is_here(process) and _began(process.get("pid", 0)) != process.get("began")


def describe_holder(holder: dict[str, Any]) -> str:
    """``SLURM job 17 on node3 (train since 2026-11-24 14:03)``."""
    who = f"SLURM job {holder['job']}" if holder.get("job") else f"process {holder.get('pid', '?')}"
    return f"{who} on {holder.get('host', '?')} ({holder.get('work', '?')} since {holder.get('since', '?')})"


class Lease:
    """The lease of one process on ``folder``; see :func:`lease`."""

    sweeps = True  # whether a new holder removes the unfinished files of others

    def __init__(self, folder: Path, work: str, every: float, missed: int, **further: str):
        self.path, self.every, self.missed = folder / FILE, every, missed
        self.id, self.beats = uuid.uuid4().hex, 0
        self.own = folder / f"{FILE}-{self.id}"
        holder = {
            "id": self.id, "work": work, "job": os.environ.get("SLURM_JOB_ID"),
            "cluster": os.environ.get("SLURM_CLUSTER_NAME"), **this_process(), **further,
        }  # fmt: skip
        self.head = json.dumps(holder).encode() + b"\n"
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def acquire(self) -> None:
        """Take the lease, if necessary from a dead holder. Raises ArtuneError: see :func:`lease`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.handle = os.open(self.own, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            self._write()
            self._contend()
            if self.sweeps:
                fence.sweep(self.path.parent, self.id)
        except OSError as error:
            raise ArtuneError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        finally:
            with contextlib.suppress(OSError):
                self.own.unlink()  # the lease itself is the other name of this file
        self.thread.start()

    def _contend(self) -> None:
        began = since = asked = time.monotonic()
        seen: bytes | None = None
        said = ended = False
        while not self._link():
            now, raw = time.monotonic(), self._read(self.path)
            if raw != seen:
                seen, since, ended = raw, now, False
            if raw is None:
                continue
            holder, quiet = parse_holder(raw), now - since
            if quiet > 2 * self.every and now - asked > self.every:  # asks late: a job's processes may outlive it
                asked, ended = now, _ended(holder)
            if ended or has_ended(holder) or quiet > self.missed * self.every:
                self._remove(raw)
                continue
            if now - began > self.every * (self.missed + 3):
                end = f"`scancel {holder['job']}`" if holder.get("job") else "end it"
                raise ArtuneError(
                    f"{self.path.parent}: held by {describe_holder(holder)}, which is alive; wait for it or {end}, "
                    "then run again: it continues from the last saved state"
                )
            if not said and now - began > self.every / 2:
                said = True
                say(f"{self.path.parent}: held by {describe_holder(holder)}; waiting for it to end")
            time.sleep(min(1.0, self.every / 5))

    def _link(self) -> bool:
        try:
            os.link(self.own, self.path)
        except FileExistsError:
            return os.stat(self.own).st_nlink == 2  # NFS: the link was made, its answer lost, the call repeated
        except OSError as error:
            if error.errno not in (*REFUSED, errno.EMLINK):
                raise
            return self._create()
        return True

    def _create(self) -> bool:
        """Take the lease on a file system without hard links: the lease is the file of the heartbeats itself."""
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        os.close(self.handle)
        self.handle = handle
        try:
            self._write()  # until then others see an empty lease, which counts as alive
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        return True

    def _write(self) -> None:
        os.pwrite(self.handle, self.head + b"%012d\n" % self.beats, 0)
        sync(self.handle)

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            return path.read_bytes()  # opening asks the server, whereas a cache might answer a stat
        except FileNotFoundError:
            return None

    def _remove(self, raw: bytes) -> None:
        """Remove the lease that was read as ``raw``; another that took its place meanwhile is put back."""
        aside = self.path.with_name(f"{FILE}-{self.id}-aside")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if (self._read(aside) or b"").split(b"\n")[0] != raw.split(b"\n")[0]:
            with contextlib.suppress(FileExistsError):  # a third holder was quicker: the second will notice and end
                with passing_over((*REFUSED, errno.EMLINK)):
                    os.link(aside, self.path)
                    aside.unlink(missing_ok=True)
                if aside.exists() and not self.path.exists():  # no hard links here
                    os.rename(aside, self.path)
        aside.unlink(missing_ok=True)

    def _beat(self) -> None:
        failing = 0
        while not self.stop.wait(self.every):
            try:
                self.beats += 1
                self._write()
                self.check()
                failing = 0
            except OSError:  # the file system hangs or is full, so other processes see no heartbeat either
                failing += 1
                if failing > self.missed:
                    self._end("this process could not renew its lease for too long")

    def check(self) -> None:
        """End this process at once if another one has the lease. Raises OSError: the lease cannot be read."""
        raw = self._read(self.path)
        if raw is None:  # the lease may be missing for an instant: a process puts back one that it removed by mistake
            time.sleep(min(0.2, self.every))
            raw = self._read(self.path)
        if not (raw or b"").startswith(self.head):
            after = (
                f"{describe_holder(parse_holder(raw))} took its place"
                if raw
                else "another took its place and has ended"
            )
            self._end(f"this process was silent for too long and {after}")

    def _end(self, why: str) -> None:
        if not self.stop.is_set():
            say(f"error: {self.path.parent}: {why}; it ends without writing")
            os._exit(LOST)

    def release(self) -> None:
        """Remove the lease, if this process still has it."""
        self.stop.set()
        self.thread.join()
        with contextlib.suppress(OSError):
            if (self._read(self.path) or b"").startswith(self.head):
                self._remove(self.head)
        os.close(self.handle)


def parse_holder(raw: bytes) -> dict[str, Any]:
    """The holder that a lease names; {} if it names none."""
    try:
        value = json.loads(raw.split(b"\n")[0])
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _ended(holder: dict[str, Any]) -> bool:
    """Whether SLURM, if it can be asked, says that the holder's job is over."""
    job = str(holder.get("job") or "")
    if not job.isdigit() or shutil.which("squeue") is None:
        return False
    if holder.get("cluster") != os.environ.get("SLURM_CLUSTER_NAME"):
        return False
    try:
        asked = subprocess.run(
            ["squeue", "-h", "--states=all", "-j", job, "-o", "%T"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.strip() in ENDED or "Invalid job id" in asked.stderr
