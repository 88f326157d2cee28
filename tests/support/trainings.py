"""A training of the smoke scale that tests start, disturb and start again, in processes that have torch loaded already."""

import json
import multiprocessing
import os
import resource
import shutil
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
from artune.tuning import train as _train  # noqa: F401  the server of forks imports it once for all

PRETRAINED = "results/smoke/pretrained"
ITERATIONS = 12
LONG = 40  # iterations of a training under Snakemake: about twenty seconds
SAVED = 10  # of those between two saved states
FORKS = multiprocessing.get_context("forkserver")


def start_server() -> None:
    """Start the process that children are forked from; before Python 3.13 it looks for modules in PYTHONPATH only."""
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
    """In the child: the command line as a shell would start it; what it prints goes to the file ``text``."""
    os.chdir(folder)
    os.environ.update(changes)
    if limit := os.environ.get("ARTUNE_TEST_FILE_LIMIT"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    torch.set_num_threads(1)
    os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    sys.exit(cli.main(argv))


@dataclass
class Done:
    """How a command ended."""

    status: int
    text: str

    @property
    def line(self) -> str:
        """Its last line, a traceback being nowhere."""
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
        """To its end."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "still running"
        text = self.text.read_text(errors="replace")
        self.text.unlink()
        return Done(self.process.exitcode, text)


class Training:
    """A run folder of its own in a finished smoke project: by likelihood, so that it takes a second."""

    def __init__(self, project: Path, name: str, uri: str):
        self.project, self.uri = project, uri
        self.folder = project / "results/smoke/runs" / name
        self.folder.mkdir(parents=True)
        spec = Registry("smoke", root=project / "config").spec("llamagen_l-mle500")
        spec["mle"] = spec["mle"] | {"iterations": ITERATIONS, "save_every": 3}
        # One name for all: the weights' file holds it, and they are compared by their bytes.
        (self.folder / "config.yaml").write_text(yaml.safe_dump(spec | {"name": "disturbed", "base": "disturbed"}))

    @property
    def policy(self) -> Path:
        """Its weights, once it has ended."""
        return self.folder / "policy.safetensors"

    def start(self, *further, **changes: str) -> Command:
        """Begin, or go on."""
        return Command(
            self.project, "train", "--config", self.folder / "config.yaml",
            "--policy", f"{PRETRAINED}/llamagen_l/policy.safetensors",
            "--tokenizer", f"{PRETRAINED}/vq/tokenizer.safetensors", "--codes", f"{PRETRAINED}/vq/codes.npz",
            "--networks", "results/smoke/inputs/networks", "--reference", "results/smoke/reference.npz",
            "--output", self.policy, *further,
            **({"MLFLOW_TRACKING_URI": self.uri} | changes),
        )  # fmt: skip

    def lines(self) -> int:
        """Iterations that are written down."""
        path = self.folder / "training/metrics.jsonl"
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    def stop_at(self, iterations: int, signal: int, **changes: str) -> Done:
        """Start, and send a signal once so many iterations are written down."""
        command = self.start(**changes)
        end = time.monotonic() + 600
        while self.lines() < iterations:
            assert command.process.is_alive(), command.wait().text
            assert time.monotonic() < end
            time.sleep(0.005)
        os.kill(command.process.pid, signal)
        return command.wait()

    def states(self) -> list[Path]:
        """Saved states, the newest last."""
        return sorted((self.folder / "training").glob("state-*.pt"))

    def result(self) -> tuple[str, str]:
        """What must be the same however often it was disturbed."""
        return digest(self.policy), (self.folder / "metrics.jsonl").read_text()

    def resumed_at(self) -> int:
        """Where its last start went on."""
        return json.loads((self.folder / "manifest.json").read_text())["resumed_at"]

    def holder(self) -> int | None:
        """Process that holds the folder."""
        try:
            return json.loads((self.folder / ".lease").read_text().splitlines()[0])["pid"]
        except (OSError, ValueError, LookupError):  # nobody, or not written yet
            return None

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
