"""The profiles are found by name, have the right scale, and explain every entry in a comment."""

import re

import pytest
import yaml
from project import PROFILES, ROOT, planned, snakemake

from artune.planning.slurm import asked


def read(profile):
    return yaml.safe_load((ROOT / "workflow/profiles" / profile / "config.yaml").read_text())


def jobs(output, rule):
    """The lines of a dry-run that describe each job of a rule."""
    return re.findall(rf"^rule {rule}:\n(.*?)\n\n", output, re.M | re.S)


def test_table4_on_the_cluster_is_four_trainings_of_four_gpus_in_one_task(project):
    output = snakemake(project, "results/table4.csv", "--profile", "slurm_a100", "-n", cores=None)
    trainings = jobs(output, "train")
    assert len(trainings) == 4
    for job in trainings:
        assert "scale=imagenet" in job
        assert "gres=gpu:a100:4" in job
        assert "torchrun --standalone --nproc_per_node=4 --shutdown-timeout=300" in job
        assert "SIGUSR1 --no-python -- python -m artune train" in job
        assert "slurm_extra=--signal=TERM@300" in job
        for never in ("tasks=", "mpi=", " gpu=", "nodes="):  # four tasks would start torchrun four times
            assert never not in job
    assert "gres" not in jobs(output, "evaluate")[0]


def test_a_workstation_queues_its_gpu_jobs_one_at_a_time(project):
    output = snakemake(project, "results/table4.csv", "--profile", "workstation", "-n", cores=None)
    assert all(" gpu=1" in job and "nproc_per_node=gpu" in job for job in jobs(output, "train"))
    assert " gpu=" not in jobs(output, "evaluate")[0]
    assert read("workstation")["resources"] == ["gpu=1"]


def test_the_command_line_wins_over_the_profiles_scale(project):
    arguments = ("results/table4.csv", "--profile", "slurm_a100", "-n", "--quiet", "rules", "--config")
    assert "asset" not in planned(snakemake(project, *arguments, "scale=mnist", cores=None))
    counts = planned(snakemake(project, *arguments, "seeds=2", cores=None))
    assert counts["train"] == 8
    assert counts["asset"] > 0  # the scale is still imagenet


def test_partition_and_account_stand_in_one_place():
    text = (ROOT / "workflow/profiles/slurm_a100/config.yaml").read_text()
    assert len(re.findall(r"^ *slurm_partition:", text, re.M)) == 1
    assert len(re.findall(r"^ *slurm_account:", text, re.M)) == 1
    others = [path for path in (ROOT / "workflow").rglob("*.smk") if "slurm" in path.read_text()]
    assert not others  # the rules depend on no cluster


@pytest.mark.parametrize("profile", PROFILES)
def test_every_entry_of_a_profile_says_why(profile):
    lines = (ROOT / "workflow/profiles" / profile / "config.yaml").read_text().splitlines()
    bare = [line for line in lines if re.match(r"\w[\w-]*:", line) and "#" not in line]
    assert bare == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_rule_of_a_profile_exists(profile):
    rules = {
        name
        for path in (ROOT / "workflow/rules").glob("*.smk")
        for name in re.findall(r"rule (\w+):", path.read_text())
    }
    chosen = read(profile)
    assert {*chosen["set-threads"], *chosen["set-resources"]} <= rules


def test_code_and_environment_never_retrain_on_gpus():
    assert all(read(profile)["rerun-triggers"] == ["mtime", "params", "input"] for profile in PROFILES)


def test_no_job_asks_for_more_than_a_node_of_four_gpus_has():
    for rule, wants in asked(read("slurm_a100")).items():
        assert sum(wants["gres"].values()) <= 4, rule
        assert wants["threads"] <= 32, rule
        assert wants["mem_mb"] <= 256000, rule


@pytest.mark.parametrize(("scale", "first"), [("mnist", 2), ("imagenet", 0)])
def test_the_longest_chain_goes_first_and_trainings_only_where_they_take_a_minute(project, scale, first):
    output = snakemake(project, "-n", "--config", f"scale={scale}", "--", "results/table4.csv")
    wanted = {"run_config": 4, "tokenizer": 3, "pretrained_policy": 3, "train": first, "network": 0, "sample": 0}
    for rule, priority in wanted.items():
        blocks = re.findall(rf"^rule {rule}:\n((?:    .*\n)+)", output, re.M)
        found = [re.findall(r"priority: (\d+)", block) for block in blocks]
        assert set(map(tuple, found)) == {(str(priority),) if priority else ()}, rule
