"""A private SLURM on the loopback interface, started and stopped by the scripts in ``workflow/slurm``."""

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
# The released profile, with the changes that a test lays over it: `profile` shortens waiting times, `quick` also makes
# jobs smaller, `warned` adds a warning ahead of the time limit.
CHANGES = {
    name: ("--profile", "slurm_a100", "--workflow-profile", str(SCRIPTS / name))
    for name in ("profile", "quick", "warned")
}


def missing_programs() -> list[str]:
    """SLURM programs that are not installed; daemons, often outside a user's PATH, are searched in /usr/sbin too."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def free_ports(number: int) -> int:
    """The first of ``number`` consecutive ports that are free."""
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
    """A cluster and the actions of a user on it."""

    def __init__(self, folder: Path, nodes: int = 1, **further: int):
        """Start it. ``further`` are variables of start-cluster.sh, in lower case."""
        self.folder = folder
        self.started: list[subprocess.Popen] = []
        first = free_ports(nodes + 2)
        settings = {"NODES": nodes, "CTLD_PORT": first, "SLURMD_PORT": first + 1, "SLURMD_TIMEOUT": 10}
        settings |= {name.upper(): value for name, value in further.items()}
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
        """End the daemons, and the processes that their jobs or a failed test left behind."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        subprocess.run([SCRIPTS / "stop-cluster.sh", self.folder], env=os.environ | {"SWEEP": str(self.folder.parent)})

    def end_controller(self, number: int = signal.SIGKILL) -> None:
        """End the controller; nodes and jobs go on. It saves what it knows on SIGTERM only."""
        pid = self._pids()["slurmctld"]
        os.kill(int(pid), number)
        self.wait_for(lambda: not Path(f"/proc/{pid}").exists(), seconds=60)

    def start_controller(self, *options: str) -> None:
        """Start the controller again; ``-c`` lets it forget all jobs."""
        old = self._pids()["slurmctld"]
        subprocess.run(
            ["slurmctld", *options, "-f", self.folder / "slurm.conf"],
            env=self.environment(self.folder) | {"PATH": f"{os.environ['PATH']}:/usr/sbin"},
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        file, record = self.folder / "run/slurmctld.pid", self.folder / "run/started.pids"
        self.wait_for(lambda: file.exists() and file.read_text().strip() not in ("", old))
        record.write_text(record.read_text().replace(f"slurmctld {old}", f"slurmctld {file.read_text().strip()}"))

    def _pids(self) -> dict[str, str]:
        return dict(line.split() for line in (self.folder / "run/started.pids").read_text().splitlines())

    def environment(self, project: Path) -> dict[str, str]:
        """The environment of a login shell on the cluster; Python imports the sources of ``project``."""
        changes = {"SLURM_CONF": f"{self.folder}/slurm.conf", "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        return environment(project) | changes

    def run(self, *command: str) -> str:
        """Output of a SLURM program."""
        return subprocess.run(
            command, env=self.environment(self.folder), capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def start_snakemake(self, project: Path, *arguments: str, changes: str = "quick") -> subprocess.Popen:
        """Start Snakemake with the released profile at the smoke scale; its output is in ``project/snakemake.txt``."""
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
        """As :meth:`start_snakemake`, but wait for its end; returns its output."""
        status = self.start_snakemake(project, *arguments, changes=changes).wait(timeout=1200)
        output = (project / "snakemake.txt").read_text()
        if check and status:
            raise AssertionError(output)
        return output

    def jobs(self, rule: str = "") -> list[dict[str, str]]:
        """The scheduler's record of every job of ``rule`` (of all rules if empty), oldest first."""
        blocks = self.run("scontrol", "show", "job", "--oneliner").splitlines()
        found = [dict(part.split("=", 1) for part in block.split() if "=" in part) for block in blocks]
        wanted = [job for job in found if re.match(rf"rule_{rule}", job.get("Comment", ""))]
        return sorted(wanted, key=lambda job: int(job["JobId"]))

    def wait_for(self, what, seconds: float = 600):
        """Poll ``what()`` until its result is true; returns the result."""
        end = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.3)
        return found
