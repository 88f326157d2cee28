"""GPU hours of a target, compared with the paper's seconds multiplied out by hand."""

import argparse

import pytest
from project import ROOT

from artune.commands.context import Context
from artune.commands.planning import plan as plan_command
from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.planning import floors
from artune.planning.budget import budget, runs_of
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
    assert "160-224" in capsys.readouterr().out  # four trainings of 10-14 hours on four GPUs
    arguments.scale = "mnist"
    with pytest.raises(ArtuneError, match="mnist takes minutes"):
        plan_command(Context(arguments), arguments)


def test_an_embedded_scale_with_measured_seconds_has_its_minutes(capsys):
    names = ("scale", "preset", "seeds", "threads", "device")
    arguments = argparse.Namespace(target="results/table4.csv", costs=None, **dict.fromkeys(names))
    arguments.scale = "fashion"
    line = plan_command(Context(arguments), arguments)
    printed = capsys.readouterr().out
    seconds = Registry("fashion", root=ROOT / "config").about.seconds
    total = seconds.inputs + seconds.prior + 4 * (200 * seconds.iteration + seconds.evaluation)
    assert line == f"results/table4.csv: {total / 60:.0f} minutes of one CPU thread at the fashion scale"
    assert printed.count("train llamagen_l") == printed.count("evaluate llamagen_l") == 4
    arguments.target = "extra_seeds"
    plan_command(Context(arguments), arguments)
    printed = capsys.readouterr().out
    assert [printed.count(f"inputs of {end} ") for end in ("-t1", "-t2", "-n1", "-n2")] == [1, 1, 1, 1]
    assert printed.count("train llamagen_l") == 20
    assert printed.count("prior llamagen_l") == 3  # a set of networks has the plain prior
    arguments.target = "table12"
    plan_command(Context(arguments), arguments)
    assert "not measured" in capsys.readouterr().out  # likelihood training
