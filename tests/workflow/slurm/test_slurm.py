"""Jobs that a real SLURM accepts, stores and runs, with the released profile and simulated GPUs."""

import re
import subprocess
import sys

import pytest
from project import copy_project

from artune.config.yaml_layers import read_yaml
from artune.planning.plan import Plan

RUN = "llamagen_l-ours"


@pytest.fixture
def imagenet(tmp_path):
    """A project at the imagenet scale in which the inputs of the training exist as empty files."""
    folder = copy_project(tmp_path)
    plan = Plan(read_yaml(folder / "config/config.yaml") | {"scale": "imagenet"}, folder / "config")
    files = plan.train(RUN)
    paths = [*(path for path in files.values() if isinstance(path, str)), *files["networks"]]
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def test_the_doctor_finds_that_the_profile_that_ships_fits_this_cluster(slurm, project):
    done = subprocess.run(
        [sys.executable, "-m", "artune", "doctor", "--scale", "smoke", "--profile", "slurm_a100"],
        cwd=project,
        env=slurm.environment(project),
        capture_output=True,
        text=True,
        check=False,
    )
    said = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert {"packages", "GPU", "memory", "disk", "assets", "tracking", "lock"} < set(said)
    assert (said["SLURM"], said["partition"], said["account"]) == ("ok", "ok", "-")
    assert len(said) == 12, done.stderr


def test_an_imagenet_training_is_one_task_on_four_a100s_and_its_failure_names_rule_run_and_log(slurm, imagenet):
    target = f"results/imagenet/runs/{RUN}/policy.safetensors"
    scale = ("--config", "scale=imagenet", "device=cpu")
    output = slurm.snakemake(
        imagenet, target, "--allowed-rules", "train", "--retries", "0", *scale, check=False, changes="profile"
    )
    assert slurm.jobs("train"), output
    job = slurm.jobs("train")[-1]
    assert job["TresPerNode"] == "gres:gpu:a100:4"
    assert (job["NumTasks"], job["NumNodes"], job["NumCPUs"]) == ("1", "1", "16")
    assert job["CPUs/Task"] == "16"
    assert job["MinMemoryNode"] in ("200000M", "190735M")  # given in MB or in MiB
    assert job["TimeLimit"] == "1-00:00:00"
    assert (job["Partition"], job["Account"], job["Requeue"]) == ("a100", "lab", "0")
    assert job["JobState"] == "FAILED"
    assert "Error in rule train" in output
    assert f"results/imagenet/runs/{RUN}/train.log" in output
    # The terminal shows the rule's log.
    assert re.search(r"error \(rank \d\): .*config\.yaml: must hold a mapping", output)
