"""What Snakemake waits for on a cluster: jobs that SLURM has forgotten, a controller that is away, a closed partition."""

import os
import re
import shutil
import signal

import pytest
from cluster import Cluster
from project import copy_project

pytestmark = pytest.mark.faults
TARGET = "results/smoke/reference.npz"  # made by one short job
LONGEST = 600  # seconds within which Snakemake must notice the end of a job


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    """A cluster that remembers an ended job for a few seconds only, as some sites set it up."""
    cluster = Cluster(tmp_path_factory.mktemp("forgetful") / "cluster", min_job_age=3)
    yield cluster
    cluster.stop()


@pytest.fixture
def project(smoke, tmp_path):
    """A finished project in which one file is missing."""
    folder = copy_project(tmp_path)
    shutil.copytree(smoke / "results", folder / "results", symlinks=True)
    (folder / TARGET).unlink()
    return folder


def started(cluster, project, *options):
    """Start Snakemake; returns its process and the number of its job, which runs."""
    before = {job["JobId"] for job in cluster.jobs()}
    snakemake = cluster.start_snakemake(project, TARGET, *options)

    def running():
        assert snakemake.poll() is None, printed(project)
        mine = [job for job in cluster.jobs("reference") if job["JobId"] not in before]
        return next((job["JobId"] for job in mine if job["JobState"] == "RUNNING"), None)

    return snakemake, cluster.wait_for(running)


def printed(project):
    return (project / "snakemake.txt").read_text()


def known(cluster, job):
    return any(found["JobId"] == job for found in cluster.jobs())


def lines(project, pattern):
    return re.findall(rf"^.*(?:{pattern}).*$", printed(project), re.M)


def test_short_memory(forgetful, project, fault):
    """SLURM forgets a job seconds after its end (`MinJobAge=3`)"""
    snakemake, job = started(forgetful, project)
    assert snakemake.wait(timeout=LONGEST) == 0, printed(project)
    assert (project / TARGET).exists()
    fault.done = "`MinJobAge=3` in slurm.conf; the workflow as always"
    fault.happened = f"Snakemake asked every 10 s and saw the end of job {job}"
    fault.lost = "nothing"


@pytest.mark.parametrize("end", ["succeeds", "is cancelled"])
def test_forgotten(forgetful, project, end, fault):
    """SLURM has forgotten a job before Snakemake, which was suspended, asks again: the job"""
    snakemake, job = started(forgetful, project)
    os.kill(snakemake.pid, signal.SIGSTOP)
    if end == "is cancelled":
        forgetful.run("scancel", job)
    forgetful.wait_for(lambda: not known(forgetful, job), seconds=300)
    os.kill(snakemake.pid, signal.SIGCONT)
    assert snakemake.wait(timeout=LONGEST) == 0, printed(project)
    assert (project / TARGET).exists()
    (line,) = lines(project, f"SLURM no longer knows job {job}.*it counts as")
    word = {"succeeds": "the record of a success", "is cancelled": "no record of its end|the record of a failure"}[end]
    assert re.search(word, line)
    again = len(re.findall("has been submitted with SLURM jobid", printed(project))) - 1
    assert again == (end == "is cancelled")
    fault.fault = f"{fault.fault} {end}"
    fault.done = f"`kill -STOP` of Snakemake until `squeue` no longer listed job {job}, then `kill -CONT`"
    fault.happened = f"“{line.strip()}”{'; it was submitted again' if again else ''}"
    fault.lost = "nothing"


@pytest.mark.parametrize("memory", ["with its memory", "without its memory"])
def test_controller_away(forgetful, project, memory, fault):
    """The SLURM controller is away and comes back"""
    snakemake, job = started(forgetful, project)
    forgets = memory.startswith("without")
    forgetful.end_controller(signal.SIGKILL if forgets else signal.SIGTERM)
    forgetful.wait_for(lambda: "SLURM does not answer" in printed(project), seconds=300)
    forgetful.start_controller(*(["-c"] if forgets else []))

    def over():
        """A controller that meets a job it does not know drains the node: an administrator lets it go on."""
        if "drain" in forgetful.run("sinfo", "-h", "-o", "%T"):
            forgetful.run("scontrol", "update", "NodeName=ALL", "State=RESUME")
        return snakemake.poll() is not None

    forgetful.wait_for(over, seconds=LONGEST)
    assert snakemake.wait() == 0, printed(project)
    assert (project / TARGET).exists()
    assert len(lines(project, "SLURM does not answer")) == 1
    assert len(lines(project, "SLURM answers again")) == 1
    fault.fault = f"{fault.fault} {memory}"
    kill, start = ("-9", " with `-c`") if forgets else ("-TERM", "")
    fault.done = f"`kill {kill}` of slurmctld, which was started again{start} once Snakemake had missed it"
    told = lines(project, f"SLURM no longer knows job {job}.*it counts as")
    fault.happened = "Snakemake said that SLURM did not answer, and went on when it did" + (
        f"; “{told[0].strip()}”" if told else ""
    )
    fault.lost = "nothing"


def test_refused(forgetful, project, fault):
    """SLURM refuses a job because its partition is drained"""
    forgetful.run("scontrol", "update", "PartitionName=a100", "State=DRAIN")
    try:
        snakemake = forgetful.start_snakemake(project, TARGET, "--quiet", "rules")
        forgetful.wait_for(lambda: "not accepted by SLURM" in printed(project), seconds=300)
    finally:
        forgetful.run("scontrol", "update", "PartitionName=a100", "State=UP")
    assert snakemake.wait(timeout=LONGEST) == 0, printed(project)
    assert (project / TARGET).exists()
    (line,) = lines(project, "not accepted by SLURM")
    assert "try 1 of 4; is submitted again in 30 s" in line
    assert re.search("drain|not available", line)
    fault.done = "`scontrol update PartitionName=a100 State=DRAIN`, back to UP after the first refusal; `--quiet rules`"
    fault.happened = f"“{line.strip()}”; the second try was taken (further tries wait 2 and 8 minutes)"
    fault.lost = "nothing"


def test_refused_and_interrupted(forgetful, project, fault):
    """Ctrl-C while Snakemake waits to submit a refused job again"""
    forgetful.run("scontrol", "update", "PartitionName=a100", "State=DRAIN")
    try:
        snakemake = forgetful.start_snakemake(project, TARGET)
        forgetful.wait_for(lambda: "not accepted by SLURM" in printed(project), seconds=300)
        os.kill(snakemake.pid, signal.SIGINT)
        assert snakemake.wait(timeout=25) != 0
    finally:
        forgetful.run("scontrol", "update", "PartitionName=a100", "State=UP")
    assert "Traceback" not in printed(project)
    forgetful.snakemake(project, TARGET)
    assert (project / TARGET).exists()
    fault.done = "SIGINT to Snakemake; then the same command, with the partition open again"
    fault.happened = "Snakemake ended at once and released its lock; the same command made the file"
    fault.lost = "nothing"
