"""Leases held and contested by real processes, with a heartbeat every few hundredths of a second."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import as_torchrun

from artune.errors import ArtuneError
from artune.runtime import lease as module
from artune.runtime.files import write_text
from artune.runtime.lease import FILE, LOST, lease

EVERY = 0.05
HOLD = """
import sys, time
from pathlib import Path
from artune.runtime.lease import lease
folder, every, missed, seconds = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
with lease(folder, "train", every, missed):
    (folder / "held").touch()
    time.sleep(seconds)
"""
COUNT = """
import sys
from pathlib import Path
from artune.runtime.lease import lease
counter = Path(sys.argv[1]) / "counter"
for _ in range(6):
    with lease(Path(sys.argv[1]), "count", 0.2, 1000):
        counter.write_text(str(int(counter.read_text()) + 1))
"""
# A process that suspends itself just before it checks whether it may write, or just before it renames its file.
LATE = """
import os, signal, sys
from pathlib import Path
from artune.runtime import fence, files
from artune.runtime.lease import lease
module, name = {"look": (fence, "check"), "rename": (os, "replace")}[sys.argv[2]]
real = getattr(module, name)
def stop(*arguments):
    setattr(module, name, real)
    os.kill(os.getpid(), signal.SIGSTOP)
    return real(*arguments)
with lease(Path(sys.argv[1]), "train", 30.0, 1000):
    setattr(module, name, stop)
    files.write_text(Path(sys.argv[1]) / "out", "too late")
