"""GPU hours of a target, compared with the paper's seconds multiplied out by hand."""

import argparse
import re
import shutil

import pytest
from project import ROOT

from artune.commands.context import Context
from artune.commands.planning import plan as plan_command
from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.planning import floors
from artune.planning.budget import budget, minutes, runs_of
from artune.planning.costs import Costs, read_costs
from artune.planning.gpu_hours import floor_machine
from artune.planning.plan import Plan

ITERATION = 43.4 + 2.4 + 0.14 + 11.20 + 0.03  # seconds, App. E


@pytest.fixture(scope="module")
def plan():
    return Plan(read_yaml(ROOT / "config/config.yaml") | {"scale": "imagenet"}, ROOT / "config")


@pytest.fixture(scope="module")
def paper():
    return read_costs(ROOT / "config").paper


def test_the_papers_stages_add_up_to_its_57_seconds(paper):
    assert sum(paper.stages.values()) == pytest.approx(ITERATION)
    assert paper.images == 144


def test_table4_is_four_trainings_and_four_evaluations(plan, paper):
    lines = {(line.run, line.work.split()[0]): line for line in budget(plan, paper, "results/table4.csv")}
    assert len(lines) == 8
    assert lines["llamagen_l-ours", "train"].hours == pytest.approx(600 * ITERATION / 3600)
    assert lines["llamagen_l-argrpo", "train"].hours == pytest.approx(600 * (ITERATION - 0.03) / 3600)
    assert lines["llamagen_l-ours", "evaluate"].hours == pytest.approx(50_000 / 144 * 43.4 / 3600)
    assert "maniqa" in lines["llamagen_l-ours-maniqa", "train"].remark  # the paper gives no seconds for MANIQA


def test_the_paper_is_25_trainings_and_35_evaluations(plan):
    trained, evaluated = runs_of(plan, "paper")
    assert len(trained) == 25
    assert len(evaluated) == 35


def test_the_codes_of_table12_are_counted_once_with_the_one_crop_that_its_runs_can_use(plan, paper):
    lines = {line.run: line for line in budget(plan, paper, "table12", floor_machine("A100"))}
    codes = lines["codes of vq"]
    assert codes.work == "encode 1281167 x 1 crops"
    assert codes.ours == pytest.approx(1_281_167 * 256 * floors.ENCODER_FLOPS / 19.5e12 / 3600)
    assert 2.4 < codes.ours < 2.6  # with all twenty crops 50 hours of an A100
    assert [line.run for line in budget(plan, paper, "llamagen_l-mle500")][-1] == "codes of vq"
    assert not any("codes" in line.run for line in budget(plan, paper, "table4"))


def test_passes_over_the_training_images_are_counted(plan, paper):
    classes = budget(plan, paper, "llamagen_l-class_matched", floor_machine("A100"))[-1]
    assert (classes.run, classes.remark) == ("class_moments", "under inception; the paper gives no figure")
    assert classes.ours == pytest.approx(1_281_167 * floors.NETWORK_FLOPS["inception-v3-compat"] / 19.5e12 / 3600)
    release = Plan(read_yaml(ROOT / "config/config.yaml") | {"scale": "imagenet", "preset": "release"}, ROOT / "config")
    found = [line.run for line in budget(release, paper, "table4") if line.run == "train_moments"]
    assert len(found) == 1  # the four runs share them


@pytest.mark.parametrize("target", ["table4", "results/table4.csv", "results/imagenet/tables/table4.csv"])
def test_a_table_has_several_names(plan, target):
    assert len(runs_of(plan, target)[0]) == 4


def test_figures_and_runs_are_targets_too(plan):
    assert runs_of(plan, "results/figure2.pdf") == (["llamagen_l-ours"], [])
    assert runs_of(plan, "results/figure3.pdf") == (["llamagen_l-ours"], [])  # the pretrained run is not trained
    assert runs_of(plan, "results/imagenet/runs/llamagen_l-kl2/scores.json") == (["llamagen_l-kl2"],) * 2
    assert runs_of(plan, "llamagen_b-pretrained") == ([], ["llamagen_b-pretrained"])


def test_the_release_preset_draws_four_times_the_images(paper):
    settings = read_yaml(ROOT / "config/config.yaml") | {"scale": "imagenet", "preset": "release"}
    release = Plan(settings, ROOT / "config")
    line = budget(release, paper, "llamagen_l-ours")[0]
    assert line.hours == pytest.approx(4 * 600 * ITERATION / 3600)


