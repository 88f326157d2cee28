"""Faults of a cluster, on a real SLURM with the released profile; each training must end like the undisturbed one."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from cluster import Cluster
from project import RUN, copy_project, digest, four_rows
from trainings import LONG, SAVED

NAME = "llamagen_l-ours"
TARGET = f"{RUN}/policy.safetensors"
TABLE = "results/smoke/tables/table4.csv"
LOST = "nothing: weights and metrics equal those of the undisturbed run, bit for bit, and no finished job ran again"


@pytest.fixture
def project(prepared, tmp_path):
    """A copy of the prepared project, on the cluster's disk."""
    return shutil.copytree(prepared, tmp_path / "project", symlinks=True)


def result(project):
    """Weights and metrics, which must be the same however often the cluster failed."""
    return digest(project / TARGET), (project / RUN / "metrics.jsonl").read_text()


@pytest.fixture(scope="module")
def undisturbed(slurm, prepared, tmp_path_factory):
    project = shutil.copytree(prepared, tmp_path_factory.mktemp("undisturbed") / "project", symlinks=True)
    slurm.snakemake(project, TARGET)
    return result(project)


def inputs(project):
    """Finished files of other jobs, with the times of their last change."""
    return {path: path.stat().st_mtime_ns for path in (project / "results/smoke/inputs").rglob("*") if path.is_file()}


def training(project):
    """Files that the training has written so far, with their contents."""
    return {path: path.read_bytes() for path in (project / RUN / "training").rglob("*") if path.is_file()}


def iterations(project):
    path = project / RUN / "training/metrics.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def started(slurm, project, reach=SAVED + 2, changes="quick"):
    """Start Snakemake; returns its process and the training's job number once ``reach`` iterations are logged."""
    snakemake = slurm.start_snakemake(project, TARGET, changes=changes)

    def there():
        assert snakemake.poll() is None, (project / "snakemake.txt").read_text()
        return iterations(project) >= reach

    slurm.wait_for(there)
    return snakemake, slurm.jobs("train")[-1]["JobId"]


def ends_well(slurm, snakemake, project, undisturbed, before):
    """Wait for Snakemake and check that nothing was lost; returns what it printed."""
    assert snakemake.wait(timeout=900) == 0, (project / "snakemake.txt").read_text()
    assert result(project) == undisturbed
    assert inputs(project) == before
    return (project / "snakemake.txt").read_text()


def named(text):
    """Whether the message names the rule, the run and the log."""
    assert "Error in rule train" in text
    assert NAME in text
    assert f"{RUN}/train.log" in text
    return True


@pytest.mark.faults
def test_job_fails(slurm, project, undisturbed, fault):
    """A job fails"""
    before = inputs(project)
    snakemake, job = started(slurm, project)
    os.kill(ranks(slurm, job)["1"], signal.SIGKILL)
    text = ends_well(slurm, snakemake, project, undisturbed, before)
    assert named(text)
    assert "SLURM status is: 'FAILED'" in text
    assert "Signal 9 (SIGKILL)" in slurm_logs(project)
    fault.done = "`kill -9` of one of the job's two processes"
    fault.happened = (
        f"job {job} FAILED, the message names rule, run and log; submitted again, it resumed {resumed(project)}"
    )
    fault.lost = LOST


def ranks(slurm, job):
    """Process ids of a job's training, by rank."""
    pids = [int(line.split()[0]) for line in slurm.run("scontrol", "listpids", job).splitlines()[1:]]
    return {rank(pid): pid for pid in descendants(pids) if rank(pid) is not None}


