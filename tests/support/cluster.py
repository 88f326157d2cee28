"""A SLURM of our own on the loopback, started and stopped by the scripts in ``workflow/slurm``."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from project import environment, heeding_ctrl_c

SCRIPTS = Path(__file__).parents[1] / "workflow/slurm"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
# The profile that ships, with what a test changes of it laid over: `profile` its clocks, `quick` its jobs' size as
# well, `warned` a warning ahead of the time limit.
CHANGES = {
    name: ("--profile", "slurm_a100", "--workflow-profile", str(SCRIPTS / name))
    for name in ("profile", "quick", "warned")
}


def missing_programs() -> list[str]:
    """What of SLURM is not installed; daemons are often outside a user's PATH."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def free_ports(number: int) -> int:
    """The first of ``number`` neighbouring ports that nobody listens on."""
    for first in range(16800, 60000, 50):
        sockets = [socket.socket() for _ in range(number)]
        try:
            for offset, probe in enumerate(sockets):
                probe.bind(("127.0.0.1", first + offset))
            return first
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()
    raise AssertionError("no free ports")


class Cluster:
    """The cluster and what a user does on it."""

    def __init__(self, folder: Path, nodes: int = 1):
        self.folder = folder
        self.started: list[subprocess.Popen] = []
        first = free_ports(nodes + 2)
        settings = {"NODES": nodes, "CTLD_PORT": first, "SLURMD_PORT": first + 1, "SLURMD_TIMEOUT": 10}
        started = subprocess.run(
            [SCRIPTS / "start-cluster.sh", folder],
            env=os.environ | {key: str(value) for key, value in settings.items()},
            capture_output=True,
            text=True,
            check=False,
        )
        if started.returncode:
            self.stop()
            raise AssertionError(started.stderr)

    def stop(self) -> None:
        """End the daemons, what their jobs left, and a Snakemake that a failed test left."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        subprocess.run([SCRIPTS / "stop-cluster.sh", self.folder], env=os.environ | {"SWEEP": str(self.folder.parent)})

    def environment(self, project: Path) -> dict[str, str]:
        """What a login shell on the cluster has; the sources are the project's own."""
        changes = {"SLURM_CONF": f"{self.folder}/slurm.conf", "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        return environment(project) | changes

    def run(self, *command: str) -> str:
        """Output of a SLURM program."""
        return subprocess.run(
            command, env=self.environment(self.folder), capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def start_snakemake(self, project: Path, *arguments: str, changes: str = "quick") -> subprocess.Popen:
        """Snakemake under the profile that ships, at the smoke scale; its output goes to ``project/snakemake.txt``."""
        with open(project / "snakemake.txt", "w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *CHANGES[changes], *arguments],
                cwd=project,
                env=self.environment(project),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=heeding_ctrl_c,
            )
        self.started.append(process)
        return process

    def snakemake(self, project: Path, *arguments: str, check: bool = True, changes: str = "quick") -> str:
        """As :meth:`start_snakemake`, to its end; returns what it printed."""
        status = self.start_snakemake(project, *arguments, changes=changes).wait(timeout=1200)
        output = (project / "snakemake.txt").read_text()
        if check and status:
            raise AssertionError(output)
        return output

    def jobs(self, rule: str = "") -> list[dict[str, str]]:
        """What the scheduler stored of every job, oldest first; ``rule`` as the plugin wrote it into the comment."""
        blocks = self.run("scontrol", "show", "job", "--oneliner").splitlines()
        found = [dict(part.split("=", 1) for part in block.split() if "=" in part) for block in blocks]
        wanted = [job for job in found if re.match(rf"rule_{rule}", job.get("Comment", ""))]
        return sorted(wanted, key=lambda job: int(job["JobId"]))

    def wait_for(self, what, seconds: float = 600):
        """Poll ``what()`` until it is true; returns that."""
        end = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.3)
        return found