def test_measured_figures_replace_the_papers(plan):
    measured = Costs(device="mine", images=144, stages={"generate": 36.0})
    assert budget(plan, measured, "llamagen_l-clip")[0].hours == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("target", "message"),
    [("table13", "table13: unknown target"), ("results/mnist/tables/table4.csv", "give table4"), ("../x", "unknown")],
)
def test_what_is_no_target_is_one_line(plan, target, message):
    with pytest.raises(ArtuneError, match=message):
        runs_of(plan, target)


def test_the_command_prints_the_sum_and_the_papers_own_statement(capsys):
    names = ("scale", "preset", "seeds", "threads", "device")
    arguments = argparse.Namespace(target="results/table4.csv", costs=None, timetable=False, **dict.fromkeys(names))
    line = plan_command(Context(arguments), arguments)
    assert "trainings 4, evaluations 4, 55 hours of one NVIDIA A100" in line
    printed = capsys.readouterr().out
    assert "160-224 GPU hours for 4 trainings" in printed  # of 10-14 hours on four GPUs
    assert "GPU hours: hours of one NVIDIA A100" in printed  # what each column means
    assert "this code: hours of one H100" in printed
    assert "slices x sequences per update" in printed


def minutes_of(target, scale, capsys):
    """The last line of the command at an embedded scale, and its rows: part -> (minutes, remark)."""
    names = ("scale", "preset", "seeds", "threads", "device")
    arguments = argparse.Namespace(target=target, costs=None, **dict.fromkeys(names))
    arguments.scale = scale
    line = plan_command(Context(arguments), arguments)
    rows = re.findall(r"^(\S.*?) +(\d+\.\d)(?:  (.*))?$", capsys.readouterr().out, re.M)
    return line, {part: (float(taken), remark) for part, taken, remark in rows}


@pytest.mark.parametrize("scale", ["mnist", "fashion"])
def test_an_embedded_scale_has_its_minutes(scale, capsys):
    registry = Registry(scale, root=ROOT / "config")
    seconds, own = registry.about.seconds, "llamagen_l"
    line, rows = minutes_of("results/table4.csv", scale, capsys)
    iterations = registry.resolve("llamagen_l-ours").grpo.iterations
    total = seconds.inputs + seconds.prior[own] + 4 * (iterations * seconds.grpo[own] + seconds.evaluation[own])
    assert line == f"results/table4.csv: {total / 60:.0f} minutes of one CPU thread at the {scale} scale"
    assert len(rows) == 10  # inputs, a prior, four trainings, four evaluations


def test_the_other_methods_are_counted_with_the_backbone_that_they_were_timed_with(capsys):
    registry = Registry("mnist", root=ROOT / "config")
    seconds = registry.about.seconds
    _, rows = minutes_of("table12", "mnist", capsys)
    for run, iterations in (("llamagen_l-mle500", 80), ("llamagen_l-mle5000", 800)):
        assert rows[f"train {run}"][0] == pytest.approx(iterations * seconds.mle["llamagen_l"] / 60, abs=0.05)
    _, rows = minutes_of("table5", "mnist", capsys)
    assert rows["train llamagen_xl-vapi"] == (pytest.approx(100 * seconds.vapi["llamagen_xl"] / 60, abs=0.05), "")
    _, rows = minutes_of("table6", "mnist", capsys)
    assert rows["train vqgan-ours"][1] == "timed with llamagen_l"


def test_a_scale_does_not_inherit_the_seconds_of_the_scale_that_it_extends(capsys):
    with pytest.raises(ArtuneError, match=r"config/scales/smoke.yaml: about.seconds: missing"):
        minutes_of("table4", "smoke", capsys)


def test_seconds_of_an_unknown_backbone_are_named(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config/scales/mnist.yaml"
    text = path.read_text()
    assert "grpo: {llamagen_l: " in text
    path.write_text(text.replace("grpo: {llamagen_l: ", "grpo: {llamagen_x: "))
    plan = Plan(read_yaml(ROOT / "config/config.yaml") | {"scale": "mnist"}, tmp_path / "config")
    with pytest.raises(ArtuneError, match=r"mnist.yaml: about.seconds: unknown backbone 'llamagen_x'; did you mean"):
        minutes(plan, "table4")


def test_further_inputs_are_counted_once_for_each_seed(capsys):
    _, rows = minutes_of("extra_seeds", "fashion", capsys)
    for end in ("-t1", "-t2", "-n1", "-n2"):
        assert rows[f"inputs of {end}"][1] == "at most, as all plain ones"
    assert sum(part.startswith("train llamagen_l") for part in rows) == 20
    assert sum(part.startswith("prior llamagen_l") for part in rows) == 3  # a set of networks has the plain prior
