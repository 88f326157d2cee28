"""Snakemake on one machine is interrupted, killed, or called twice."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from project import RUN, copy_project, digest, environment, four_rows, heeding_ctrl_c, snakemake
from trainings import SAVED

pytestmark = pytest.mark.faults
SMOKE = ("--config", "scale=smoke", "--")
TARGET = f"{RUN}/policy.safetensors"
TABLE = "results/smoke/tables/table4.csv"
LOST = "nothing: weights and metrics equal those of the undisturbed run, bit for bit"


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory):
    project = shutil.copytree(prepared, tmp_path_factory.mktemp("alone") / "project", symlinks=True)
    snakemake(project, *SMOKE, TARGET)
    return result(project)


@pytest.fixture
def project(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "project", symlinks=True)


def result(project):
    return digest(project / TARGET), (project / RUN / "metrics.jsonl").read_text()


def call(project, target=TARGET):
    """Start Snakemake; its output is in ``project/snakemake.txt``."""
    with open(project / "snakemake.txt", "w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", *SMOKE, target],
            cwd=project,
            env=environment(project),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=heeding_ctrl_c,
        )


def started(project, target=TARGET):
    """Start Snakemake; returns its process once its training has logged some iterations."""
    process = call(project, target)
    path, end = project / RUN / "training/metrics.jsonl", time.monotonic() + 300
    while not path.exists() or path.read_bytes().count(b"\n") < SAVED + 2:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    return process


def test_ctrl_c(project, undisturbed, fault):
    """Ctrl-C at the terminal"""
    process = started(project)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=120) != 0
    snakemake(project, *SMOKE, TARGET)
    assert result(project) == undisturbed
    fault.done = "SIGINT to Snakemake and its training, as a terminal sends it; then the same command"
    fault.happened = "the lock was released, and the training resumed from its last state"
    fault.lost = LOST


def test_killed(project, undisturbed, fault):
    """Snakemake and its jobs are killed"""
    process = started(project)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    text = snakemake(project, *SMOKE, TABLE)
    assert "was killed; its lock is removed" in text
    assert result(project) == undisturbed
    assert four_rows(project / TABLE)
    fault.done = "`kill -9` of the process group; then the same command, up to Table 4"
    fault.happened = (
        "one line said that the lock of the killed process was removed; the training resumed from its last state"
    )
    fault.lost = LOST


def test_orphan(project, undisturbed, fault):
    """Snakemake alone is killed: its training continues to its end, then Snakemake is started again"""
    process = started(project)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 600
    while not (project / RUN / ".finished/note.json").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    text = snakemake(project, *SMOKE, TARGET)
    assert result(project) == undisturbed
    assert "outputs restored" in text or "Nothing to be done" in text
    fault.done = "`kill -9` of Snakemake only; when its training had ended, the same command"
    fault.happened = (
        "Snakemake considered the outputs incomplete and removed them; they were restored without training again"
    )
    fault.lost = LOST


def test_two_at_once(project, undisturbed, fault):
    """Snakemake is called twice in one folder"""
    process = started(project)
    second = snakemake(project, *SMOKE, TARGET, check=False)
    assert "LockException" in second
    assert f"Locked by Snakemake (process {process.pid} on" in second
    assert process.poll() is None
    assert process.wait(timeout=600) == 0
    assert result(project) == undisturbed
    fault.done = "the same command twice at once"
    fault.happened = "the second ended with Snakemake's message about its lock; the first was not disturbed"
    fault.lost = LOST


def test_unlocked_too_early(project, undisturbed, fault):
    """A user types `snakemake --unlock` while another Snakemake works in the folder"""
    process = started(project)
    text = snakemake(project, "--unlock", *SMOKE, TARGET, check=False)
    assert f"Not unlocked: Snakemake (process {process.pid} on" in text
    assert "LockException" in snakemake(project, *SMOKE, TARGET, check=False)
    assert process.wait(timeout=600) == 0
    assert result(project) == undisturbed
    fault.done = "`snakemake --unlock` during a training, then a second call of Snakemake"
    fault.happened = (
        "refused, because the holder of the lock was alive; the second call ended with the message about the lock"
    )
    fault.lost = LOST


@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_two_clones(project, undisturbed, tmp_path, end, fault):
    """Two clones work on one results folder, and the Snakemake of the first"""
    clone = tmp_path / "clone"
    clone.mkdir()
    copy_project(clone)
    (clone / "config/scales/smoke.yaml").write_bytes((project / "config/scales/smoke.yaml").read_bytes())
    (clone / "results").symlink_to(project / "results")
    (project / TABLE).unlink()
    first = started(project, TABLE)
    second, said = call(clone, TABLE), clone / "snakemake.txt"
    deadline = time.monotonic() + 300
    while f"held by process {first.pid}" not in said.read_text():
        assert second.poll() is None, said.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert first.poll() is None
    if end == "is killed":
        os.killpg(first.pid, signal.SIGKILL)
    assert (first.wait(timeout=900) == 0) == (end == "ends"), (project / "snakemake.txt").read_text()
    assert second.wait(timeout=900) == 0, said.read_text()
    assert result(project) == undisturbed
    assert four_rows(project / TABLE)
    line = next(line for line in said.read_text().splitlines() if "held by" in line)
    assert "waiting for it to end" in line
    assert end != "ends" or "rule train:" not in said.read_text()
    fault.fault = f"{fault.fault} {end}"
    fault.done = "two clones, one with a link to the other's `results/`; the same command in both" + (
        "; `kill -9` of the first and its jobs" if end == "is killed" else ""
    )
    fault.happened = "the second said who held the folder, waited, then " + (
        "resumed the training and made Table 4" if end == "is killed" else "planned, and trained nothing again"
    )
    fault.lost = LOST
