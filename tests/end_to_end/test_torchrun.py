"""Commands in two processes under torchrun: their outputs, and the death of one process."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from project import ROOT, RUN, artune, command, digest, environment
from smoke_training import PRETRAINED, arguments, lines

PROFILE = yaml.safe_load((ROOT / "workflow/profiles/slurm_a100/config.yaml").read_text())
# The options with which the released profile starts a training, for two processes instead of four.
OPTIONS = PROFILE["set-resources"]["train"]["launcher"].replace("node=4", "node=2").split()[1:-1]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", *OPTIONS)


def start(smoke, *command_line, errors=subprocess.PIPE):
    return subprocess.Popen(
        [*TORCHRUN, *command(*command_line)], cwd=smoke, env=environment(smoke),
        stderr=errors, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip


def test_samples_and_features_of_two_processes_are_those_of_one(smoke, tmp_path):
    weights = ["--config", f"{RUN}/config.yaml", "--policy", f"{RUN}/policy.safetensors"]
    weights += ["--tokenizer", f"{PRETRAINED}/vq/tokenizer.safetensors"]
    for name, run in (("one", artune), ("two", start)):
        samples, grid = tmp_path / name / "samples.npz", tmp_path / name / "grid.png"
        done = run(smoke, "sample", *weights, "--output", samples, "--grid", grid, "--log", tmp_path / name / "log")
        text = done.communicate()[1] if name == "two" else done.stderr
        assert done.returncode == 0, text
        assert grid.exists()
        assert not (tmp_path / name / "sampling").exists()
        assert (tmp_path / name / "log").read_text().count("64 images") == 1
    assert digest(tmp_path / "two/samples.npz") == digest(tmp_path / "one/samples.npz")
    networks = ("--networks", "results/smoke/inputs/networks")
    done = start(smoke, "features", "--samples", samples, *networks, "--output", tmp_path / "features.npz")
    assert done.wait() == 0, done.stderr.read()
    found, before = np.load(tmp_path / "features.npz"), np.load(smoke / RUN / "features.npz")
    assert set(found) == set(before)
    # Equal within rounding: the rule may use more threads.
    assert all(np.allclose(found[name], before[name], atol=1e-4) for name in found)


MEET = """
import os, torch
from artune.runtime.distributed import started
with started(torch.device("cpu")) as world:
    print(f"met {world.total({'a': 1.0})} at {os.environ['MASTER_ADDR']}", flush=True)
"""


def test_processes_meet_on_a_machine_whose_name_leads_nowhere():
    other_name = ["unshare", "--uts", "sh", "-c", 'hostname nosuch.invalid && exec "$@"', "sh"]
    if subprocess.run([*other_name, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root may give a process another machine name")
    variables = {name: value for name, value in environment(ROOT).items() if name != "GLOO_SOCKET_IFNAME"}
    done = subprocess.run(
        [*other_name, *TORCHRUN, sys.executable, "-c", MEET], env=variables, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("met {'a': 2.0} at 127.0.0.1") == 2
    assert "Unable to resolve hostname" not in done.stderr


def ranks(launcher):
    """Process ids of the launcher's two processes, by rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            variables = dict(text.partition("=")[::2] for text in (path.parent / "environ").read_text().split("\0"))
        except (OSError, ValueError):  # the process has ended meanwhile
            continue
        if parent == launcher.pid and "RANK" in variables:
            found[int(variables["RANK"])] = int(path.parent.name)
    return found


@pytest.fixture
def training(smoke):
    """A function that starts a long training; processes that are left after the test are killed."""
    folder = smoke / "results/smoke/runs/torchrun"
    folder.mkdir(parents=True)
    spec = yaml.safe_load((smoke / RUN / "config.yaml").read_text())
    spec["grpo"] |= {"iterations": 100_000, "save_every": 1000}
    text = yaml.safe_dump(spec | {"name": "torchrun", "base": "torchrun"}, sort_keys=False)
    (folder / "config.yaml").write_text(text)
    started = []

    def begin(after):
        """Train until ``after`` iterations are logged; returns the run folder and the launcher's process."""
        process = start(smoke, *arguments(folder), "--log", folder / "log", errors=open(folder / "errors", "w"))  # noqa: SIM115
        started.append(process)
        deadline = time.monotonic() + 120
        while lines(folder / "training/metrics.jsonl") < after:
            assert process.poll() is None, (folder / "errors").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return folder, process

    yield begin
    for process in started:
        for pid in (*ranks(process).values(), process.pid):
            if process.poll() is None:
                os.kill(pid, signal.SIGKILL)
        process.wait()
    shutil.rmtree(folder)


def test_a_killed_process_ends_the_job_and_a_stopped_job_goes_on(training):
    folder, process = training(after=3)
    began = time.monotonic()
    os.kill(ranks(process)[1], signal.SIGKILL)
    assert process.wait(90) != 0
    assert time.monotonic() - began < 60
    printed = (folder / "errors").read_text()
    assert "error (rank 0): another process died or did not answer" in printed
    assert "Signal 9 (SIGKILL)" in printed  # torchrun says which process ended
    assert "another process died" in (folder / "log").read_text()
    (state,) = (folder / "training").glob("state-*.pt")  # the survivor saved it, none was scheduled
    saved = int(state.name.split("-")[1])
    assert saved >= 3
    assert lines(folder / "training/metrics.jsonl") == saved

    for name, number in (
        ("SIGTERM", signal.SIGTERM), ("SIGUSR1", signal.SIGUSR1), ("SIGHUP", signal.SIGHUP)
    ):  # fmt: skip
        folder, process = training(after=saved + 2)
        os.kill(process.pid, number)  # torchrun passes it on
        assert process.wait(90) != 0
        saved = lines(folder / "training/metrics.jsonl")
        said = f"stopped: torchrun by {name} after {saved} of 100000 iterations; the state is saved"
        assert (folder / "log").read_text().count(said) == 1
        assert list((folder / "training").glob(f"state-{saved:06d}-*.pt"))
        assert not (folder / "policy.safetensors").exists()
