"""Snakemake on one machine is interrupted, killed, or called twice."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from project import RUN, digest, environment, four_rows, heeding_ctrl_c, snakemake
from trainings import SAVED

pytestmark = pytest.mark.faults
SMOKE = ("--rerun-incomplete", "--config", "scale=smoke", "--")
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


def started(project):
    """Start Snakemake; returns its process once its training has logged some iterations."""
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "2", *SMOKE, TARGET],
        cwd=project,
        env=environment(project),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=heeding_ctrl_c,
    )
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
    assert "LockException" in snakemake(project, *SMOKE, TARGET, check=False)
    snakemake(project, "--unlock", *SMOKE, TARGET)
    snakemake(project, *SMOKE, TABLE)
    assert result(project) == undisturbed
    assert four_rows(project / TABLE)
    fault.done = "`kill -9` of the process group; `snakemake --unlock`; then the same command, up to Table 4"
    fault.happened = "first Snakemake's message about its lock; then the training resumed from its last state"
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
    snakemake(project, "--unlock", *SMOKE, TARGET)
    text = snakemake(project, *SMOKE, TARGET)
    assert result(project) == undisturbed
    assert "outputs restored" in text or "Nothing to be done" in text
    fault.done = "`kill -9` of Snakemake only; `snakemake --unlock`; then the same command"
    fault.happened = (
        "Snakemake considered the outputs incomplete and removed them; they were restored without training again"
    )
    fault.lost = LOST


def test_two_at_once(project, undisturbed, fault):
    """Snakemake is called twice in one folder"""
    process = started(project)
    second = snakemake(project, *SMOKE, TARGET, check=False)
    assert "LockException" in second
    assert process.wait(timeout=600) == 0
    assert result(project) == undisturbed
    fault.done = "the same command twice at once"
    fault.happened = "the second ended with Snakemake's message about its lock; the first was not disturbed"
    fault.lost = LOST
