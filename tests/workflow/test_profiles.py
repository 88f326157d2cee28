"""The profiles are found by name, have the right scale, and explain every entry in a comment."""

import ast
import re

import pytest
import yaml
from project import PROFILES, ROOT, planned, snakemake

from artune.commands.arguments import COMMANDS
from artune.commands.cli import SEVERAL
from artune.planning.slurm import asked

pytestmark = pytest.mark.usefixtures("warm_calls")


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
        for name in re.findall(r"rule (?:\w+ as )?(\w+)(?: with)?:", path.read_text())
    }
    chosen = read(profile)
    assert {*chosen["set-threads"], *chosen["set-resources"]} <= rules


def functions(module):
    """The functions of a module of commands, by name."""
    tree = ast.parse((ROOT / f"src/artune/commands/{module}.py").read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def uses_a_gpu(command):
    """Whether a command, or a function of its module that it calls, asks for the device of ``--device``."""
    known, waiting, seen = functions(COMMANDS[command].module), [command], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for node in ast.walk(known[name]):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("context.device", "context.networks"):
                return True
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known.keys() - seen:
                waiting.append(node.func.id)
    return False


def test_exactly_the_rules_whose_command_uses_a_gpu_get_one_in_both_profiles():
    texts = [path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")]
    blocks = dict(re.findall(r"^ *rule (\w+):(.*?)(?=^ *rule |\Z)", "\n".join(texts), re.M | re.S))
    commands = {rule: re.findall(r"-m artune (\w+)", block) for rule, block in blocks.items()}
    copies = dict(reversed(pair) for pair in re.findall(r"use rule (\w+) as (\w+) with:", "\n".join(texts)))
    assert copies == {"train_with_snapshots": "train"}
    commands |= {copy: commands[rule] for copy, rule in copies.items()}
    assert {"train", "features", "class_moments", "network", "table"} <= commands.keys()
    need = {rule for rule, called in commands.items() if any(map(uses_a_gpu, called))}
    assert {"train", "codes", "reference", "bench"} <= need
    assert not need & {"network", "tokenizer", "pretrained_policy", "external_policy", "evaluate", "compare"}
    for profile, key in (("slurm_a100", "gres"), ("workstation", "gpu")):
        chosen = read(profile)
        assert {rule for rule, wants in chosen["set-resources"].items() if key in wants} == need, profile
        several = {rule for rule, wants in chosen["set-resources"].items() if "launcher" in wants}
        assert {command for rule in several for command in commands[rule]} <= set(SEVERAL)
        assert all("torchrun" not in block or rule in several for rule, block in blocks.items())


@pytest.mark.parametrize("profile", PROFILES)
def test_processes_of_a_job_find_each_other_by_the_loopback(profile):
    launchers = [wants["launcher"] for wants in read(profile)["set-resources"].values() if "launcher" in wants]
    assert launchers
    assert all(" --local-addr=127.0.0.1 " in launcher for launcher in launchers)


def test_the_launcher_is_no_part_of_the_command_that_makes_codes_of_the_small_scales(project):
    output = snakemake(project, "-n", "-p", "--", "results/mnist/pretrained/vq/codes.npz")
    assert "Shell command: python -m artune codes vq --data results/mnist/inputs/data.npz" in output
    output = snakemake(project, "results/table12.csv", "--profile", "slurm_a100", "-n", cores=None)
    assert "--no-python -- python -m artune codes vq" in output


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