def rank(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as handle:
            found = re.search(rb"(?:^|\0)RANK=(\d+)", handle.read())
    except OSError:
        return None
    return found[1].decode() if found else None


def held_until_told(slurm, job):
    """Suspend the training, which would end too soon, until its processes have been sent SIGTERM."""
    pids = ranks(slurm, job).values()
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    slurm.wait_for(lambda: all(told(pid) for pid in pids))
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def told(pid):
    """Whether SIGTERM is pending for a suspended process."""
    with open(f"/proc/{pid}/status") as handle:
        waiting = dict(line.split(":", 1) for line in handle)
    return any(int(waiting[name], 16) >> (signal.SIGTERM - 1) & 1 for name in ("ShdPnd", "SigPnd"))


def saved_when_told(project):
    """Whether the training resumed from the state that it saved on being told to stop, not from a scheduled one."""
    return SAVED < json.loads((project / RUN / "manifest.json").read_text())["resumed_at"] < 2 * SAVED


def descendants(pids):
    """The processes ``pids`` and all their descendants; torchrun starts its workers in sessions of their own."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split()
    children = {}
    for pid, parent in zip(map(int, table[::2]), map(int, table[1::2]), strict=True):
        children.setdefault(parent, []).append(pid)
    found, waiting = [], list(pids)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def resumed(project):
    return f"from iteration {json.loads((project / RUN / 'manifest.json').read_text())['resumed_at']} of {LONG}"


def state(slurm, job):
    return next(found for found in slurm.jobs("train") if found["JobId"] == job)["JobState"]


@pytest.mark.faults
def test_time_limit(slurm, project, undisturbed, fault):
    """A job reaches its time limit"""
    before = inputs(project)
    snakemake, job = started(slurm, project)
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    held_until_told(slurm, job)
    text = ends_well(slurm, snakemake, project, undisturbed, before)
    assert state(slurm, job) == "TIMEOUT"
    assert named(text)
    assert "SLURM status is: 'TIMEOUT'" in text
    assert saved_when_told(project)
    fault.done = f"`scontrol update JobId={job} TimeLimit=1`"
    fault.happened = (
        f"job {job} TIMEOUT, the message names rule, run and log; its processes saved their state on SIGTERM; submitted "
        f"again, it resumed {resumed(project)}"
    )
    fault.lost = LOST


@pytest.mark.faults
def test_warned(slurm, project, undisturbed, fault):
    """SLURM warns a job of its time limit (`--signal` in the profile)"""
    before = inputs(project)
    snakemake, job = started(slurm, project, changes="warned")
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=2")
    held_until_told(slurm, job)
    text = ends_well(slurm, snakemake, project, undisturbed, before)
    assert state(slurm, job) == "FAILED"  # the job ended by itself, before the limit
    assert named(text)
    assert "by SIGTERM after" in slurm_logs(project)
    assert saved_when_told(project)
    fault.done = f"`slurm_extra: --signal=TERM@60`, `scontrol update JobId={job} TimeLimit=2`"
    fault.happened = (
        f"job {job} saved its state and ended before the limit; submitted again, it resumed {resumed(project)}"
    )
    fault.lost = LOST


@pytest.mark.faults
def test_cancelled(slurm, project, undisturbed, fault):
    """A job is cancelled"""
    before = inputs(project)
    snakemake, job = started(slurm, project)
    slurm.run("scancel", job)
    text = ends_well(slurm, snakemake, project, undisturbed, before)
    assert named(text)
    assert "SLURM status is: 'CANCELLED'" in text
    assert saved_when_told(project)
    fault.done = f"`scancel {job}`"
    fault.happened = (
        f"job {job} CANCELLED, the message names rule, run and log; submitted again, it resumed {resumed(project)}"
    )
    fault.lost = LOST


@pytest.mark.faults
def test_requeued(slurm, project, undisturbed, fault):
    """An administrator requeues a job"""
    before = inputs(project)
    snakemake, job = started(slurm, project)
    done = subprocess.run(
        ["scontrol", "requeue", job], env=slurm.environment(project), capture_output=True, text=True, check=False
    )
    ends_well(slurm, snakemake, project, undisturbed, before)
    fault.done = f"`scontrol requeue {job}`"
    refused = "refused: the profile submits with --no-requeue, so that only Snakemake submits a job again"
    fault.happened = refused if done.returncode else f"SLURM started it again and it resumed {resumed(project)}"
    fault.lost = LOST


@pytest.mark.faults
def test_node_down(slurm, project, undisturbed, tmp_path_factory, fault):
    """A node goes down"""
    cluster = Cluster(tmp_path_factory.mktemp("two-nodes") / "cluster", nodes=2)
    try:
        before = inputs(project)
        snakemake, job = started(cluster, project)
        node = next(found for found in cluster.jobs("train") if found["JobId"] == job)["NodeList"]
        daemons = dict(line.split() for line in (cluster.folder / "run/started.pids").read_text().splitlines())
        steps = [int(line.split()[0]) for line in cluster.run("scontrol", "listpids", job).splitlines()[1:]]
        for pid in [*descendants([int(daemons[f"slurmd:{node}"])]), *descendants(steps)]:
            kill(pid)
        for pid in step_daemons(job):
            kill(pid)
        text = ends_well(cluster, snakemake, project, undisturbed, before)
        assert named(text)
        assert "NODE_FAIL" in text
        last = cluster.jobs("train")[-1]
        assert last["NodeList"] != node
        fault.done = f"`kill -9` of slurmd, its step daemons and the job's processes on {node}, one of two nodes"
        fault.happened = f"job {job} NODE_FAIL; submitted again, it resumed {resumed(project)} on {last['NodeList']}"
        fault.lost = LOST
    finally:
        cluster.stop()


@pytest.mark.faults
def test_orphan_beside_successor(slurm, project, undisturbed, tmp_path_factory, fault):
    """An orphaned job and the job submitted in its place run at the same time, on two nodes"""
    cluster = Cluster(tmp_path_factory.mktemp("orphan") / "cluster", nodes=2)
    try:
        before = inputs(project)
        snakemake, job = started(cluster, project)
        os.killpg(snakemake.pid, signal.SIGKILL)
        snakemake.wait()
        orphan = ranks(cluster, job).values()
        for pid in orphan:  # without a pause it would end too soon
            os.kill(pid, signal.SIGSTOP)
        suspended = training(project)
        again = cluster.start_snakemake(project, TARGET)
        cluster.wait_for(lambda: f"held by SLURM job {job} on" in slurm_logs(project), seconds=90)
        trainings = {found["JobId"]: found for found in cluster.jobs("train")}
        second = max(trainings, key=int)
        assert second != job
        assert {trainings[own]["JobState"] for own in (job, second)} == {"RUNNING"}
        assert trainings[job]["NodeList"] != trainings[second]["NodeList"]
        assert training(project) == suspended
        written = iterations(project)
        for pid in orphan:
            os.kill(pid, signal.SIGCONT)
        ends_well(cluster, again, project, undisturbed, before)
        assert "outputs restored" in slurm_logs(project)
        assert json.loads((project / RUN / "manifest.json").read_text())["resumed_at"] == 0
        fault.done = (
            "`kill -9` of Snakemake, `kill -STOP` of the orphan, the same command with a second node "
            "free, `kill -CONT` once the second job had started"
        )
        fault.happened = (
            f"job {second} ran beside job {job} (at iteration {written} of {LONG}), said that job {job} held the run, "
            "waited and did not touch that training; when the orphan had finished, its outputs were restored for the "
            "second job"
        )
        fault.lost = LOST
    finally:
        cluster.stop()


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def step_daemons(job):
    table = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    return [int(line.split()[0]) for line in table if re.search(rf"slurmstepd: \[{job}\.", line)]


@pytest.mark.faults
def test_snakemake_killed(slurm, project, undisturbed, fault):
    """Snakemake is killed, its job continues as an orphan, and Snakemake is started again"""
    before = inputs(project)
    snakemake, job = started(slurm, project)
    os.killpg(snakemake.pid, signal.SIGKILL)
    snakemake.wait()
    again = slurm.start_snakemake(project, TABLE)
    assert "was killed; its lock is removed" in ends_well(slurm, again, project, undisturbed, before)
    assert four_rows(project / TABLE)
    second = slurm.jobs("train")[-1]["JobId"]
    assert second != job
    held = slurm_logs(project)
    assert f"held by SLURM job {job} on" in held or "outputs restored" in held
    fault.done = f"`kill -9` of Snakemake while job {job} trained; the same command"
    # The orphan has all four GPUs of the only node: the next job starts when the orphan has ended.
    waited = (
        f"said that job {job} held the run and waited" if "held by" in held else f"started after job {job} had ended"
    )
    given = (
        "the orphan's outputs were restored for it" if "outputs restored" in held else f"it resumed {resumed(project)}"
    )
    fault.happened = f"job {second} {waited}; {given}; Table 4 was made"
    fault.lost = LOST


def slurm_logs(project):
    return "\n".join(path.read_text(errors="replace") for path in (project / ".snakemake/slurm_logs").rglob("*.log"))


@pytest.mark.faults
def test_recipe(slurm, project, undisturbed, fault):
    """Snakemake is killed, and the orphans are cancelled before it is started again, as docs/cluster.md says"""
    before = inputs(project)
    snakemake, job = started(slurm, project)
    os.killpg(snakemake.pid, signal.SIGKILL)
    snakemake.wait()
    recipe = "scancel --name $(grep -h 'SLURM run ID' .snakemake/log/*.log | tail -1 | awk '{print $4}')"
    subprocess.run(["bash", "-c", recipe], cwd=project, env=slurm.environment(project), check=True)
    again = slurm.start_snakemake(project, TARGET)
    ends_well(slurm, again, project, undisturbed, before)
    assert saved_when_told(project)
    fault.done = f"`kill -9` of Snakemake while job {job} trained; `scancel --name RUN_ID`; the same command"
    fault.happened = f"the cancelled job saved its state, and the next job resumed {resumed(project)}"
    fault.lost = LOST


@pytest.mark.faults
def test_ctrl_c(slurm, project, undisturbed, fault):
    """Snakemake is interrupted with Ctrl-C"""
    before = inputs(project)
    snakemake, job = started(slurm, project)
    os.kill(snakemake.pid, signal.SIGINT)
    assert snakemake.wait(timeout=300) != 0
    slurm.wait_for(lambda: next(found for found in slurm.jobs() if found["JobId"] == job)["JobState"] == "CANCELLED")
    again = slurm.start_snakemake(project, TARGET)
    ends_well(slurm, again, project, undisturbed, before)
    fault.done = "SIGINT to Snakemake, then the same command"
    fault.happened = f"Snakemake cancelled job {job} and released its lock; the next job resumed {resumed(project)}"
    fault.lost = LOST


@pytest.mark.faults
def test_controller_restarts(slurm, project, undisturbed, fault):
    """The SLURM controller is down for a while"""
    before = inputs(project)
    snakemake, job = started(slurm, project)
    slurm.end_controller()
    time.sleep(10)
    slurm.start_controller()
    ends_well(slurm, snakemake, project, undisturbed, before)
    fault.done = "`kill -9` of slurmctld, which was started again after 10 s"
    fault.happened = f"job {job} and Snakemake continued"
    fault.lost = LOST


@pytest.mark.faults
def test_two_snakemakes(slurm, project, undisturbed, fault):
    """Two users call Snakemake in one results folder"""
    before = inputs(project)
    snakemake, _ = started(slurm, project)
    first = (project / "snakemake.txt").rename(project / "first.txt")
    second = slurm.snakemake(project, TARGET, check=False)
    assert "LockException" in second
    assert snakemake.wait(timeout=900) == 0, first.read_text()
    assert result(project) == undisturbed
    assert inputs(project) == before
    fault.done = "the same command twice at once"
    fault.happened = "the second ended with Snakemake's message about its lock; the first was not disturbed"
    fault.lost = LOST


@pytest.mark.faults
def test_table4(slurm, smoke, tmp_path, fault):
    """Table 4 is made from scratch on the cluster"""
    project = copy_project(tmp_path)
    before = len(slurm.jobs()), len(slurm.jobs("train"))  # the scheduler remembers jobs for a day
    slurm.snakemake(project, "results/table4.csv", changes="profile")
    assert four_rows(project / "results/table4.csv")
    jobs, trainings = len(slurm.jobs()) - before[0], len(slurm.jobs("train")) - before[1]
    assert trainings == 4
    fault.done = "`snakemake results/table4.csv --profile slurm_a100` in a fresh copy, at the smoke scale"
    fault.happened = f"finished by {jobs} SLURM jobs, {trainings} of them trainings with four processes on four GPUs"
    fault.lost = "nothing"
