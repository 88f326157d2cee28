"""Snakemake's lock with a name on it, with a real Snakemake and a workflow of one rule."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from project import environment, heeding_ctrl_c

from artune.runtime import lease

SNAKEFILE = """
from pathlib import Path
from artune.planning.calls.snakemake_lock import guard
from artune.runtime import lease
lease.EVERY, lease.MISSED = 0.2, 5
guard(Path("results/smoke"))
rule slow:
    output: "results/smoke/{name}"
    shell: "echo half > {output}; while [ ! -e go ]; do sleep 0.1; done; echo whole > {output}"
"""


class Call:
    """A call of Snakemake; its output is in a file."""

    number = 0

    def __init__(self, folder, *words):
        Call.number += 1
        self.output = folder / f"said-{Call.number}.txt"
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", "--cores", "1", *words],
                cwd=folder,
                env=environment(folder) | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=heeding_ctrl_c,
            )

    def said(self):
        return self.output.read_text()

    def until(self, there):
        end = time.monotonic() + 120
        while not there():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.05)
        return self

    def ends(self):
        """Exit status; the process is ended if it takes too long."""
        return self.process.wait(timeout=120)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def calls():
    """A function that starts Snakemake; what still runs at the end of the test is killed."""
    started = []

    def call(folder, *words):
        started.append(Call(folder, *words))
        return started[-1]

    yield call
    for one in started:
        if one.process.poll() is None:
            one.kill()


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


def working(calls, folder, name="a"):
    """Snakemake in the midst of the job that makes ``name``."""
    begun = folder / ".snakemake/incomplete"  # Snakemake notes here that the job has begun, just after its beginning
    return calls(folder, f"results/smoke/{name}").until(
        lambda: (
            (folder / "results/smoke" / name).exists()
            and any((folder / ".snakemake/locks").glob("*.holder"))
            and any(path.is_file() for path in begun.rglob("*"))
        )
    )


def signatures(folder):
    return list((folder / ".snakemake/locks").glob("*.holder"))


def from_elsewhere(path):
    """Rewrite a record of a holder, as if the process ran on another machine."""
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | {"place": "another machine", "host": "node3"}), *rest]))


def test_after_a_kill_the_same_command_continues(clone, calls):
    working(calls, clone).kill()
    (clone / "go").touch()
    again = calls(clone, "results/smoke/a")  # neither --unlock nor --rerun-incomplete
    assert again.ends() == 0, again.said()
    assert again.said().count("was killed; its lock is removed") == 1
    assert (clone / "results/smoke/a").read_text() == "whole\n"
    assert not list((clone / ".snakemake/locks").iterdir())
    assert not (clone / "results/smoke/.lease").exists()


def test_the_lock_of_a_suspended_process_is_not_removed(clone, calls):
    first = working(calls, clone)
    os.kill(first.process.pid, signal.SIGSTOP)
    second = calls(clone, "results/smoke/a")
    assert second.ends() != 0
    assert f"Locked by Snakemake (process {first.process.pid} on" in second.said()
    assert "LockException" in second.said()
    third = calls(clone, "--unlock")
    assert third.ends() != 0
    assert f"Not unlocked: Snakemake (process {first.process.pid} on" in third.said()
    assert len(signatures(clone)) == 1
    os.kill(first.process.pid, signal.SIGCONT)
    (clone / "go").touch()
    assert first.ends() == 0, first.said()


def test_the_lock_of_another_machine_is_left_until_the_user_removes_it(clone, calls):
    working(calls, clone).kill()
    (clone / "go").touch()
    from_elsewhere(signatures(clone)[0])
    second = calls(clone, "results/smoke/a")
    assert second.ends() != 0
    assert "on node3" in second.said()
    assert "type `snakemake --unlock`, then the same command" in second.said()
    assert calls(clone, "--unlock").ends() == 0
    third = calls(clone, "results/smoke/a")
    assert third.ends() == 0, third.said()


def test_a_lock_without_a_name_is_left_alone(clone, calls):
    working(calls, clone).kill()
    signatures(clone)[0].unlink()
    second = calls(clone, "results/smoke/a")
    assert second.ends() != 0
    assert "Locked by a Snakemake that left no name" in second.said()


@pytest.mark.parametrize("signed", [True, False])
def test_a_live_lock_that_took_the_files_of_a_dead_one_is_not_removed(clone, calls, signed):
    working(calls, clone).kill()
    for file in (clone / ".snakemake/locks").glob("*.lock"):  # as a user removes them by hand: the name stays
        file.unlink()
    (dead,) = signatures(clone)
    kept, times = dead.read_bytes(), dead.stat()
    dead.unlink()
    first = working(calls, clone)
    if not signed:  # an older version of this workflow leaves no name
        for path in signatures(clone):
            path.unlink()
    dead.write_bytes(kept)
    os.utime(dead, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = calls(clone, "results/smoke/a")
    assert second.ends() != 0
    assert "LockException" in second.said()
    assert list((clone / ".snakemake/locks").glob("*.lock"))
    (clone / "go").touch()
    assert first.ends() == 0, first.said()


def test_the_end_of_one_call_does_not_unlock_another(clone, calls):
    (clone / "results/smoke").mkdir(parents=True)
    (clone / "results/smoke/b").write_text("whole\n")
    first = working(calls, clone)
    assert calls(clone, "results/smoke/b").ends() == 0  # nothing to be done
    third = calls(clone, "results/smoke/a")
    assert third.ends() != 0
    assert "LockException" in third.said()
    assert first.process.poll() is None


HOLDER = """
import sys
from pathlib import Path
from artune.planning.calls.snakemake_lock import hold_results
hold_results(Path("results/smoke"))
print("works", flush=True)
sys.stdin.read()
"""


def held_by(folder):
    try:
        return json.loads((folder / "results/smoke/.lease").read_text().splitlines()[0])["pid"]
    except (OSError, IndexError):
        return None


def test_of_two_calls_of_one_clone_the_second_holds_the_results_when_the_first_ends(tmp_path):
    def start():
        process = subprocess.Popen([sys.executable, "-c", HOLDER], cwd=tmp_path, text=True, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, env=environment(tmp_path) | {"PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
        assert process.stdout.readline() == "works\n"
        return process

    def end(process):
        process.stdin.close()
        assert process.wait(timeout=60) == 0

    first = start()
    second, brief = start(), start()  # neither waits
    assert held_by(tmp_path) == first.pid
    end(brief)  # before its turn
    assert held_by(tmp_path) == first.pid
    end(first)
    until = time.monotonic() + 30
    while held_by(tmp_path) != second.pid:
        assert time.monotonic() < until
        time.sleep(0.05)
    end(second)
    assert list((tmp_path / "results/smoke").iterdir()) == []


def test_unlock_takes_the_leases_of_all_scales_but_none_of_a_live_process_here(clone, calls):
    here = lease.this_process()
    holders = {"smoke": here | {"began": "0"}, "mnist": here | {"place": "another machine"},
               "mnist-release": here | {"pid": 1, "began": "0"}, "imagenet": here}  # fmt: skip
    for name, holder in holders.items():
        (clone / "results" / name).mkdir(parents=True)
        (clone / "results" / name / ".lease").write_text(json.dumps(holder) + "\n000000000000\n")
    unlock = calls(clone, "--unlock")
    assert unlock.ends() == 0, unlock.said()
    assert [path.parent.name for path in (clone / "results").glob("*/.lease")] == ["imagenet"]


def test_a_second_clone_on_the_same_results_waits_and_then_plans(clone, calls, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "Snakefile").write_text(SNAKEFILE)
    (clone / "results").mkdir()
    (other / "results").symlink_to(clone / "results")
    first = working(calls, clone)
    second = calls(other, "results/smoke/a")
    second.until(lambda: f"held by process {first.process.pid}" in second.said())
    os.kill(first.process.pid, signal.SIGSTOP)  # silent, yet alive: it is not overtaken
    time.sleep(3)
    assert second.process.poll() is None
    assert "Building DAG" not in second.said()
    os.kill(first.process.pid, signal.SIGCONT)
    (clone / "go").touch()
    assert first.ends() == 0, first.said()
    assert second.ends() == 0, second.said()
    assert "Nothing to be done" in second.said()


def test_a_second_clone_takes_over_from_a_killed_one_but_not_from_a_silent_one_elsewhere(
    clone, calls, tmp_path_factory
):
    other = tmp_path_factory.mktemp("other")
    (other / "Snakefile").write_text(SNAKEFILE)
    (clone / "results").mkdir()
    (other / "results").symlink_to(clone / "results")
    working(calls, clone).kill()
    (other / "go").touch()
    kept = (clone / "results/smoke/.lease").read_text()
    from_elsewhere(clone / "results/smoke/.lease")
    second = calls(other, "results/smoke/a")
    assert second.ends() != 0
    assert "Traceback" not in second.said()
    assert "on node3" in second.said()
    assert "if it has ended, type `snakemake --unlock`, then the same command" in second.said()
    (clone / "results/smoke/.lease").write_text(kept)
    third = calls(other, "results/smoke/a")
    assert third.ends() == 0, third.said()
