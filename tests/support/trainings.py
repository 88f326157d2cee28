"""A training at the smoke scale that tests start, disturb and start again, in processes with torch already loaded."""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import torch
import yaml
from project import digest

from artune.commands import cli
from artune.config.registry import Registry
from artune.tuning import train as _train  # noqa: F401  the fork server imports it once for all children

PRETRAINED = "results/smoke/pretrained"
ITERATIONS = 12
EVERY = 3  # iterations between two saved states
LONG = 40  # iterations of a training under Snakemake, which takes about twenty seconds
SAVED = 10  # iterations between two saved states of that training
FORKS = multiprocessing.get_context("forkserver")


def start_server() -> None:
    """Start the process from which children fork; before Python 3.13 it finds modules through PYTHONPATH only."""
    kept = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    FORKS.set_forkserver_preload(
        ["artune.tuning.train", "artune.commands.tuning", "mlflow", "matplotlib.pyplot", "trainings"]
    )
    forkserver.ensure_running()
    if kept is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = kept


def _command(folder: str, text: str, changes: dict[str, str], argv: list[str]) -> None:
    """Called in the child: run the command line as a shell would; its stderr goes to the file ``text``."""
    os.chdir(folder)
    os.environ.update(changes)
    nohup = os.environ.get("ARTUNE_TEST_NOHUP")  # the tests themselves may run under nohup
    signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    if limit := os.environ.get("ARTUNE_TEST_FILE_LIMIT"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    torch.set_num_threads(1)
    os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    sys.exit(cli.main(argv))


@dataclass
class Done:
    """Exit status and stderr of a command."""

    status: int
    text: str

    @property
    def line(self) -> str:
        """The last line of stderr, in which no traceback may be."""
        assert "Traceback" not in self.text, self.text
        return self.text.strip().splitlines()[-1] if self.text.strip() else ""


class Command:
    """A running command."""

    def __init__(self, folder: Path, *argv, **changes: str):
        self.text = folder / f".stderr-{time.monotonic_ns()}"
        arguments = [*map(str, argv), "--scale", "smoke", "--threads", "1", "--device", "cpu"]
        start_server()
        self.process = FORKS.Process(target=_command, args=(str(folder), str(self.text), changes, arguments))
        self.process.start()

    def wait(self, seconds: float = 600) -> Done:
        """Wait for the end of the command."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "still running"
        text = self.text.read_text(errors="replace")
        self.text.unlink()
        return Done(self.process.exitcode, text)


class Training:
    """A run folder of its own in a finished smoke project; it trains by maximum likelihood, which takes a second."""

    def __init__(self, project: Path, name: str, uri: str):
        self.project, self.uri = project, uri
        self.folder = project / "results/smoke/runs" / name
        self.folder.mkdir(parents=True)
        spec = Registry("smoke", root=project / "config").spec("llamagen_l-mle500")
        spec["mle"] = spec["mle"] | {"iterations": ITERATIONS, "save_every": EVERY}
        # All trainings have one name: the file of weights contains it, and these files are compared byte for byte.
        (self.folder / "config.yaml").write_text(yaml.safe_dump(spec | {"name": "disturbed", "base": "disturbed"}))

    @property
    def policy(self) -> Path:
        """File of the weights, which exists once the training has ended."""
        return self.folder / "policy.safetensors"

    def words(self) -> list[str | Path]:
        """The words of the training's command."""
        return [
            "train", "--config", self.folder / "config.yaml",
            "--policy", f"{PRETRAINED}/llamagen_l/policy.safetensors",
            "--tokenizer", f"{PRETRAINED}/vq/tokenizer.safetensors", "--codes", f"{PRETRAINED}/vq/codes.npz",
            "--networks", "results/smoke/inputs/networks", "--reference", "results/smoke/reference.npz",
            "--output", self.policy,
        ]  # fmt: skip

    def start(self, *further, **changes: str) -> Command:
        """Start or resume the training."""
        return Command(self.project, *self.words(), *further, **({"MLFLOW_TRACKING_URI": self.uri} | changes))

    def lines(self) -> int:
        """Number of iterations that are logged."""
        path = self.folder / "training/metrics.jsonl"
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    def stop_at(self, iterations: int, number: int, **changes: str) -> Done:
        """Start the training and send a signal once ``iterations`` iterations are logged and their states written."""
        command = self.start(**changes)
        end = time.monotonic() + 600
        while self.lines() < iterations or self.saved() < iterations // EVERY * EVERY:
            assert command.process.is_alive(), command.wait().text
            assert time.monotonic() < end
            time.sleep(0.005)
        os.kill(command.process.pid, number)
        return command.wait()

    def states(self) -> list[Path]:
        """Saved states, the newest last."""
        return sorted((self.folder / "training").glob("state-*.pt"))

    def saved(self) -> int:
        """Iteration of the newest saved state, which is written while the next iterations run; 0 without one."""
        return max((int(path.name.split("-")[1]) for path in self.states()), default=0)

    def result(self) -> tuple[str, str]:
        """Weights and metrics, which must be the same however often the training was disturbed."""
        return digest(self.policy), (self.folder / "metrics.jsonl").read_text()

    def resumed_at(self) -> int:
        """Iteration from which the last start resumed."""
        return json.loads((self.folder / "manifest.json").read_text())["resumed_at"]

    def holder(self) -> int | None:
        """Id of the process that holds the run folder's lease, None if there is none."""
        try:
            return json.loads((self.folder / ".lease").read_text().splitlines()[0])["pid"]
        except (OSError, ValueError, LookupError):  # no process holds the lease, or it is not written yet
            return None

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