"""


def start(code, *arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.fixture
def holder(tmp_path):
    """A function that starts a process which holds the lease of the folder; the process is killed after the test."""
    started = []

    def hold(every=EVERY, missed=1000, seconds=60):
        started.append(start(HOLD, tmp_path, every, missed, seconds))
        while not (tmp_path / "held").exists():
            assert started[-1].poll() is None, started[-1].stderr.read()
            time.sleep(0.01)
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_lease_is_there_for_the_block_and_leaves_nothing(tmp_path):
    with lease(tmp_path / "run", "train", EVERY):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE]
    assert list((tmp_path / "run").iterdir()) == []


def test_of_six_processes_one_at_a_time_is_in_the_folder(tmp_path):
    (tmp_path / "counter").write_text("0")
    processes = [start(COUNT, tmp_path) for _ in range(6)]
    for process in processes:
        assert process.wait(timeout=120) == 0, process.stderr.read()
        process.stderr.close()
    assert (tmp_path / "counter").read_text() == "36"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter"]


def test_a_live_holder_is_named_with_its_slurm_job_and_the_way_to_end_it(tmp_path, holder, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    holder()
    monkeypatch.delenv("SLURM_JOB_ID")
    with (
        pytest.raises(ArtuneError, match=r"held by SLURM job 4711 on .*train since .*alive.*scancel 4711"),
        lease(tmp_path, "train", EVERY, missed=40),  # on a busy machine the holder may miss some heartbeats
    ):
        pass
    assert (tmp_path / FILE).exists()


def test_the_lease_of_a_killed_process_of_this_machine_is_taken_at_once(tmp_path, holder):
    process = holder()
    process.kill()
    process.wait()
    began = time.monotonic()
    with lease(tmp_path, "train", every=30.0):
        pass
    assert time.monotonic() - began < 5


def test_a_number_that_another_process_has_now_does_not_keep_a_dead_holder_alive(tmp_path, holder, monkeypatch):
    process = holder()
    process.kill()
    process.wait()
    real = module._began
    monkeypatch.setattr(module, "_began", lambda pid: "1" if pid == process.pid else real(pid))
    with lease(tmp_path, "train", every=30.0):
        pass


def test_a_silent_holder_of_another_machine_expires_after_its_missed_heartbeats(tmp_path, holder, monkeypatch):
    process = holder()
    process.kill()
    process.wait()
    monkeypatch.setattr(module, "_place", lambda: "another machine")
    began = time.monotonic()
    with lease(tmp_path, "train", EVERY, missed=10):
        assert time.monotonic() - began > 10 * EVERY


def test_the_lease_in_a_copy_of_a_folder_is_waited_out_and_the_holder_in_the_original_keeps_its_own(tmp_path, holder):
    process = holder(seconds=6)
    copy = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-copy"))
    with lease(copy, "train", EVERY, 10):
        assert not list(copy.glob(f"{FILE}-*"))
        assert process.poll() is None
    assert (tmp_path / FILE).exists()
    assert process.wait() == 0


def test_a_holder_whose_job_slurm_has_ended_is_not_waited_for(tmp_path, holder, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    process = holder()
    process.kill()
    process.wait()
    monkeypatch.setattr(module, "_place", lambda: "another machine")
    (tmp_path / "bin").mkdir()
    squeue = tmp_path / "bin/squeue"
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def seconds(state):
        squeue.write_text(f"#!/bin/sh\necho {state}\n")
        squeue.chmod(0o755)
        began = time.monotonic()
        held = module.Lease(tmp_path, "train", 0.1, 30)
        held.acquire()
        held._remove(held.head)  # remove the lease file by hand
        held.stop.set()
        held.thread.join()
        os.close(held.handle)
        return time.monotonic() - began

    kept = (tmp_path / FILE).read_bytes()
    assert seconds("CANCELLED") < 2
    (tmp_path / FILE).write_bytes(kept)
    assert seconds("NODE_FAIL") > 3  # processes on a node without network may still write


def test_a_holder_that_was_suspended_ends_itself_before_it_can_write(tmp_path, holder):
    process = holder(seconds=20)
    process.send_signal(signal.SIGSTOP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "has_ended", lambda holder: False)  # as if the holder ran on another machine
        with lease(tmp_path, "train", EVERY, missed=6):
            process.send_signal(signal.SIGCONT)
            assert process.wait(timeout=20) == LOST
            assert "took its place; it ends without writing" in process.stderr.read()
            assert (tmp_path / FILE).exists()  # the lease of its successor is untouched


@pytest.mark.parametrize("where", ["look", "rename"])
def test_what_a_suspended_holder_was_writing_never_replaces_its_successors(tmp_path, where):
    process = start(LATE, tmp_path, where)  # one heartbeat per 30 s: heartbeats play no part here
    while process.poll() is None and stat(process.pid) != "T":
        time.sleep(0.01)
    assert [path.name for path in tmp_path.glob(".out*")], process.stderr.read()
    with lease(tmp_path, "train", EVERY, missed=6):
        write_text(tmp_path / "out", "the successor's")
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=20) == LOST
        assert "took its place; it ends without writing" in process.stderr.read()
    process.stderr.close()
    assert (tmp_path / "out").read_text() == "the successor's"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def stat(pid):
    """State of a process as one letter (T: stopped)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_lease_that_took_the_place_of_an_expired_one_is_put_back(tmp_path):
    first, second = (module.Lease(tmp_path, "train", 30.0, 3) for _ in range(2))
    first.acquire()
    first._remove(b'{"id": "one that expired"}\n')  # as if read before the first lease existed
    assert (tmp_path / FILE).read_bytes().startswith(first.head)
    first.release()
    second.acquire()
    second.release()


@pytest.mark.parametrize("content", [b"", b"\x00\xff not json"])
def test_a_damaged_lease_is_waited_for_and_then_replaced(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with lease(tmp_path, "train", EVERY, missed=4):
        assert (tmp_path / FILE).read_bytes().startswith(b"{")


def test_only_the_first_of_several_processes_takes_the_lease(tmp_path, monkeypatch):
    for name, value in as_torchrun(rank=1, size=2).items():
        monkeypatch.setenv(name, value)
    with lease(tmp_path, "train", EVERY):
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArtuneError, match="cannot be"), lease(tmp_path / "file/run", "train", EVERY):
        pass
