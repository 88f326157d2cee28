"""Weights that a training keeps on its way (``about.snapshots``), and the runs that are sampled from them (``at``)."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from project import ROOT
from tiny import TINY, Brightness, tiny_policy, tiny_renderer, tiny_run
from trainers import CPU, trainer_of

from artune.config.registry import Registry
from artune.config.run import policy_run
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.models.policies.checkpoint import save_policy
from artune.models.weights.tensor_files import read_metadata
from artune.planning.plan import Plan
from artune.runtime.resume import load_state
from artune.tuning import train as training
from artune.tuning.grpo_trainer import GRPOTrainer

SHARES = (0.25, 0.5)
NAMES = ("25.safetensors", "50.safetensors")
RUN = tiny_run(grpo={"iterations": 8, "save_every": 3})


class Stopped(BaseException):
    """The training is killed."""


@pytest.fixture
def tune(tmp_path, monkeypatch):
    """Train the miniature run in a folder; ``at`` is the iteration before which it is killed."""
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(TINY | {"grpo": TINY["grpo"] | {"iterations": 8, "save_every": 3}})
    )
    save_policy(tmp_path / "policy.safetensors", tiny_policy(RUN))

    def run(name, at=None, shares=SHARES):
        def build(run, policy, inputs, device, world):
            trainer = GRPOTrainer(policy, tiny_renderer(run), [Brightness()], policy_run(run, "x"), [], device)
            step = trainer.step

            def counted(iteration):
                if iteration == at:
                    raise Stopped
                return step(iteration)

            trainer.step = counted
            return trainer

        monkeypatch.setattr(training, "build_trainer", build)
        output = tmp_path / name / "policy.safetensors"
        output.parent.mkdir(exist_ok=True)
        inputs = training.Inputs(tmp_path / "policy.safetensors", tmp_path / "none", {})
        return training.train(tmp_path / "config.yaml", inputs, output, None, CPU, shares=shares)

    run.folder = tmp_path
    return run


def kept(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "snapshots").glob("*"))}


def test_snapshots_are_what_a_training_stopped_there_holds(tune):
    tune("whole")
    found = kept(tune.folder / "whole")
    assert tuple(found) == NAMES
    stopped = trainer_of(RUN)
    for iteration in range(4):
        stopped.step(iteration)
        for name, after in zip(NAMES, (2, 4), strict=True):
            if iteration + 1 == after:
                save_policy(tune.folder / name, stopped.policy, {"run": "tiny", "iterations": str(after)})
    assert {name: (tune.folder / name).read_bytes() for name in NAMES} == found
    assert read_metadata(tune.folder / "whole/snapshots/50.safetensors")["iterations"] == "4"
    assert found[NAMES[1]] != (tune.folder / "whole/policy.safetensors").read_bytes()


def test_a_training_without_shares_keeps_none_and_ends_with_the_same_weights(tune):
    tune("whole")
    tune("plain", shares=())
    assert not (tune.folder / "plain/snapshots").exists()
    both = [(tune.folder / name / "policy.safetensors").read_bytes() for name in ("whole", "plain")]
    assert both[0] == both[1]


@pytest.mark.parametrize("kills", [(3,), (4, 7), (1,), (6,)])
def test_a_killed_training_ends_with_the_same_snapshots(tune, kills):
    tune("whole")
    for at in kills:
        with pytest.raises(Stopped):
            tune("killed", at)
        assert not (tune.folder / "killed/snapshots").exists()  # Snakemake removes the outputs of a job that failed
    line = tune("killed")
    assert "8 iterations" in line
    assert kept(tune.folder / "killed") == kept(tune.folder / "whole")
    assert not (tune.folder / "killed/training").exists()


def test_a_state_that_has_passed_a_missing_snapshot_is_not_resumed(tune, capsys):
    with pytest.raises(Stopped):
        tune("killed", 7)  # the newest state is after 6 iterations
    (tune.folder / "killed/training/25.safetensors").unlink()
    tune("killed")
    assert "weights of the first 6 iterations are missing; the training begins anew" in capsys.readouterr().err
    tune("whole")
    assert kept(tune.folder / "killed") == kept(tune.folder / "whole")


def test_a_state_from_before_snapshots_were_wanted_is_not_resumed(tune):
    with pytest.raises(Stopped):
        tune("killed", 7, shares=())
    tune("killed")
    tune("whole")
    assert kept(tune.folder / "killed") == kept(tune.folder / "whole")


def test_snakemake_may_remove_the_outputs_of_a_finished_training(tune):
    tune("whole")
    before = kept(tune.folder / "whole")
    shutil.rmtree(tune.folder / "whole/snapshots")
    (tune.folder / "whole/policy.safetensors").unlink()
    assert "finished before by this code, outputs restored" in tune("whole")
    assert kept(tune.folder / "whole") == before


def test_the_saved_states_are_those_of_a_training_without_snapshots(tune):
    for name, shares in (("whole", SHARES), ("plain", ())):
        with pytest.raises(Stopped):
            tune(name, 7, shares)
    folders = [tune.folder / name / "training" for name in ("whole", "plain")]
    states = []
    for folder in folders:
        newest = sorted(folder.glob("state-*.pt"))[-1]
        states.append(torch.load(newest, weights_only=True)["trainer"]["policy"])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert load_state(folders[0], "another identity") is None


def plan(scale, root=ROOT / "config", **changes):
    return Plan(read_yaml(root / "config.yaml") | {"scale": scale, **changes}, root)


def test_a_run_with_at_is_sampled_from_the_snapshot_of_its_own_seed():
    chosen = plan("fashion")
    assert chosen.snapshot_runs == ["llamagen_l-argrpo", "llamagen_l-entropy0", "llamagen_l-kl0", "llamagen_l-ours"]
    assert chosen.shares == [0.25, 0.5]
    runs = "results/fashion/runs"
    assert chosen.policy("llamagen_l-ours-at25") == f"{runs}/llamagen_l-ours/snapshots/25.safetensors"
    assert chosen.policy("llamagen_l-ours-at50-s2") == f"{runs}/llamagen_l-ours-s2/snapshots/50.safetensors"
    assert chosen.prior("llamagen_l-ours-at50-s2") == chosen.prior("llamagen_l-ours-s2")
    run = chosen.registry.resolve("llamagen_l-kl0-at25-s1")
    assert (run.policy, run.at, run.seed, run.grpo.beta) == ("llamagen_l-kl0", 0.25, 1, 0.0)


@pytest.mark.parametrize("scale", ["mnist", "imagenet", "smoke"])
def test_where_snapshots_are_off_the_run_is_unavailable_and_says_the_key(scale):
    chosen = plan(scale)
    assert (chosen.snapshot_runs, chosen.shares) == ([], [])
    assert chosen.registry.unavailable("llamagen_l-ours-at25-s1") == "needs about.snapshots"
    with pytest.raises(ArtuneError, match=rf"about: \{{snapshots: true\}} in config/scales/{scale}\.yaml"):
        chosen.policy("llamagen_l-ours-at25")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{base: llamagen_l-ours, at: 0.5}", "at: needs policy"),
        ("{base: llamagen_l-ours, policy: llamagen_l-ours, at: 0.0}", r"at: .*greater than 0"),
        ("{base: llamagen_l-ours, policy: llamagen_l-ours, at: 1.0}", r"at: .*less than 1"),
        ("{base: llamagen_l-ours, policy: llamagen_l-ours, at: half}", "at: "),
        ("{base: llamagen_l-mle500, policy: llamagen_l-mle500, at: 0.5}", "at: llamagen_l-mle500 is of method mle"),
        ("{base: llamagen_l-ours, policy: llamagen_l-pretrained, at: 0.5}", "is of method pretrained; name a run of"),
        ("{base: llamagen_l-ours, policy: llamagen_l-ours-at25, at: 0.5}", "has no policy of its own"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, message):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    (root / "experiments.yaml").write_text(f"{(root / 'experiments.yaml').read_text()}\nllamagen_l-new: {line}\n")
    with pytest.raises(ArtuneError, match=f"config/experiments.yaml: llamagen_l-new: .*{message}"):
        Registry("fashion", root=root).resolve("llamagen_l-new")


def test_every_share_that_a_line_names_is_kept(tmp_path):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    line = "llamagen_l-clip-at7: {base: llamagen_l-clip, policy: llamagen_l-clip, at: 0.07}\n"
    (root / "experiments.yaml").write_text((root / "experiments.yaml").read_text() + line)
    chosen = plan("fashion", root)
    assert chosen.shares == [0.07, 0.25, 0.5]
    assert "llamagen_l-clip" in chosen.snapshot_runs
    assert Path(chosen.policy("llamagen_l-clip-at7")).name == "7.safetensors"
